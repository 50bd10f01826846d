# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ASYNC110  (what is waited for happens in another process)
"""TLS on a running vulcand with curl and openssl: SNI, sealed keys, OCSP, client certificates (§13)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import NameOID

from fairlead.testing.etcd import free_ports, real_etcd
from fairlead.tls import server_context
from lb.secret import Box, KeyPair, new_key

from .conftest import Balancer, World

pytestmark = [pytest.mark.integration, pytest.mark.slow]
NOW = datetime.now(UTC)


class Authority:
    """A certificate authority for a test."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        builder = self._builder(name, self.key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.certificate = builder.issuer_name(name).sign(self.key, hashes.SHA256())
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=9))
        )

    def issue(self, *names: str) -> KeyPair:
        """Return a key pair with its chain."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        builder = self._builder(name, key).issuer_name(self.certificate.subject)
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False
        )
        leaf = builder.sign(self.key, hashes.SHA256())
        text = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return KeyPair(text, leaf.public_bytes(serialization.Encoding.PEM) + self.pem)

    async def respond(self, request: web.Request) -> web.Response:
        """Answer an OCSP question: good."""
        asked = ocsp.load_der_ocsp_request(await request.read())
        builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
            asked.issuer_name_hash, asked.issuer_key_hash, asked.serial_number, asked.hash_algorithm,
            ocsp.OCSPCertStatus.GOOD, NOW - timedelta(hours=1), NOW + timedelta(hours=1), None, None,
        )  # fmt: skip
        answer = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, self.certificate).sign(
            self.key, hashes.SHA256()
        )
        return web.Response(body=answer.public_bytes(serialization.Encoding.DER))


async def run(*words: str, stdin: bytes = b"") -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(15):
        out, _ = await process.communicate(stdin)
    return process.returncode or 0, out.decode("utf-8", "replace")


async def subject(port: int, name: str | None) -> str:
    """Return the subject of the certificate that a client of this SNI gets."""
    sni = ("-servername", name) if name else ("-noservername",)
    _, text = await run("openssl", "s_client", "-connect", f"127.0.0.1:{port}", *sni)
    found = [line for line in text.splitlines() if line.startswith("subject=")]
    return found[0].partition("CN")[2].strip(" =") if found else text


async def test_sni_sealed_keys_ocsp_and_client_certificates(tmp_path: Path) -> None:
    authority, seal_key = Authority(), new_key()
    box = Box(seal_key)
    async with real_etcd() as cluster:
        from fairlead.etcd.client import connect
        from fairlead.etcd.options import Options

        async with connect(Options(endpoints=tuple(cluster.endpoints))) as store:
            api = authority.issue("localhost")
            for name, data in (("ca", authority.pem), ("api", api.cert), ("api-key", api.key)):
                (tmp_path / f"{name}.pem").write_bytes(data)
            lb = Balancer(
                tmp_path, cluster.endpoints, "-sealKey", seal_key, "-apiCert", str(tmp_path / "api.pem"),
                "-apiKey", str(tmp_path / "api-key.pem"), "-apiClientCA", str(tmp_path / "ca.pem"),
            )  # fmt: skip
            await lb.start()
            world = World(cluster, store, lb)
            responder = web.AppRunner(_responder(authority))
            try:
                await _check(world, authority, box, responder, tmp_path)
            finally:
                await responder.cleanup()
                await world.session.close()
                await lb.stop(9)
                for one in world.webs:
                    await one.kill()


def _responder(authority: Authority) -> web.Application:
    app = web.Application()
    app.router.add_post("/", authority.respond)
    return app


async def _check(
    world: World, authority: Authority, box: Box, responder: web.AppRunner, where: Path
) -> None:
    await responder.setup()
    https, mutual, ocsp_port = free_ports(3)
    await web.TCPSite(responder, "127.0.0.1", ocsp_port).start()
    ca = where / "ca.pem"
    server = await world.web("s")
    await world.service("b", server, path="/<path:x>")
    a, b = authority.issue("a.example.org", "*.wild.example.org"), authority.issue("b.example.org")
    staple = {"Enabled": True, "Responders": [f"http://127.0.0.1:{ocsp_port}/"]}
    await world.put("hosts/a/host", {"Settings": {"KeyPair": box.seal(a).text(), "OCSP": staple}})
    await world.put("hosts/b/host", {"Settings": {"KeyPair": b.tree(), "Default": True}})
    await world.put("hosts/bad/host", {"Settings": {"KeyPair": {"Key": "eA==", "Cert": "eA=="}}})
    place = {"Network": "tcp", "Address": f"127.0.0.1:{https}"}
    await world.put("listeners/tls", {"Protocol": "https", "Address": place})
    auth = {"CA": authority.pem.decode(), "Required": True}
    place = {"Network": "tcp", "Address": f"127.0.0.1:{mutual}"}
    settings = {"ClientAuth": auth, "TLS": {"MinVersion": "VersionTLS12", "MaxVersion": "VersionTLS12"}}  # fmt: skip
    await world.put("listeners/mtls", {"Protocol": "https", "Address": place, "Settings": settings})

    async with asyncio.timeout(10):
        while "CONNECTED" not in (await run("openssl", "s_client", "-connect", f"127.0.0.1:{mutual}"))[1]:  # fmt: skip
            await asyncio.sleep(0.1)
    assert await subject(https, "a.example.org") == "a.example.org"
    assert await subject(https, "x.wild.example.org") == "a.example.org"
    assert await subject(https, "b.example.org") == "b.example.org"
    assert await subject(https, "unknown.example.org") == "b.example.org"  # the default
    assert await subject(https, None) == "b.example.org"

    def curl(port: int, *more: str) -> tuple[str, ...]:
        name = f"a.example.org:{port}"
        return ("curl", "-sS", "--cacert", str(ca), "--resolve", f"{name}:127.0.0.1", f"https://{name}/", *more)  # fmt: skip

    assert await run(*curl(https)) == (0, "s")
    assert b"X-Forwarded-Proto: https" in server.requests[-1]

    # OCSP: stapled, and verified by openssl
    words = ("openssl", "s_client", "-connect", f"127.0.0.1:{https}", "-status", "-servername")
    async with asyncio.timeout(10):
        while "Cert Status: good" not in (text := (await run(*words, "a.example.org"))[1]):
            await asyncio.sleep(0.2)
    assert "OCSP Response Status: successful" in text
    assert "OCSP response: no response sent" in (await run(*words, "b.example.org"))[1]

    # client certificates
    refused, _ = await run(*curl(mutual))
    assert refused != 0
    pair = authority.issue("client")
    (where / "client.pem").write_bytes(pair.cert + pair.key)
    assert await run(*curl(mutual, "--cert", str(where / "client.pem"))) == (0, "s")
    assert (await run(*curl(mutual, "--cert", str(where / "client.pem"), "--tls13-ciphers", "TLS_AES_128_GCM_SHA256", "--tlsv1.3")))[0] != 0  # fmt: skip

    await _api_by_client_certificate(world, where)
    await _https_to_servers(world, authority, where)

    # a new certificate serves the next handshake; a bad host costs itself only
    renewed = authority.issue("b.example.org", "c.example.org")
    await world.put("hosts/b/host", {"Settings": {"KeyPair": renewed.tree(), "Default": True}})
    async with asyncio.timeout(5):
        while (
            await run(
                "curl", "-sS", "--cacert", str(ca), "--resolve", f"c.example.org:{https}:127.0.0.1",
                f"https://c.example.org:{https}/",
            )
        )[0]:  # fmt: skip
            await asyncio.sleep(0.1)
    state = json.loads((await world.lb.admin("/debug/state"))[1])
    assert "does not load" in json.dumps(state) or "bad" in world.lb.log.read_text()
    # the key is never in the log
    assert base64.b64encode(a.key).decode()[:40] not in world.lb.log.read_text()


async def _api_by_client_certificate(world: World, where: Path) -> None:
    """vctl and curl at an API that asks for certificates (§10, ours)."""
    api = f"https://localhost:{world.lb.api_port}"
    assert (await run("curl", "-sS", "--cacert", str(where / "ca.pem"), f"{api}/v2/hosts"))[0] != 0
    environ = {**os.environ, "VCTL_CACERT": str(where / "ca.pem"), "NO_COLOR": "1"}
    for cert, status in (("", 1), (str(where / "client.pem"), 0)):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "lb.vctl", "--vulcan", api, "host", "ls",
            stdout=asyncio.subprocess.PIPE, env={**environ, "VCTL_CERT": cert},
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode == status, out
    assert b"true" in out  # b is the default host
    words = ("curl", "-sS", "--cacert", str(where / "ca.pem"), "--cert", str(where / "client.pem"))
    _, text = await run(*words, f"{api}/v2/hosts/a?keys=true")
    assert json.loads(text)["Settings"]["KeyPair"]["Key"]  # a known caller may see it


async def _https_to_servers(world: World, authority: Authority, where: Path) -> None:
    """A server that speaks https and insists on a certificate; one whose certificate is nobody's."""
    pair = authority.issue("localhost")
    (where / "server.pem").write_bytes(pair.cert + pair.key)
    both = str(where / "server.pem")
    context = server_context(both, both, str(where / "ca.pem"))

    async def who(request: web.Request) -> web.Response:
        assert request.transport is not None
        return web.Response(text=str(request.transport.get_extra_info("peercert")["subject"]))

    app = web.Application()
    app.router.add_get("/{path:.*}", who)
    runner = web.AppRunner(app)
    await runner.setup()
    (port,) = free_ports(1)
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    try:
        shown = authority.issue("the balancer").tree()
        for name, settings in (
            ("known", {"TLS": {"InsecureSkipVerify": True}, "ClientCert": shown}),
            ("nobody", {"TLS": {"InsecureSkipVerify": True}}),  # shows no certificate
            ("strict", {"ClientCert": shown}),  # the test authority is not the system's
        ):
            await world.put(f"backends/{name}/backend", {"Type": "http", "Settings": settings})
            await world.put(f"backends/{name}/servers/s", {"URL": f"https://localhost:{port}"})
            route = {
                "Type": "http",
                "BackendId": name,
                "Route": f"Path(`/{name}`) && Method(`GET`)",
            }
            await world.put(f"frontends/{name}/frontend", {**route, "Priority": 9})
        async with asyncio.timeout(10):
            while "the balancer" not in (await world.get("/known"))[1]:
                await asyncio.sleep(0.05)
        for name in ("nobody", "strict"):
            assert await world.get(f"/{name}") == (502, "Bad Gateway")
    finally:
        await runner.cleanup()

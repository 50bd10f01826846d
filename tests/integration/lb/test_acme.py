# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ASYNC110  (what is waited for happens in another process)
"""AutoCert on two nodes: one order, http-01 and tls-alpn-01 by the load balancer itself, a sealed key (§13).

The server is one of this file's, which refuses nonces and looks for the challenge itself; and
pebble, Let's Encrypt's own for tests, where `$FAIRLEAD_PEERS` has it.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import os
import shutil
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from dnslib import QTYPE, RR, A
from dnslib.server import BaseResolver, DNSServer

from fairlead.etcd.client import connect
from fairlead.etcd.options import Options
from fairlead.etcd.types import KeyRange
from fairlead.testing.etcd import free_ports, real_etcd
from lb.secret import Box, Sealed, new_key, read

from .conftest import Balancer, World
from .test_tls import NOW, Authority

pytestmark = [pytest.mark.integration, pytest.mark.slow]
NAME = "a.example.org"


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(frozen=True)
class Ports:
    """Where an ACME server looks, on this host."""

    http: int
    alpn: int


KID, MAC = "kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
"""An account with the authority, which it wants where the test is of tls-alpn-01."""


class Server:
    """An ACME server that certifies what answers on one port of this host."""

    def __init__(self, authority: Authority, ports: Ports, external: bool) -> None:
        self.authority = authority
        self.ports = ports
        self.external = external
        self.orders = 0
        self.status = "pending"
        self.chain = ""
        self.contacts: list[Any] = []
        self.refused = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/dir", self._dir)
        app.router.add_head("/nonce", self._nonce)
        app.router.add_post("/{what}", self._call)
        return app

    async def _dir(self, request: web.Request) -> web.Response:
        at = f"https://{request.host}"
        names = {"newNonce": "nonce", "newAccount": "account", "newOrder": "order"}
        told: dict[str, Any] = {name: f"{at}/{path}" for name, path in names.items()}
        return web.json_response({**told, "meta": {"externalAccountRequired": self.external}})

    async def _nonce(self, request: web.Request) -> web.Response:
        return web.Response(headers={"Replay-Nonce": os.urandom(8).hex()})

    async def _call(self, request: web.Request) -> web.Response:
        headers = {"Replay-Nonce": os.urandom(8).hex()}
        if self.refused < 2:
            self.refused += 1
            problem = {"type": "urn:ietf:params:acme:error:badNonce", "detail": "stale"}
            return web.json_response(problem, status=400, headers=headers)
        body = json.loads(await request.read())
        payload = json.loads(unb64(body["payload"]) or b"null")
        protected = json.loads(unb64(body["protected"]))
        assert protected["url"] == str(request.url.with_scheme("https"))
        at, order = f"https://{request.host}", {"status": "pending"}
        match request.match_info["what"]:
            case "account":
                assert protected["jwk"]["crv"] == "P-256"
                self.contacts.append(payload.get("contact"))
                if self.external:
                    bound = payload["externalAccountBinding"]
                    signed = f"{bound['protected']}.{bound['payload']}".encode()
                    assert json.loads(unb64(bound["protected"]))["kid"] == KID
                    assert unb64(bound["signature"]) == hmac.digest(unb64(MAC), signed, "sha256")
                headers["Location"] = f"{at}/account/1"
            case "order":
                self.orders += 1
                self.status, self.chain = "pending", ""
                headers["Location"] = f"{at}/theorder"
            case "authz":
                order = {"status": self.status}
            case "http" | "alpn" as way:
                good = await (self._by_http() if way == "http" else self._by_alpn())
                self.status = "valid" if good else "invalid"
            case "finalize":
                self.chain = self._sign(unb64(payload["csr"]))
            case "certificate":
                return web.Response(text=self.chain, headers=headers)
        if self.status == "valid" and request.match_info["what"] == "theorder":
            order = {"status": "valid" if self.chain else "ready"}
        challenges = [
            {"type": "dns-01", "url": f"{at}/no", "token": "x"},
            {"type": "http-01", "url": f"{at}/http", "token": "the-token"},
            {"type": "tls-alpn-01", "url": f"{at}/alpn", "token": "the-token"},
        ]
        told = {"authorizations": [f"{at}/authz"], "finalize": f"{at}/finalize", "certificate": f"{at}/certificate"}  # fmt: skip
        return web.json_response({**told, **order, "challenges": challenges}, headers=headers)

    async def _by_http(self) -> bool:
        url = f"http://127.0.0.1:{self.ports.http}/.well-known/acme-challenge/the-token"
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(url, headers={"Host": NAME}) as answer,
            ):
                text = await answer.text()
        except aiohttp.ClientConnectionError:
            return False
        return text.startswith("the-token.") and len(text) == 53

    async def _by_alpn(self) -> bool:
        for _ in range(4):  # any worker may be asked
            leaf, spoken, rest = await shaken(self.ports.alpn, "acme-tls/1")
            found = leaf.extensions.get_extension_for_oid(x509.ObjectIdentifier(IDENTIFIER))
            assert (spoken, rest, found.critical) == ("acme-tls/1", b"", True)
            assert common(leaf) == leaf.issuer.rfc4514_string()
            leaf, spoken, _ = await shaken(self.ports.alpn, "h2")
            assert (common(leaf), spoken) == ("CN=default.example.org", "h2")
        return True

    def _sign(self, der: bytes) -> str:
        csr = x509.load_der_x509_csr(der)
        assert csr.is_signature_valid
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)]))
            .issuer_name(self.authority.certificate.subject)
            .public_key(csr.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(hours=1))
            .not_valid_after(NOW + timedelta(days=90))
            .add_extension(names.value, critical=False)
        )
        leaf = builder.sign(self.authority.key, hashes.SHA256())
        return (leaf.public_bytes(serialization.Encoding.PEM) + self.authority.pem).decode()


IDENTIFIER = "1.3.6.1.5.5.7.1.31"


def common(leaf: x509.Certificate) -> str:
    return leaf.subject.rfc4514_string()


Started = tuple[str, Path, Callable[[], int]]
"""The directory's URL, the file of its CA, how many orders there were."""


@asynccontextmanager
async def own(where: Path, looks: Ports, external: bool) -> AsyncIterator[Started]:
    authority = Authority()
    pair = authority.issue("localhost")
    (where / "acme.pem").write_bytes(pair.cert + pair.key)
    (where / "acme-ca.pem").write_bytes(authority.pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(where / "acme.pem")
    server = Server(authority, looks, external)
    runner = web.AppRunner(server.app())
    await runner.setup()
    (port,) = free_ports(1)
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    try:
        yield f"https://localhost:{port}/dir", where / "acme-ca.pem", lambda: server.orders
        assert server.contacts == [["mailto:me@example.org"]]
    finally:
        await runner.cleanup()


class Here(BaseResolver):  # type: ignore[misc]
    def resolve(self, request: Any, handler: Any) -> Any:
        reply = request.reply()
        if request.q.qtype == QTYPE.A:
            reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A("127.0.0.1"), ttl=1))
        return reply


class Quiet:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


@asynccontextmanager
async def pebble(where: Path, looks: Ports, external: bool) -> AsyncIterator[Started]:
    program = shutil.which("pebble", path=os.environ.get("FAIRLEAD_PEERS") or "/nowhere")
    if program is None:
        pytest.skip("pebble is not in $FAIRLEAD_PEERS")
    authority, ports = Authority(), free_ports(3)
    pair = authority.issue("localhost")
    for name, data in (("cert", pair.cert), ("key", pair.key), ("ca", authority.pem)):
        (where / f"pebble-{name}.pem").write_bytes(data)
    settings = {
        "listenAddress": f"127.0.0.1:{ports[0]}", "managementListenAddress": f"127.0.0.1:{ports[1]}",
        "certificate": str(where / "pebble-cert.pem"), "privateKey": str(where / "pebble-key.pem"),
        "httpPort": looks.http, "tlsPort": looks.alpn, "retryAfter": {"authz": 1, "order": 1},
        "externalAccountBindingRequired": external, "externalAccountMACKeys": {KID: MAC} if external else {},
        "profiles": {"default": {"description": "", "validityPeriod": 7776000}},
    }  # fmt: skip
    (where / "pebble.json").write_text(json.dumps({"pebble": settings}))
    log = where / "pebble.log"
    names = DNSServer(Here(), "127.0.0.1", ports[2], tcp=True, logger=Quiet())
    thread = threading.Thread(target=names.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            program, "-config", str(where / "pebble.json"), "-dnsserver", f"127.0.0.1:{ports[2]}",
            env={**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "20"},
            stdout=out, stderr=out,
        )  # fmt: skip
    try:
        async with asyncio.timeout(10):
            while "ACME directory available" not in log.read_text():
                await asyncio.sleep(0.05)
        url = f"https://localhost:{ports[0]}/dir"
        # its log counts refused nonces too, so it only shows that there was an order
        yield url, where / "pebble-ca.pem", lambda: int("POST /order-plz" in log.read_text())
    finally:
        process.kill()
        await process.wait()
        names.server.shutdown()
        names.server.server_close()


@pytest.mark.parametrize("way", ["http", "alpn"])
@pytest.mark.parametrize("server", [own, pebble], ids=["own", "pebble"])
async def test_one_order_serves_every_node(server: Any, way: str, tmp_path: Path) -> None:
    """By http-01; and, where that is refused, by tls-alpn-01, with an external account."""
    seal_key = new_key()
    box = Box(seal_key)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    https, nobody = free_ports(2)
    by_alpn = way == "alpn"
    async with real_etcd() as cluster, connect(Options(tuple(cluster.endpoints))) as store:
        nodes = [Balancer(tmp_path / name, cluster.endpoints) for name in ("one", "two")]
        looks = Ports(nobody if by_alpn else nodes[0].port, https)
        async with server(tmp_path, looks, by_alpn) as (url, ca, orders):
            for node in nodes:
                node.command += ["-sealKey", seal_key, "-acmeCA", str(ca)]
            nodes[0].command += ["-workers", "2"] if by_alpn else []
            await asyncio.gather(*(node.start() for node in nodes))
            world = World(cluster, store, nodes[0])
            try:
                # a route for everything does not shadow the challenge
                await world.put("frontends/f/frontend", {"Type": "http", "BackendId": "b", "Route": "PathRegexp(`.*`)"})  # fmt: skip
                place = {"Network": "tcp", "Address": f"127.0.0.1:{https}"}  # one of them has it
                await world.put("listeners/l", {"Protocol": "https", "Address": place})
                other = {
                    "Default": True,
                    "KeyPair": Authority().issue("default.example.org").tree(),
                }
                await world.put("hosts/default.example.org/host", {"Settings": other})
                words: tuple[str, ...] = (
                    "-autoCert",
                    "-autoCertEmail",
                    "me@example.org",
                    "-autoCertDirectory",
                    url,
                )
                if by_alpn:
                    (tmp_path / "mac").write_text(MAC + "\n")
                    words += ("-autoCertKeyID", KID, "-autoCertMACKeyFile", str(tmp_path / "mac"))
                status, text = await nodes[0].vctl("host", "upsert", "-name", NAME, *words)
                assert (status, text) == (0, "OK: host added\n")
                key = f"/vulcand/autocert_cache/{NAME}".encode()
                async with asyncio.timeout(30):
                    while (kv := await store.get(key)) is None:
                        log = nodes[0].log.read_text() + nodes[1].log.read_text()
                        assert "AutoCert failed" not in log, log
                        await asyncio.sleep(0.1)
                assert orders() == (1 + by_alpn if server is own else 1)
                sealed = read(kv.value.decode())
                assert isinstance(sealed, Sealed)
                assert b"BEGIN PRIVATE KEY" in box.open(sealed).key
                async with asyncio.timeout(10):  # both nodes, without a restart
                    while not all([await offered(node) for node in nodes]):
                        await asyncio.sleep(0.1)
                assert await handshake(https) == NAME
                left = [
                    page async for page in store.pages(KeyRange.prefix(b"/vulcand/autocert_cache/"))
                ]
                names = [kv.key.rpartition(b"/")[2] for page in left for kv in page.kvs]
                assert not [name for name in names if name.endswith((b"+lock", b"-01"))]
                assert (await nodes[0].vctl("host", "rm", "-name", NAME))[0] == 0
                assert await store.get(key) is None  # the key goes with its host
            finally:
                await world.session.close()
                for node in nodes:
                    await node.stop(9)


async def offered(node: Balancer) -> bool:
    """Say whether a node has the certificate."""
    state = json.loads((await node.admin("/debug/state"))[1])
    return NAME in state["state"]["lb"]["hosts"]


async def shaken(port: int, offered: str) -> tuple[x509.Certificate, str, bytes]:
    """Return the certificate and the protocol that a client gets, and what comes after."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([offered])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=NAME
    )
    connection = writer.get_extra_info("ssl_object")
    leaf = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True))
    spoken = str(connection.selected_alpn_protocol())
    async with asyncio.timeout(10):
        rest = b"" if spoken != "acme-tls/1" else await reader.read()
    writer.close()
    return leaf, spoken, rest


async def handshake(port: int) -> str:
    """Return the name in the certificate that a client gets."""
    leaf, _, _ = await shaken(port, "h2")
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return str(found.get_values_for_type(x509.DNSName)[0])

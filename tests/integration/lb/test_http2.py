# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 by TLS to clients, HTTP/2 to servers, and gRPC through both; h2load and nghttp where installed."""

from __future__ import annotations

import asyncio
import datetime
import shutil
import ssl
from pathlib import Path
from typing import Any

import grpclib.client
import grpclib.const
import grpclib.server
import grpclib.utils
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpclib.encoding.base import CodecBase

from lb.policy import BackendPolicy
from lb.state import Frontend, Listener, Pool

from .conftest import Rig, named, pool_of

pytestmark = [pytest.mark.integration]

ANY = Frontend("f", "PathRegexp(`.*`)", "b")


class Certificates:
    """One self-signed certificate for everybody."""

    def __init__(self, where: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        now = datetime.datetime.now(datetime.UTC)
        cert = (
            x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(key, hashes.SHA256())
        )  # fmt: skip
        self.file = where / "pair.pem"
        self.file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            + cert.public_bytes(serialization.Encoding.PEM)
        )  # fmt: skip

    def server(self, listener: Listener) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file)
        return context

    def client(self, pool: Pool | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context


@pytest.fixture
async def secure(rig: Rig, tmp_path: Path) -> tuple[Rig, int]:
    rig.plane.contexts = Certificates(tmp_path)
    return rig, rig.other


def https(port: int) -> Listener:
    return Listener("tls", "tcp", f"127.0.0.1:{port}", tls={})


async def run(*command: str) -> str:
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


async def test_http1_over_tls(secure: tuple[Rig, int]) -> None:
    rig, port = secure
    await rig.apply([ANY], [pool_of(await rig.server(named(b"hello")))], https(port))
    out = await run("curl", "-sk", "--http1.1", f"https://127.0.0.1:{port}/")
    assert out == "hello"


async def test_curl_and_nghttp_speak_http2(secure: tuple[Rig, int]) -> None:
    rig, port = secure
    await rig.apply([ANY], [pool_of(await rig.server(named(b"hello")))], https(port))
    out = await run(
        "curl",
        "-sk",
        "--http2",
        "-w",
        " %{http_version} %{http_code}",
        f"https://127.0.0.1:{port}/",
    )
    assert out == "hello 2 200"
    assert "hello" in await run("nghttp", "-y", f"https://127.0.0.1:{port}/")


async def test_h2load_loses_no_request(secure: tuple[Rig, int]) -> None:
    rig, port = secure
    await rig.apply([ANY], [pool_of(await rig.server(named(b"hello")))], https(port))
    out = await run("h2load", "-n", "2000", "-c", "4", "-m", "16", f"https://127.0.0.1:{port}/")
    assert "2000 succeeded, 0 failed, 0 errored" in out
    assert sum(s.requests for s in rig.plane.pools["b"].servers.values()) == 2000


async def test_a_large_body_over_http2_keeps_to_the_windows(secure: tuple[Rig, int]) -> None:
    rig, port = secure
    size = 5_000_000

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
            await writer.drain()

    await rig.apply([ANY], [pool_of(await rig.server(answer))], https(port))
    out = await run(
        "curl",
        "-sk",
        "--http2",
        "-o",
        "/dev/null",
        "-w",
        "%{size_download}",
        f"https://127.0.0.1:{port}/",
    )
    assert out == str(size)


class Text(CodecBase):
    """Messages that are plain text; a codec of our own saves a protoc run."""

    __content_subtype__ = "text"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return str(message).encode()

    def decode(self, data: bytes, message_type: Any) -> str:
        return data.decode()


class Echo:
    """One method of each kind that matters: one to one, and many to many."""

    async def one(self, stream: Any) -> None:
        message = await stream.recv_message()
        if message == "fail":
            raise grpclib.GRPCError(grpclib.const.Status.NOT_FOUND, "no such thing")
        await stream.send_message(f"got {message}")

    async def many(self, stream: Any) -> None:
        async for message in stream:
            await stream.send_message(f"got {message}")

    def __mapping__(self) -> dict[str, Any]:
        cardinality = grpclib.const.Cardinality
        return {
            "/echo.Echo/One": grpclib.const.Handler(self.one, cardinality.UNARY_UNARY, str, str),
            "/echo.Echo/Many": grpclib.const.Handler(
                self.many, cardinality.STREAM_STREAM, str, str
            ),
        }


async def test_grpc_passes_with_trailers_errors_and_streams(secure: tuple[Rig, int]) -> None:
    rig, port = secure
    service = grpclib.server.Server([Echo()], codec=Text())
    await service.start("127.0.0.1", 0)
    place = service._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    await rig.apply([ANY], [pool_of(place, BackendPolicy(http2=True))], https(port))
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    channel = grpclib.client.Channel("127.0.0.1", port, ssl=context, codec=Text())
    try:
        one = grpclib.client.UnaryUnaryMethod(channel, "/echo.Echo/One", str, str)
        assert await asyncio.gather(*(one(str(i)) for i in range(20))) == [
            f"got {i}" for i in range(20)
        ]
        with pytest.raises(grpclib.GRPCError) as caught:
            await one("fail")
        assert caught.value.status is grpclib.const.Status.NOT_FOUND
        assert caught.value.message == "no such thing"
        many = grpclib.client.StreamStreamMethod(channel, "/echo.Echo/Many", str, str)
        async with many.open() as stream:
            for i in range(5):  # answers come while the request is still open
                await stream.send_message(str(i))
                assert await stream.recv_message() == f"got {i}"
            await stream.end()
            assert await stream.recv_message() is None
        assert await one("x" * 3_000_000) == "got " + "x" * 3_000_000
        assert len(rig.plane.upstreams) == 0
    finally:
        channel.close()
        for live in rig.plane.listeners.values():
            for client in tuple(live.clients):
                client.abort()
        for server in rig.plane.pools["b"].servers.values():
            if server.mux is not None:
                server.mux.transport.abort()
        await asyncio.sleep(0.1)
        service.close()
        await service.wait_closed()
        await asyncio.sleep(0.2)

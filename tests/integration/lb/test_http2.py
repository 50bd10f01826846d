# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 by TLS to clients, HTTP/2 to servers, and gRPC through both; h2load and nghttp where installed."""

from __future__ import annotations

import asyncio
import datetime
import os
import re
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


async def test_h2spec(secure: tuple[Rig, int]) -> None:
    rig, port = secure
    spec = shutil.which("h2spec", path=os.environ.get("FAIRLEAD_PEERS", ""))
    if not spec:
        pytest.skip("h2spec is not in $FAIRLEAD_PEERS")
    await rig.apply([ANY], [pool_of(await rig.server(named(b"hello" * 800)))], https(port))
    out = await run(spec, "-t", "-k", "-p", str(port), "-o", "2")
    assert re.search(r"\b146 passed, 0 skipped, 0 failed", out), out


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


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + body


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
# :method GET, :scheme https, :path /, all of HPACK's static table; :authority a
GET = b"\x82\x87\x84\x01\x01a"
FLOODS = {
    "ping": lambda i: frame(6, 0, 0, bytes(8)),
    "settings": lambda i: frame(4, 0, 0, b""),
    "priority": lambda i: frame(2, 0, 1, bytes((0, 0, 0, 0, i % 200))),
    "an unknown type": lambda i: frame(0xEE, 0, 0, b"x"),
    "rapid reset": lambda i: frame(1, 5, 2 * i + 1, GET) + frame(3, 0, 2 * i + 1, b"\0\0\0\x08"),
    "empty data": lambda i: frame(1, 4, 1, GET) if not i else frame(0, 0, 1, b""),
    "continuation": lambda i: frame(1, 1, 1, GET) if not i else frame(9, 0, 1, b""),
    "headers without end": lambda i: (
        frame(1, 1, 1, GET) if not i else frame(9, 0, 1, b"\x00\x01x\x7f\xe1\x1e" + b"y" * 4000)
    ),
    "window updates": lambda i: frame(8, 0, 0, b"\0\0\0\x01"),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_floods_end_the_connection_and_harm_nobody_else(
    secure: tuple[Rig, int], name: str
) -> None:  # CVE-2019-9512, -9515, -9518, CVE-2023-44487, CVE-2024-27316
    rig, port = secure
    await rig.apply([ANY], [pool_of(await rig.server(named(b"hello")))], https(port))
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(PREFACE)
    ended = asyncio.create_task(reader.read(-1))
    sent = 0
    try:
        async with asyncio.timeout(15):
            while not ended.done() and sent < 20_000:
                writer.write(b"".join(FLOODS[name](i) for i in range(sent, sent + 500)))
                sent += 500
                await writer.drain()
                await asyncio.sleep(0)
            await ended
    except ConnectionError:
        pass
    assert sent < 20_000
    writer.transport.abort()
    assert (await rig.get("/")).endswith(b"hello")


def literal(index: int, value: bytes) -> bytes:
    """A field whose name is in HPACK's static table, not indexed."""
    return bytes((index, len(value))) + value


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"\x82\x87\x84" + literal(1, b"a"), 200),
        (b"\x82\x87" + literal(4, b"http://evil/x") + literal(1, b"a"), 400),
        (b"\x82\x87" + literal(4, b"/ HTTP/1.1\r\nX: y") + literal(1, b"a"), 400),
        (b"\x82\x87" + literal(4, b"*") + literal(1, b"a"), 400),
        (b"\x82\x87\x84" + literal(1, b"a b"), 400),
        (b"\x82\x87\x84" + literal(1, b"a@evil"), 400),
        (b"\x82\x87\x84" + literal(1, b"a") + b"\x00\x05x-sp \x01y", 400),
        (b"\x82\x87\x84" + literal(1, b"a") + b"\x00\x01x\x04a\r\nb", 400),
        (b"\x82\x87\x84" + literal(1, b"a") + b"\x00\x01x\x03a\x00b", 400),
        (literal(2, b"GET / HTTP/1.1\r\nX:") + b"\x87\x84" + literal(1, b"a"), 400),
    ],
)
async def test_what_could_become_two_requests_in_http1_is_refused(
    secure: tuple[Rig, int], fields: bytes, status: int
) -> None:
    rig, port = secure
    await rig.apply([ANY], [pool_of(await rig.server(named(b"hello")))], https(port))
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(PREFACE + frame(1, 5, 1, fields) + frame(6, 0, 0, bytes(8)))
    seen = b""
    async with asyncio.timeout(10):
        while frame(6, 1, 0, bytes(8)) not in seen or (status == 200 and b"hello" not in seen):
            data = await reader.read(65536)
            if not data:
                break
            seen += data
    writer.transport.abort()
    served = sum(server.requests for server in rig.plane.pools["b"].servers.values())
    assert served == (status == 200), seen


async def test_bad_frames_in_the_middle_of_a_response_cost_the_connection_only(
    secure: tuple[Rig, int],
) -> None:
    rig, port = secure
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await go_on.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    faults: list[dict[str, Any]] = []
    rig.plane.loop.set_exception_handler(lambda _, context: faults.append(context))
    await rig.apply([ANY], [pool_of(await rig.server(slow))], https(port))
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(PREFACE + frame(1, 5, 1, GET))
    async with asyncio.timeout(10):
        await asked.wait()
        writer.write(frame(0, 0, 0, b"data on no stream"))
        go_on.set()
        assert b"\x00\x00\x01" in await reader.read()  # a GOAWAY, then the end
    writer.transport.abort()
    assert faults == []

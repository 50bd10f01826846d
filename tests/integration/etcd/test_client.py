# SPDX-License-Identifier: Apache-2.0
"""The client against a real etcd: values, tokens, TLS, pings, cancellation (specs/etcd.md §4-§6)."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fairlead.etcd.channel import Channel
from fairlead.etcd.client import Client
from fairlead.etcd.errors import (
    BadLogin,
    Denied,
    LeaseLost,
    NotSent,
    TLSFailed,
    TooLarge,
    Unavailable,
)
from fairlead.etcd.options import Options, parse_endpoint
from fairlead.etcd.types import Compare, KeyRange, Put, Range, Result, Target, WatchRequest
from fairlead.testing.etcd import Cluster, real_etcd

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@asynccontextmanager
async def connected(options: Options) -> AsyncIterator[Client]:
    client = Client(options)
    try:
        yield client
    finally:
        await client.aclose()


async def test_values_of_any_size_and_lists_in_pages() -> None:
    async with real_etcd() as cluster:
        options = Options(endpoints=cluster.endpoints, page_keys=100, page_bytes=1 << 20)
        async with connected(options) as client:
            big = b"x" * 1_400_000
            await client.put(b"/big", big)
            held = await client.get(b"/big")
            assert held is not None
            assert held.value == big
            with pytest.raises(TooLarge):
                await client.put(b"/too-big", b"x" * 1_700_000)
            with pytest.raises(TooLarge):
                await client.put(b"/far-too-big", b"x" * 3_000_000)
            await asyncio.gather(*(client.put(b"/l/%04d" % n, b"x" * 30_000) for n in range(250)))
            sizes, keys = [], []
            revisions = set()
            async for page in client.pages(KeyRange.prefix(b"/l/")):
                sizes.append(len(page.kvs))
                keys += [kv.key for kv in page.kvs]
                revisions.add(page.kvs[0].mod_revision <= page.header.revision)
                await client.put(b"/l/0000", b"later")  # does not show: all pages at one revision
            assert keys == [b"/l/%04d" % n for n in range(250)]
            assert sizes[:2] == [100, 50], "a page over the limit in bytes halves the next"
            async with client.watch(
                WatchRequest(KeyRange(b"/big"), start=held.mod_revision)
            ) as watch:
                answers = aiter(watch)
                assert (await anext(answers)).created
                assert (await anext(answers)).events[0].kv.value == big


async def test_transactions() -> None:
    async with real_etcd() as cluster, connected(Options(endpoints=cluster.endpoints)) as client:
        absent = Compare(b"a", Target.CREATE, Result.EQUAL, 0)
        first = await client.txn((absent,), (Put(b"a", b"1"),), (Range(KeyRange(b"a")),))
        again = await client.txn((absent,), (Put(b"a", b"1"),), (Range(KeyRange(b"a")),))
        assert (first.succeeded, again.succeeded) == (True, False)
        value = Compare(b"a", Target.VALUE, Result.EQUAL, b"1")
        lease = Compare(b"a", Target.LEASE, Result.NOT_EQUAL, 0)
        nested = await client.txn((value,), (), ())
        assert nested.succeeded
        assert not (await client.txn((lease,), (), ())).succeeded


async def test_leases() -> None:
    async with real_etcd() as cluster, connected(Options(endpoints=cluster.endpoints)) as client:
        granted = await client.grant(60)
        await client.put(b"a", b"1", lease=granted.id)
        assert await client.keep_alive(granted.id) == 60
        assert (await client.time_to_live(granted.id, keys=True)).keys == (b"a",)
        assert await client.leases() == (granted.id,)
        await client.revoke(granted.id)
        await client.revoke(granted.id)
        assert await client.get(b"a") is None
        with pytest.raises(LeaseLost):
            await client.keep_alive(granted.id)
        with pytest.raises(LeaseLost):
            await client.put(b"a", b"1", lease=granted.id)
        assert (await client.time_to_live(granted.id)).ttl_seconds == -1


async def test_an_expired_token_is_renewed_once_for_all() -> None:
    """§5.5: seen by nobody: reads, writes, watches go on."""
    async with real_etcd(arguments=("--auth-token-ttl=1",)) as cluster:
        for command in (
            "user add root:sesame",
            "role add root",
            "user grant-role root root",
            "user add web:tulip",
            "role add web",
            "user grant-role web web",
            "role grant-permission web --prefix=true readwrite /web/",
            "auth enable",
        ):
            await cluster.etcdctl(*command.split())
        options = Options(endpoints=cluster.endpoints, user="web", password="tulip")
        async with connected(options) as client:
            await client.put(b"/web/a", b"1")
            first = client._pool.token
            assert first
            await asyncio.sleep(4)
            await asyncio.gather(*(client.put(b"/web/%d" % n, b"1") for n in range(20)))
            second = client._pool.token
            assert second != first
            await asyncio.sleep(4)
            async with client.watch(WatchRequest(KeyRange.prefix(b"/web/"))) as watch:
                answers = aiter(watch)
                assert (await anext(answers)).created, "the token is checked at creation: renewed"
                await asyncio.sleep(4)
                await client.put(b"/web/b", b"1")
                assert (await anext(answers)).events
            with pytest.raises(Denied):
                await client.get(b"/other")
            with pytest.raises(Denied):
                async with client.watch(WatchRequest(KeyRange.prefix(b"/other/"))):
                    pass
        async with connected(replace(options, password="wrong")) as client:
            for _ in range(2):
                with pytest.raises(BadLogin, match='user "web"'):
                    await client.get(b"/web/a")
        assert "tulip" not in repr(options)


async def test_a_login_without_auth_enabled_goes_on_without_a_token() -> None:
    async with real_etcd() as cluster:
        options = Options(endpoints=cluster.endpoints, user="web:tulip")
        async with connected(options) as client:
            await client.put(b"a", b"1")


@contextmanager
def certificates(base: Path) -> Iterator[None]:
    """Write ca.pem, server and expired (.pem, .key) for 127.0.0.1, client, and other-ca.pem."""
    now = datetime.datetime.now(datetime.UTC)

    def make(
        name: str, issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None, hours: int = 24
    ) -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        by, by_key = issuer or (subject, key)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(by)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(hours=hours))
            .add_extension(
                x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(by_key.public_key()), False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )
        if issuer is not None:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        else:
            usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
            builder = builder.add_extension(usage, critical=True)
        made = builder.sign(by_key, hashes.SHA256())
        (base / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        (base / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return subject, key

    ca = make("ca", None)
    make("server", ca)
    make("expired", ca, hours=-1)
    make("client", ca)
    make("other-ca", None)
    yield


@asynccontextmanager
async def tls_etcd(base: Path, *, client_cert: bool) -> AsyncIterator[Options]:
    with certificates(base):
        cluster = Cluster(base / "data", 1)
        (base / "data").mkdir()
        node = cluster.nodes[0]
        url = node.endpoint.replace("http:", "https:")
        node.arguments = (
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--cert-file={base}/server.pem",
            f"--key-file={base}/server.key",
            *((f"--trusted-ca-file={base}/ca.pem", "--client-cert-auth") if client_cert else ()),
        )
        options = Options(endpoints=(url,), ca=str(base / "ca.pem"))
        good = replace(options, cert=str(base / "client.pem"), key=str(base / "client.key"))
        await node.start()
        try:
            async with asyncio.timeout(20), connected(good) as client:
                while True:
                    try:
                        await client.put(b"a", b"1", repeatable=True)
                        break
                    except Unavailable:
                        await asyncio.sleep(0.1)
            yield options
        finally:
            await cluster.aclose()


async def test_tls(tmp_path: Path) -> None:
    async with tls_etcd(tmp_path, client_cert=False) as options:
        async with connected(options) as client:
            assert await client.get(b"a") is not None
        for wrong, reason in (
            (replace(options, ca=str(tmp_path / "other-ca.pem")), "certificate is not good"),
            (replace(options, server_name="etcd.example.org"), "certificate is not good"),
            (replace(options, ca=str(tmp_path / "absent.pem")), r"CA file .*absent\.pem"),
        ):
            async with connected(wrong) as client:
                with pytest.raises(TLSFailed, match=reason):
                    await client.get(b"a")
        rotated = tmp_path / "rotated.pem"
        rotated.write_bytes((tmp_path / "other-ca.pem").read_bytes())
        async with connected(replace(options, ca=str(rotated))) as client:
            with pytest.raises(TLSFailed):
                await client.get(b"a")
            rotated.write_bytes((tmp_path / "ca.pem").read_bytes())
            assert await client.get(b"a") is not None, "files are read for each new connection"
        async with connected(replace(options, ca="", insecure_skip_verify=True)) as client:
            assert await client.get(b"a") is not None


async def test_an_expired_server_certificate_is_refused_and_a_new_one_taken(tmp_path: Path) -> None:
    async with tls_etcd(tmp_path, client_cert=False) as options:
        good = {end: (tmp_path / f"server.{end}").read_bytes() for end in ("pem", "key")}
        for end in good:  # etcd reads the files at each handshake
            (tmp_path / f"server.{end}").write_bytes((tmp_path / f"expired.{end}").read_bytes())
        async with connected(options) as client:
            with pytest.raises(TLSFailed, match="certificate has expired; renew it"):
                await client.get(b"a")
            for end, body in good.items():
                (tmp_path / f"server.{end}").write_bytes(body)
            assert await client.get(b"a") is not None


async def test_a_missing_client_certificate_is_named(tmp_path: Path) -> None:
    """§4.2: with TLS 1.3 it shows only after the handshake, on the first read."""
    async with tls_etcd(tmp_path, client_cert=True) as options:
        async with connected(options) as client:
            with pytest.raises(TLSFailed, match="asks for a client certificate"):
                await client.get(b"a")
        pair = {"cert": str(tmp_path / "client.pem"), "key": str(tmp_path / "client.key")}
        async with connected(replace(options, **pair)) as client:  # type: ignore[arg-type]
            assert await client.get(b"a") is not None


async def test_pings_act_and_do_not_offend_etcd() -> None:
    """§4.4: the underscored settings of grpclib act; etcd's policy bears one ping in 5 s."""
    async with real_etcd() as cluster:
        options = Options(endpoints=cluster.endpoints, ping_every=5.6, ping_timeout=1)
        channel = await Channel.open(parse_endpoint(cluster.endpoints[0]), options)
        connection = channel._protocol.connection
        assert 0.9 * 5.6 <= connection._config._keepalive_time <= 1.1 * 5.6  # type: ignore[operator]
        client = Client(options)
        async with client.watch(WatchRequest(KeyRange(b"a"))):
            live = client._pool._channels["live"]
            await asyncio.sleep(6.5)
            assert live._protocol.connection.last_ping_sent is not None, "a stream is open: pinged"
            assert not live.dead
            cluster.nodes[0].freeze()
            begun = time.monotonic()
            while not live.dead:
                await asyncio.sleep(0.02)
                assert time.monotonic() - begun < 8
            assert "no answer to a ping" in live.dead
            cluster.nodes[0].cont()
        assert connection.last_ping_sent is None, "no stream open: not pinged"
        await client.aclose()
        channel.drop("done")


async def test_a_frozen_server_accepts_and_is_not_taken_for_usable() -> None:
    async with real_etcd() as cluster:
        cluster.nodes[0].freeze()
        await asyncio.sleep(0.2)  # its threads stop one after the other
        begun = time.monotonic()
        with pytest.raises(NotSent, match="no answer within 2 s"):
            await Channel.open(parse_endpoint(cluster.endpoints[0]), Options())
        assert 1.9 < time.monotonic() - begun < 3
        cluster.nodes[0].cont()


async def test_a_broken_stream_leaves_no_cancellation_behind() -> None:
    """grpclib wakes tasks by cancelling them; a timeout around must still end in TimeoutError."""
    async with real_etcd() as cluster, connected(Options(endpoints=cluster.endpoints)) as client:
        with pytest.raises(TimeoutError):  # noqa: PT012
            async with asyncio.timeout(1.5):
                async with client.watch(WatchRequest(KeyRange(b"a"))) as watch:
                    asyncio.get_running_loop().call_later(0.5, _break, client)
                    with pytest.raises(Unavailable):
                        async for _ in watch:
                            pass
                task = asyncio.current_task()
                assert task is not None
                assert task.cancelling() == 0
                await asyncio.sleep(10)


def _break(client: Client) -> None:
    client._pool._channels["live"].drop("broken by the test")


async def test_a_real_cancellation_stays_one() -> None:
    async with real_etcd() as cluster, connected(Options(endpoints=cluster.endpoints)) as client:

        async def watch() -> None:
            async with client.watch(WatchRequest(KeyRange(b"a"))) as watching:
                async for _ in watching:
                    pass

        task = asyncio.create_task(watch())
        await asyncio.sleep(0.5)
        _break(client)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

# SPDX-License-Identifier: Apache-2.0
"""lb/acme: keys and signatures, entries, what is due."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from fairlead.etcd.types import KeyValue, Revision
from fairlead.records import Records
from lb import desired, problems, reading, records
from lb.acme import entries, jws
from lb.acme.due import Calendar, pause
from lb.catalog import Catalog
from lb.fields import Invalid
from lb.keys import ROOTS, Kind, Ref
from lb.records import Stored
from lb.secret import Box, KeyPair, Sealed, new_key
from lb.writing import tree


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def pem(key: Any) -> bytes:
    return key.private_bytes(  # type: ignore[no-any-return]
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def test_the_public_key_of_rfc_7515_a3() -> None:
    secret = int.from_bytes(unb64("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"), "big")
    key = jws.AccountKey(pem(ec.derive_private_key(secret, ec.SECP256R1())))
    assert key.jwk == {
        "crv": "P-256",
        "kty": "EC",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    }
    assert list(key.jwk) == sorted(key.jwk)  # RFC 7638: the members in this order, no white space
    assert len(unb64(key.thumbprint)) == 32


@pytest.mark.parametrize("kind", ["EC", "RSA"])
def test_signatures_verify(kind: str) -> None:
    private: Any = (
        ec.generate_private_key(ec.SECP256R1())
        if kind == "EC"
        else rsa.generate_private_key(65537, 2048)
    )
    key = jws.AccountKey(pem(private))
    signed = json.loads(key.sign({"nonce": "n", "url": "u"}, {"a": 1}))
    head = json.loads(unb64(signed["protected"]))
    assert head == {"nonce": "n", "url": "u", "alg": "ES256" if kind == "EC" else "RS256"}
    assert json.loads(unb64(signed["payload"])) == {"a": 1}
    data = f"{signed['protected']}.{signed['payload']}".encode()
    raw = unb64(signed["signature"])
    if kind == "EC":
        assert len(raw) == 64
        der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        private.public_key().verify(der, data, ec.ECDSA(hashes.SHA256()))
    else:
        private.public_key().verify(raw, data, padding.PKCS1v15(), hashes.SHA256())
    assert json.loads(key.sign({}, None))["payload"] == ""  # POST-as-GET


def test_another_kind_of_key_is_refused() -> None:
    for bad in (pem(ec.generate_private_key(ec.SECP384R1())), b"nonsense"):
        with pytest.raises(ValueError, match=r".+"):
            jws.AccountKey(bad)


def certificate(begin: datetime, end: datetime) -> KeyPair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a.example.org")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(7)
    signed = builder.not_valid_before(begin).not_valid_after(end).sign(key, hashes.SHA256())
    return KeyPair(pem(key), signed.public_bytes(serialization.Encoding.PEM))


BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
DAY = 86400.0


@pytest.mark.parametrize(
    ("life_days", "before_days", "left_days"),
    [(90, 0, 30), (90, 10, 10), (90, 80, 45), (6, 0, 2), (6, 30, 3), (365, 0, 30)],
)
def test_renewal(life_days: int, before_days: int, left_days: int) -> None:
    end = BEGIN + timedelta(days=life_days)
    when = entries.renewal(certificate(BEGIN, end).cert, before_days * DAY)
    assert end.timestamp() - when == left_days * DAY


def test_pause_grows_and_the_server_may_want_more() -> None:
    assert [pause(n, 0.0) for n in (1, 2, 3, 4)] == [300.0, 600.0, 1200.0, 2400.0]
    assert pause(50, 0.0) == 12 * 3600.0
    assert pause(1, 9000.0) == 9000.0


def test_entries() -> None:
    pair = certificate(BEGIN, BEGIN + timedelta(days=90))

    def read(name: str, value: bytes) -> object:
        return entries.decode(entries.entry(name), value)

    plain = read("a.example.org", pair.key + pair.cert)  # as the original's cache plug-in wrote it
    assert isinstance(plain, entries.Issued)
    assert isinstance(plain.pair, KeyPair)
    assert plain.pair.key.split() == pair.key.split()
    assert plain.pair.cert == pair.cert
    sealed = read("a.example.org", Box(new_key()).seal(pair).text().encode())
    assert isinstance(sealed, entries.Issued)
    assert isinstance(sealed.pair, Sealed)
    assert read("t+http-01", b"t.print") == entries.Challenge(entries.entry("t+http-01"), "t.print")
    assert read("a+lock", b"node 1") is None
    assert read("a+rsa", b"whatever of others") is None
    failure = entries.Failure(entries.entry("a+failed"), "no", 3, 17.0)
    assert read("a+failed", failure.encode()) == failure
    for name, value in (("a", b"\xff"), ("a", b""), ("a+failed", b"{"), ("t+http-01", b"\xff")):
        with pytest.raises(Invalid):
            read(name, value)


def kv(key: str, value: str | bytes) -> KeyValue:
    raw = value if isinstance(value, bytes) else value.encode()
    return KeyValue(key.encode(), raw, Revision(1), Revision(1), 1)


class Etcd:
    """Records and catalog, fed by hand."""

    def __init__(self) -> None:
        self.decoded: Records[Stored] = Records(lambda kv: reading.decode(kv, ROOTS))
        self.catalog = Catalog(ROOTS, self.decoded.good, self.decoded.rejected)

    def put(self, key: str, value: str | bytes | None) -> frozenset[Ref]:
        full = f"/vulcand/{key}"
        changed = self.decoded.apply([(full.encode(), None if value is None else kv(full, value))])
        return self.catalog.update(changed, [full.encode()])


def test_what_is_due_and_what_is_offered() -> None:
    etcd, box = Etcd(), Box(new_key())
    calendar = Calendar(etcd.catalog, box)
    etcd.put("hosts/plain/host", "{}")
    etcd.put("hosts/a.example.org/host", '{"Settings":{"AutoCert":{"Email":"me@example.org"}}}')
    assert calendar.due() == {"a.example.org": 0.0}
    assert Calendar(etcd.catalog, None).due() == {}  # keys are stored sealed only
    wants = {str(ref): why for ref, why in problems.problems(etcd.catalog, None).items()}
    assert "-sealKey is not given" in wants['host "a.example.org"']

    failed = entries.Failure(entries.entry("x"), "no such name", 1, 500.0)
    etcd.put("autocert_cache/a.example.org+failed", failed.encode())
    assert calendar.due() == {"a.example.org": 500.0}
    (why,) = problems.problems(etcd.catalog, box).values()
    assert why == "AutoCert: no certificate was issued: no such name"
    etcd.put("autocert_cache/a.example.org+failed", None)
    assert calendar.due() == {"a.example.org": 0.0}

    pair = certificate(BEGIN, BEGIN + timedelta(days=90))
    scope = etcd.put("autocert_cache/a.example.org", box.seal(pair).text())
    assert scope == {Ref(Kind.HOST, "a.example.org")}  # a pass that looks at the host alone
    assert calendar.due() == {"a.example.org": BEGIN.timestamp() + 60 * DAY}
    offered = desired.traffic(etcd.catalog, desired.Defaults(box=box), scope).hosts
    assert offered["a.example.org"].pair == pair
    assert problems.problems(etcd.catalog, box) == {}

    own = certificate(BEGIN, BEGIN + timedelta(days=1))
    settings = {"AutoCert": {}, "KeyPair": own.tree()}
    etcd.put("hosts/a.example.org/host", json.dumps({"Settings": settings}))
    assert calendar.due() == {}  # a key pair of its own wins
    offered = desired.traffic(etcd.catalog, desired.Defaults(box=box)).hosts
    assert offered["a.example.org"].pair == own
    etcd.put("hosts/a.example.org/host", "{}")
    assert desired.traffic(etcd.catalog, desired.Defaults(box=box)).hosts == {}


def test_challenges_are_traffic() -> None:
    etcd = Etcd()
    scope = etcd.put("autocert_cache/tok+http-01", "tok.print")
    found = desired.traffic(etcd.catalog, desired.Defaults(listen=None), scope)
    assert found.challenges == {"tok": "tok.print"}


@pytest.mark.parametrize(
    ("host", "auto", "reason"),
    [
        ("*.example.org", {}, "by http-01"),
        ("192.0.2.1", {}, "by http-01"),
        ("localhost", {}, "by http-01"),
        ("a.example.org", {"DirectoryURL": "http://x/dir"}, "is no https URL"),
        ("a.example.org", {"DirectoryURL": "https://[x/dir"}, "is no https URL"),
        ("a.example.org", {"Email": "me"}, "is no address"),
        ("a.example.org", {"RenewBefore": "-1h"}, "must not be negative"),
        ("a.example.org", {"Key": "-----BEGIN x"}, "Settings.AutoCert.Key"),
    ],
)
def test_refused(host: str, auto: dict[str, str], reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        reading.build(Ref(Kind.HOST, host), {"Settings": {"AutoCert": auto}})


def test_the_accounts_key_is_written_sealed_or_as_it_came() -> None:
    key = pem(ec.generate_private_key(ec.SECP256R1())).decode()
    for text in (key, Box(new_key()).seal(KeyPair(key.encode(), b"")).text()):
        given = {"Settings": {"AutoCert": {"Key": text, "RenewBefore": "24h"}}}
        record = reading.build(Ref(Kind.HOST, "a.example.org"), given)
        assert isinstance(record, records.Host)
        written = tree(record)["Settings"]["AutoCert"]
        assert written["Key"] == text
        assert written["RenewBefore"] == 86_400_000_000_000
        assert reading.build(record.ref, tree(record)) == record

# SPDX-License-Identifier: Apache-2.0
"""lb/acme: keys and signatures, entries, what is due."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
from contextlib import suppress
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
from lb.acme import entries, hello, jws, proofs
from lb.acme.due import Calendar, pause
from lb.acme.ways import ways
from lb.catalog import Catalog
from lb.certificates import Certificates
from lb.fields import Invalid
from lb.keys import ROOTS, Kind, Ref
from lb.records import Stored
from lb.sealing import Sealing
from lb.secret import Box, KeyPair, Sealed, new_key
from lb.state import Host, Listener
from lb.writing import tree

MAC = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"


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
    name = entries.challenge(entries.ALPN, "a.example.org")
    assert read(name, b"t.print") == entries.Challenge(entries.entry(name), "t.print")
    assert entries.challenged(name) == ("a.example.org", entries.ALPN)
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
    assert found.challenges == {"tok+http-01": "tok.print"}
    scope = etcd.put("autocert_cache/a.example.org+tls-alpn-01", "tok.print")
    found = desired.traffic(etcd.catalog, desired.Defaults(listen=None), scope)
    assert found.challenges == {"a.example.org+tls-alpn-01": "tok.print"}
    etcd.put("autocert_cache/tok+http-01", None)
    assert list(etcd.catalog.challenges) == ["a.example.org+tls-alpn-01"]


@pytest.mark.parametrize(
    ("host", "auto", "reason"),
    [
        ("*.example.org", {}, "is no full name"),
        ("192.0.2.1", {}, "is no full name"),
        ("localhost", {}, "is no full name"),
        ("a.example.org", {"DirectoryURL": "http://x/dir"}, "is no https URL"),
        ("a.example.org", {"DirectoryURL": "https://[x/dir"}, "is no https URL"),
        ("a.example.org", {"Email": "me"}, "is no address"),
        ("a.example.org", {"RenewBefore": "-1h"}, "must not be negative"),
        ("a.example.org", {"Key": "-----BEGIN x"}, "Settings.AutoCert.Key"),
        ("a.example.org", {"ExternalAccount": {"KeyID": "k"}}, "go together"),
        ("a.example.org", {"ExternalAccount": {"MACKey": MAC}}, "go together"),
        ("a.example.org", {"ExternalAccount": {"KeyID": "k", "MACKey": "no!"}}, "base64url"),
    ],
)
def test_refused(host: str, auto: dict[str, Any], reason: str) -> None:
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


def test_an_external_account_is_written_sealed_or_as_it_came() -> None:
    for text in (MAC, Box(new_key()).seal(KeyPair(MAC.encode(), b"")).text()):
        given = {"Settings": {"AutoCert": {"ExternalAccount": {"KeyID": "kid-1", "MACKey": text}}}}
        record = reading.build(Ref(Kind.HOST, "a.example.org"), given)
        assert isinstance(record, records.Host)
        written = tree(record)["Settings"]["AutoCert"]["ExternalAccount"]
        assert written == {"KeyID": "kid-1", "MACKey": text}
        assert reading.build(record.ref, tree(record)) == record
        assert MAC not in repr(record)
        assert MAC not in json.dumps(tree(Sealing(Box(new_key())).sealed(record)))


def test_an_account_is_bound_to_an_external_one() -> None:
    """RFC 8555 §7.3.4: HS256 by the other account's key over our public one."""
    key = jws.AccountKey(jws.new_key())
    secret = jws.unb64(MAC.encode())
    bound = key.bound("kid-1", secret, "https://x/new")
    assert json.loads(unb64(bound["protected"])) == {"alg": "HS256", "kid": "kid-1", "url": "https://x/new"}  # fmt: skip
    assert json.loads(unb64(bound["payload"])) == key.jwk
    signed = f"{bound['protected']}.{bound['payload']}".encode()
    assert unb64(bound["signature"]) == hmac.digest(secret, signed, "sha256")
    assert entries.account("https://x/dir", "me@x", "kid-1") != entries.account("https://x/dir", "me@x")  # fmt: skip
    assert jws.unb64(b"_-8") == jws.unb64(b"_-8=") == b"\xff\xef"


@pytest.mark.parametrize(
    ("listeners", "found"),
    [
        ([], ["http-01"]),
        ([(False, 8181)], ["http-01"]),
        ([(True, 443)], ["tls-alpn-01"]),
        ([(False, 80), (True, 443)], ["http-01", "tls-alpn-01"]),
        ([(False, 8181), (True, 443)], ["tls-alpn-01", "http-01"]),
        ([(False, 8181), (True, 8443)], ["http-01", "tls-alpn-01"]),
        ([(False, 0), (True, 8443)], ["http-01", "tls-alpn-01"]),
    ],
)
def test_the_likeliest_challenge_comes_first(
    listeners: list[tuple[bool, int]], found: list[str]
) -> None:
    assert list(ways(listeners)) == found


def test_the_certificate_of_tls_alpn_01() -> None:
    """RFC 8737 §3: one name, and in a critical extension the authorization's SHA-256."""
    pair = proofs.certificate("a.example.org", "tok.print")
    leaf = x509.load_pem_x509_certificate(pair.cert)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("a.example.org")]
    found = leaf.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31"))
    assert found.critical
    assert isinstance(found.value, x509.UnrecognizedExtension)
    assert found.value.value == b"\x04\x20" + hashlib.sha256(b"tok.print").digest()
    leaf.verify_directly_issued_by(leaf)


def client_hello(*offered: str) -> bytes:
    """Return a ClientHello as OpenSSL writes it, without its record's head."""
    context = ssl.create_default_context()
    if offered:
        context.set_alpn_protocols(offered)
    out = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="a.example.org")
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return out.read()[5:]


@pytest.mark.parametrize("offered", [(), ("acme-tls/1",), ("h2", "http/1.1")])
def test_protocols_of_a_client_hello(offered: tuple[str, ...]) -> None:
    message = client_hello(*offered)
    assert hello.protocols(message) == tuple(name.encode() for name in offered)
    for cut in range(len(message)):  # of a broken one nothing is made, and nothing raises
        assert hello.protocols(message[:cut]) == ()


def shaken(base: ssl.SSLContext, *offered: str) -> tuple[bytes, str | None]:
    """Return the certificate and protocol that a client gets of a listener's context."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    wants = ssl.create_default_context()
    wants.check_hostname, wants.verify_mode = False, ssl.CERT_NONE
    if offered:
        wants.set_alpn_protocols(offered)
    client = wants.wrap_bio(back, there, server_hostname="A.example.org")
    server = base.wrap_bio(there, back, server_side=True)
    for _ in range(3):
        for side in (client, server):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return client.getpeercert(binary_form=True) or b"", client.selected_alpn_protocol()


def test_who_validates_gets_the_proof_and_all_others_the_certificate() -> None:
    certificates = Certificates()
    base = certificates.server(Listener("l", "tcp", ":443", tls={}))
    pair = certificate(BEGIN, datetime(2036, 1, 1, tzinfo=UTC))
    certificates.put(Host("a.example.org", pair), None)
    ordinary = x509.load_pem_x509_certificate(pair.cert).public_bytes(serialization.Encoding.DER)
    assert shaken(base, "acme-tls/1") == (ordinary, None)  # nothing is to be proved
    certificates.proofs.put("a.example.org", "tok.print")
    certificates.proofs.put("b.example.org", "tok.other")
    later = certificates.server(Listener("later", "tcp", ":8443", tls={}))
    for context in (base, later):
        proof, spoken = shaken(context, "acme-tls/1")
        assert spoken == "acme-tls/1"
        assert hashlib.sha256(b"tok.print").digest() in proof
        assert shaken(context, "h2", "http/1.1") == (ordinary, "h2")
        assert shaken(context) == (ordinary, None)
    certificates.proofs.drop("a.example.org")
    assert shaken(base, "acme-tls/1") == (ordinary, None)
    certificates.proofs.drop("b.example.org")
    assert base._msg_callback is None  # type: ignore[attr-defined]  # handshakes cost as before

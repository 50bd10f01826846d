# SPDX-License-Identifier: Apache-2.0
"""lb/masking.py: read, changed and written back, an object keeps its keys (§3.4, §10)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lb import reading, records, writing
from lb.acme import jws
from lb.fields import Invalid
from lb.keys import Kind, Ref
from lb.masking import Masking
from lb.sealing import Sealing
from lb.secret import Box, KeyPair, new_key, opened

HOST, BACKEND = Ref(Kind.HOST, "a.example.org"), Ref(Kind.BACKEND, "b")
MAC = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
BOX = Box(new_key())
MASKING, SEALING = Masking(BOX), Sealing(BOX)
KEY = ec.generate_private_key(ec.SECP256R1())


def issue(key: ec.EllipticCurvePrivateKey) -> KeyPair:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a.example.org")])
    now = datetime.now(UTC)
    leaf = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=9))
        .sign(key, hashes.SHA256())
    )
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return KeyPair(text, leaf.public_bytes(Encoding.PEM))


PAIR, RENEWED, OTHER = issue(KEY), issue(KEY), issue(ec.generate_private_key(ec.SECP256R1()))
ACCOUNT = jws.new_key()


def host(box: Box = BOX) -> records.Host:
    auto = {
        "Email": "ops@example.org",
        "Key": ACCOUNT.decode(),
        "ExternalAccount": {"KeyID": "kid", "MACKey": MAC},
    }
    record = reading.build(HOST, {"Settings": {"KeyPair": PAIR.tree(), "AutoCert": auto}})
    record = Sealing(box).sealed(record)
    assert isinstance(record, records.Host)
    return record


def written(shown: Any, old: records.Record | None, masking: Masking = MASKING) -> Any:
    tree = masking.unmasked(HOST.kind, shown, old)
    return SEALING.sealed(reading.build(HOST, tree), old)


def test_what_is_read_and_written_back_is_the_same() -> None:
    old = host()
    shown = writing.tree(old, MASKING.masked)
    for secret in (ACCOUNT.decode(), MAC, PAIR.tree()["Key"]):
        assert secret not in json.dumps(shown)
    assert written(shown, old) == old
    lowered = json.loads(json.dumps(shown).lower().replace("keyid", "KeyID"))
    lowered["settings"]["keypair"]["cert"] = shown["Settings"]["KeyPair"]["Cert"]
    assert written(lowered, old) == old  # names count in any letter case (§3)


def test_a_client_in_go_keeps_the_keys_though_it_drops_fields_it_does_not_know() -> None:
    old = host()
    shown = writing.tree(old, MASKING.masked)
    del shown["Settings"]["KeyPair"]["KeyFingerprint"]
    del shown["Settings"]["AutoCert"]["ExternalAccount"]
    shown["Settings"]["Default"] = True
    new = written(shown, old)
    assert (new.pair, new.auto.key, new.default) == (old.pair, old.auto.key, True)


def test_a_key_is_removed_on_purpose() -> None:
    old = host()
    for gone in (None, "", {"Key": "", "Cert": ""}):
        shown = writing.tree(old, MASKING.masked)
        shown["Settings"]["KeyPair"] = gone
        shown["Settings"]["AutoCert"]["Key"] = ""
        del shown["Settings"]["AutoCert"]["ExternalAccount"]
        new = written(shown, old)
        assert (new.pair, new.auto.key, new.auto.external_key) == (None, None, None)
    shown["Settings"]["AutoCert"] = None
    assert written(shown, old).auto is None


def test_a_new_certificate_for_the_stored_key() -> None:
    old = host()
    shown = writing.tree(old, MASKING.masked)
    for cert, good in ((RENEWED, True), (OTHER, False)):
        shown["Settings"]["KeyPair"]["Cert"] = cert.tree()["Cert"]
        if good:
            assert opened(written(shown, old).pair, BOX) == RENEWED
        else:
            with pytest.raises(Invalid, match="does not load"):
                written(shown, old)
    del shown["Settings"]["KeyPair"]["KeyFingerprint"]
    with pytest.raises(Invalid, match=r"^Settings\.KeyPair: no Key, and its Cert is not the"):
        written(shown, old)


def test_a_new_key_replaces_the_stored_one() -> None:
    old = host()
    shown = writing.tree(old, MASKING.masked)
    shown["Settings"]["KeyPair"] |= OTHER.tree()  # the old fingerprint beside it means nothing
    shown["Settings"]["AutoCert"]["Key"] = key = jws.new_key().decode()
    new = written(shown, old)
    assert opened(new.pair, BOX) == OTHER
    assert opened(new.auto.key, BOX).key.decode() == key


@pytest.mark.parametrize(
    ("where", "field"),
    [("KeyPair", "KeyFingerprint"), ("AutoCert", "Key"), ("AutoCert", "ExternalAccount")],
)
def test_the_mask_of_another_key_is_refused_by_name(where: str, field: str) -> None:
    old = host()
    for known in (old, None):
        shown = writing.tree(old, MASKING.masked)
        mask = "sha256:0" if known else shown["Settings"][where][field]
        if field == "ExternalAccount":
            mask = {"KeyID": "kid", "MACKey": "sha256:0"}
        shown["Settings"] = {where: {**shown["Settings"][where], field: mask}}
        with pytest.raises(Invalid, match=rf"^Settings\.{where}.*not the stored key's"):
            written(shown, known)


def test_keys_that_cannot_be_opened_stay_too() -> None:
    """Sealed with another node's key: the host can be changed, and the rest of a list is shown."""
    old = host(Box(new_key()))
    for look in (MASKING.masked, MASKING.whole):
        shown = writing.tree(old, look)
        assert shown["Settings"]["KeyPair"]["Fault"] == "unable to decrypt message"
        assert written(shown, old) == old
        shown["Settings"]["KeyPair"] = {"Key": "", "Cert": ""}  # by way of a client in Go
        assert written(shown, old) == old
    shown = writing.tree(old, Masking(None).masked)
    assert written(shown, old, Masking(None)) == old


def test_a_callers_own_key_is_shown_whole() -> None:
    shown = writing.tree(host(), MASKING.whole)["Settings"]
    assert shown["KeyPair"] == PAIR.tree()
    assert shown["AutoCert"]["Key"] == ACCOUNT.decode()
    assert shown["AutoCert"]["ExternalAccount"]["MACKey"] == MAC


def test_a_backends_client_certificate_stays() -> None:
    given = {"Type": "http", "Settings": {"ClientCert": PAIR.tree()}}
    old = SEALING.sealed(reading.build(BACKEND, given))
    shown = writing.tree(old, MASKING.masked)
    assert shown["Settings"]["ClientCert"]["Key"] == ""
    tree = MASKING.unmasked(BACKEND.kind, shown, old)
    assert SEALING.sealed(reading.build(BACKEND, tree), old) == old
    with pytest.raises(Invalid, match=r"^Settings\.ClientCert: no Key"):
        MASKING.unmasked(BACKEND.kind, shown, None)

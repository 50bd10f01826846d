# SPDX-License-Identifier: Apache-2.0
import datetime as dt
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fairlead import tls
from fairlead.errors import ConfigError


def issue(directory: Path, ends: dt.datetime, name: str = "host.example.org") -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = directory / "c.pem", directory / "k.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(cert_file), str(key_file)


@pytest.mark.parametrize(
    "ends",
    [
        dt.datetime(2030, 2, 28, 23, 59, 59, tzinfo=dt.UTC),
        dt.datetime(2049, 12, 31, tzinfo=dt.UTC),
        dt.datetime(2050, 1, 1, 0, 0, 1, tzinfo=dt.UTC),  # GeneralizedTime from here on
    ],
)
def test_expiry(tmp_path: Path, ends: dt.datetime) -> None:
    cert, _ = issue(tmp_path, ends)
    assert tls.expiry(cert).ends == ends.timestamp()


def test_the_first_to_end_of_a_chain_counts(tmp_path: Path) -> None:
    first, _ = issue(tmp_path, dt.datetime(2040, 1, 1, tzinfo=dt.UTC))
    chain = Path(first).read_text()
    second, _ = issue(tmp_path, dt.datetime(2030, 1, 1, tzinfo=dt.UTC))
    both = tmp_path / "chain.pem"
    both.write_text(chain + "some words\n" + Path(second).read_text())
    assert tls.expiry(str(both)).ends == dt.datetime(2030, 1, 1, tzinfo=dt.UTC).timestamp()


def test_warning_from_30_days_on() -> None:
    expiry = tls.Expiry("c.pem", 100 * 86400.0)
    assert expiry.warning(69 * 86400.0) == ""
    assert expiry.warning(70 * 86400.0) == "ends in 30 days, at 1970-04-11 00:00 UTC"
    assert expiry.warning(101 * 86400.0) == "ended at 1970-04-11 00:00 UTC"


@pytest.mark.parametrize(
    "content", [b"", b"no", b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"]
)
def test_no_certificate_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.pem").write_bytes(content)
    with pytest.raises(ConfigError, match=r"holds no certificate|is damaged"):
        tls.expiry(str(tmp_path / "c.pem"))


def test_contexts_and_faults(tmp_path: Path) -> None:
    cert, key = issue(tmp_path, dt.datetime(2040, 1, 1, tzinfo=dt.UTC))
    assert tls.server_context(cert, key, cert).verify_mode is ssl.CERT_REQUIRED
    assert tls.client_context(cert, cert, key).minimum_version is ssl.TLSVersion.TLSv1_2
    assert tls.client_context(verify=False).verify_mode is ssl.CERT_NONE
    with pytest.raises(ConfigError, match='key file "/no": cannot be used: no such'):
        tls.server_context(cert, "/no")
    with pytest.raises(ConfigError, match="of no use without a certificate"):
        tls.client_context(key=key)
    with pytest.raises(ConfigError, match='CA file "/no"'):
        tls.client_context("/no")
    (tmp_path / "other").mkdir()
    other, _ = issue(tmp_path / "other", dt.datetime(2040, 1, 1, tzinfo=dt.UTC))
    with pytest.raises(ConfigError, match=f'key file "{key}": is not the key of .* {other}'):
        tls.server_context(other, key)
    whole = Path(key).read_text()
    for text, reason in (
        ("x", "holds no private key in PEM form"),
        (whole[:60], "is damaged"),
        (whole.replace("PRIVATE", "ENCRYPTED PRIVATE"), "is locked by a passphrase"),
    ):
        Path(key).write_text(text)
        with pytest.raises(ConfigError, match=reason):
            tls.server_context(cert, key)
    with pytest.raises(ConfigError, match=f'CA file "{key}": holds no certificate in PEM form'):
        tls.client_context(key)


def test_reread_when_changed_and_a_bad_change_keeps_the_old(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("1")
    faults: list[str] = []

    def make() -> int:
        if not path.read_text().isdigit():
            raise ConfigError("file", str(path), "tls", "no number")
        return int(path.read_text())

    value = tls.Reread([str(path), ""], make, lambda error: faults.append(error.reason))
    assert value.get() == 1
    path.write_text("22")
    assert value.get() == 22
    path.write_text("bad")
    assert (value.get(), value.get()) == (22, 22)
    assert faults == ["no number"]
    path.write_text("4444")
    assert value.get() == 4444


def test_a_chain_as_openssl_made_it_long_ago_is_taken(tmp_path: Path) -> None:
    """No key identifiers: Python 3.13's own default context refuses it, Go and curl do not."""
    root = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an old CA")])

    def signed(subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> bytes:
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
            .not_valid_after(dt.datetime(2040, 1, 1, tzinfo=dt.UTC))
            .add_extension(x509.BasicConstraints(ca, None), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("etcd")]), critical=False)
        )
        return made.sign(root, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    cert, key_file = issue(tmp_path, dt.datetime(2040, 1, 1, tzinfo=dt.UTC))
    key = serialization.load_pem_private_key(Path(key_file).read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    Path(cert).write_bytes(signed(x509.Name([]), key, ca=False))
    ca = tmp_path / "ca.pem"
    ca.write_bytes(signed(name, root, ca=True))
    out, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = tls.client_context(str(ca)).wrap_bio(back, out, server_hostname="etcd")
    server = tls.server_context(cert, key_file).wrap_bio(out, back, server_side=True)
    done = set[ssl.SSLObject]()
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
    assert done == {client, server}

"""Signing, with dnspython as the judge (RFC 4034, RFC 9824, specs/skydns.md §12)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dns.dnssec
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from skydns import dnssec, message, names, rrs
from skydns.dnssec import Key, KeyFileError, Signer
from skydns.reply import Reply
from skydns.rrs import RR

NOW = 1_800_000_000.0
ZONE = names.from_text("example.org.")
WEB = names.from_text("web.example.org.")
DB = names.from_text("db.example.org.")
MAKE = {
    dnssec.ECDSAP256SHA256: lambda: ec.generate_private_key(ec.SECP256R1()),
    dnssec.ECDSAP384SHA384: lambda: ec.generate_private_key(ec.SECP384R1()),
    dnssec.ED25519: ed25519.Ed25519PrivateKey.generate,
    dnssec.RSASHA256: lambda: rsa.generate_private_key(65537, 2048),
}


def write_pair(folder: Path, private: Any, algorithm: int, flags: int = 257) -> str:
    """Write a key pair as dnssec-keygen does; dnspython renders the public half."""
    import base64

    record = dns.dnssec.make_dnskey(private.public_key(), algorithm, flags)
    base = folder / f"Kexample.org.+{algorithm:03}+{dns.dnssec.key_id(record):05}"
    Path(f"{base}.key").write_text(f"; made by a test\nExample.org. 3600 IN DNSKEY {record}\n")

    def b64(number: int, size: int = 0) -> str:
        return base64.b64encode(
            number.to_bytes(size or (number.bit_length() + 7) // 8, "big")
        ).decode()

    lines = ["Private-key-format: v1.3", f"Algorithm: {algorithm} (X)"]
    if isinstance(private, rsa.RSAPrivateKey):
        n = private.private_numbers()
        lines += [f"Modulus: {b64(n.public_numbers.n)}"]
        lines += [f"PublicExponent: {b64(n.public_numbers.e)}", f"PrivateExponent: {b64(n.d)}"]
        lines += [f"Prime1: {b64(n.p)}", f"Prime2: {b64(n.q)}"]
    elif isinstance(private, ed25519.Ed25519PrivateKey):
        lines.append(f"PrivateKey: {base64.b64encode(private.private_bytes_raw()).decode()}")
    else:
        lines.append(f"PrivateKey: {b64(private.private_numbers().private_value, 48)}")
    Path(f"{base}.private").write_text("\n".join(lines) + "\n")
    return str(base)


@pytest.fixture(params=MAKE, ids=lambda algorithm: f"algorithm {algorithm}")
def key(request: pytest.FixtureRequest, tmp_path: Path) -> Key:
    return dnssec.load(write_pair(tmp_path, MAKE[request.param](), request.param))


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    algorithm = dnssec.ECDSAP256SHA256
    return Signer([dnssec.load(write_pair(tmp_path, MAKE[algorithm](), algorithm))])


def soa() -> RR:
    return RR(ZONE, rrs.SOA, 60, b"", (names.from_text("NS.dns.example.org."), ZONE), bytes(20))


def answer(*found: RR, rcode: int = 0) -> Reply:
    return Reply(rcode, answer=found, authority=() if found else (soa(),), zone=ZONE)


def sent(reply: Reply, name: bytes, rtype: int) -> dns.message.Message:
    """What a client reads: through our own encoder and dnspython's parser."""
    question = name + rtype.to_bytes(2, "big") + b"\0\1"
    query = message.parse(b"\0\1\1\0\0\1\0\0\0\0\0\0" + question)
    assert isinstance(query, message.Query)
    wire = message.finish(message.encode(name, reply), query, 65535, recursion=False)
    return dns.message.from_wire(wire)


def validate(signer: Signer, section: list[dns.rrset.RRset]) -> set[tuple[str, str]]:
    """Validate every RRset of a section; return what was."""
    zone = dns.name.from_text("example.org.")
    dnskeys = dns.rrset.from_rdata_list(
        zone,
        60,
        [
            dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.DNSKEY, rr.head, 0, len(rr.head))
            for rr in signer.apex(dnssec.DNSKEY, 60)
        ],
    )
    done = set()
    for rrset in section:
        if rrset.rdtype == dns.rdatatype.RRSIG:
            continue
        (signatures,) = (
            other
            for other in section
            if other.rdtype == dns.rdatatype.RRSIG
            and other.name == rrset.name
            and other.covers == rrset.rdtype
        )
        dns.dnssec.validate(rrset, signatures, {zone: dnskeys}, now=NOW)
        done.add((rrset.name.to_text(), dns.rdatatype.to_text(rrset.rdtype)))
    return done


def test_every_algorithm_signs_what_dnspython_validates(key: Key) -> None:
    signer = Signer([key])
    reply = signer.reply(
        answer(RR(WEB, rrs.A, 60, b"\xc0\0\2\2"), RR(WEB, rrs.A, 60, b"\xc0\0\2\1")),
        WEB,
        list,
        NOW,
    )
    assert validate(signer, sent(reply, WEB, rrs.A).answer) == {("web.example.org.", "A")}


def test_the_tag_and_the_ds_are_those_that_dnspython_computes(key: Key) -> None:
    zone = dns.name.from_text("example.org.")
    record = dns.rdata.from_wire(
        dns.rdataclass.IN, dns.rdatatype.DNSKEY, key.rdata, 0, len(key.rdata)
    )
    assert key.tag == dns.dnssec.key_id(record)
    assert key.ds() == dns.dnssec.make_ds(zone, record, "SHA256").to_wire()


def test_names_in_data_are_signed_whole_and_folded(signer: Signer) -> None:
    target = names.from_text("DB.Example.ORG.")
    srv = RR(WEB, rrs.SRV, 60, b"\0\x0a\0\x64\0\x50", (target,))
    reply = signer.reply(answer(srv), WEB, list, NOW)
    assert validate(signer, sent(reply, WEB, rrs.SRV).answer) == {("web.example.org.", "SRV")}


def test_a_name_that_is_not_there_is_noerror_with_nxname(signer: Signer) -> None:
    reply = signer.reply(answer(rcode=rrs.NXDOMAIN), DB, list, NOW)
    found = sent(reply, DB, rrs.A)
    assert found.rcode() == 0
    assert validate(signer, found.authority) == {
        ("example.org.", "SOA"),
        ("db.example.org.", "NSEC"),
    }
    (proof,) = (rrset for rrset in found.authority if rrset.rdtype == dns.rdatatype.NSEC)
    assert proof[0].next.to_text() == "\\000.db.example.org."
    assert proof[0].to_text().split()[1:] == ["RRSIG", "NSEC", "TYPE128"] or "NXNAME" in str(proof)
    assert proof.ttl == 60


def test_who_sets_co_gets_nxdomain(signer: Signer) -> None:
    reply = signer.reply(answer(rcode=rrs.NXDOMAIN), DB, list, NOW, compact_ok=True)
    assert reply.rcode == rrs.NXDOMAIN


def test_no_data_says_which_types_there_are(signer: Signer) -> None:
    reply = signer.reply(answer(), WEB, lambda: [rrs.A, rrs.TXT], NOW)
    found = sent(reply, WEB, rrs.AAAA)
    assert validate(signer, found.authority) >= {("web.example.org.", "NSEC")}
    (proof,) = (rrset for rrset in found.authority if rrset.rdtype == dns.rdatatype.NSEC)
    assert proof[0].to_text().split()[1:] == ["A", "TXT", "RRSIG", "NSEC"]


def test_what_lies_outside_the_zone_is_not_signed(signer: Signer) -> None:
    foreign = RR(names.from_text("example.com."), rrs.A, 60, b"\xc0\0\2\1")
    alias = RR(WEB, rrs.CNAME, 60, b"", (foreign.owner,))
    reply = signer.reply(answer(alias, foreign), WEB, list, NOW)
    assert [rr.rtype for rr in reply.answer] == [rrs.CNAME, dnssec.RRSIG, rrs.A]


def test_a_signature_is_kept_until_two_days_are_left(signer: Signer) -> None:
    rrset = [RR(WEB, rrs.A, 60, b"\xc0\0\2\1")]
    (key,) = signer._keys
    first = signer.signature(rrset, key, NOW)
    assert signer.signature(rrset, key, NOW + dnssec.AHEAD - dnssec.RENEW - 1) is not None
    assert signer.signature(rrset, key, NOW + dnssec.AHEAD - dnssec.RENEW - 1) == first
    assert signer.signature(rrset, key, NOW + dnssec.AHEAD - dnssec.RENEW) != first
    inception, expiration = first.head[12:16], first.head[8:12]
    assert int.from_bytes(inception, "big") == NOW - 3 * 3600
    assert int.from_bytes(expiration, "big") == NOW + 7 * 86400


def test_keys_of_both_kinds_share_the_work(tmp_path: Path) -> None:
    algorithm = dnssec.ECDSAP256SHA256
    entry, zone = (
        dnssec.load(write_pair(tmp_path, MAKE[algorithm](), algorithm, flags))
        for flags in (257, 256)
    )
    signer = Signer([entry, zone])
    signed = signer.section(signer.apex(dnssec.DNSKEY, 60), NOW)
    assert [int.from_bytes(rr.head[16:18], "big") for rr in signed if rr.rtype == 46] == [entry.tag]
    signed = signer.section([soa()], NOW)
    assert [int.from_bytes(rr.head[16:18], "big") for rr in signed if rr.rtype == 46] == [zone.tag]
    assert len(signer.apex(dnssec.CDS, 60)) == 1


def test_a_key_that_does_not_belong_to_its_other_half_is_refused(tmp_path: Path) -> None:
    one, two = (
        write_pair(tmp_path, ed25519.Ed25519PrivateKey.generate(), dnssec.ED25519) for _ in "ab"
    )
    Path(f"{one}.private").write_text(Path(f"{two}.private").read_text())
    with pytest.raises(KeyFileError, match="does not belong"):
        dnssec.load(one)


@pytest.mark.parametrize(
    ("ending", "text", "reason"),
    [
        (".key", "", "no DNSKEY record"),
        (".key", "example.org. IN DNSKEY 257 3 x AAAA\n", "not a DNSKEY record"),
        (".key", "example.org. IN DNSKEY 0 3 15 AAAA\n", "not a zone key"),
        (".private", "Algorithm: 8 (RSASHA256)\n", "algorithm 8"),
        (".private", "Algorithm: 15 (ED25519)\n", "PrivateKey"),
        (".private", None, "cannot read"),
    ],
)
def test_a_damaged_file_is_named(
    tmp_path: Path, ending: str, text: str | None, reason: str
) -> None:
    base = write_pair(tmp_path, ed25519.Ed25519PrivateKey.generate(), dnssec.ED25519)
    if text is None:
        Path(base + ending).unlink()
    else:
        Path(base + ending).write_text(text)
    with pytest.raises(KeyFileError, match=reason) as raised:
        dnssec.load(base + ending)
    assert base in str(raised.value)

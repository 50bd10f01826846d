# SPDX-License-Identifier: Apache-2.0
"""DNSSEC: answers signed as they are made. Pure but for the key files that `load` reads.

::

    Reply ─► RRsets (RFC 4034 §6.3: one canonical form) ─► Signer ─► Reply with RRSIGs
                                                             │
    key pair, now ───────────────────────────────────────────┘    signatures are kept by RRset

What does not exist is denied compactly (RFC 9824): a name that is not there is answered NOERROR
with one NSEC record that says, truthfully for the moment, that it has no types but NXNAME, so
that nobody can walk the zone and no neighbour has to be known. To who sets CO in his query the
rcode is NXDOMAIN all the same.

Signatures hold from three hours ago, for clocks that are behind, to a week ahead, and are made
anew when two days are left (as SkyDNS does: specs/skydns.md §12). A week outlives any absence
of etcd that anybody would sit through.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from fairlead.errors import FairleadError
from skydns import names, rrs
from skydns.reply import Reply
from skydns.rrs import RR

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

DS: Final = 43
RRSIG: Final = 46
NSEC: Final = 47
DNSKEY: Final = 48
CDS: Final = 59
CDNSKEY: Final = 60
NXNAME: Final = 128  # RFC 9824 §2: "this name does not exist"

BEFORE: Final = 3 * 3600
AHEAD: Final = 7 * 86400
RENEW: Final = 2 * 86400
MOST: Final = 10_000  # signatures kept

RSASHA256: Final = 8
RSASHA512: Final = 10
ECDSAP256SHA256: Final = 13
ECDSAP384SHA384: Final = 14
ED25519: Final = 15
_ZONE_KEY: Final = 0x0100  # RFC 4034 §2.1.1
_SEP: Final = 0x0001
_PROTOCOL: Final = 3


class KeyFileError(FairleadError):
    """A key file is missing or not what it should be; the message names it."""


class Sign(Protocol):
    """A private key."""

    def __call__(self, data: bytes) -> bytes:
        """Return the signature in the DNS's form for the key's algorithm."""
        ...


@dataclass(frozen=True, slots=True)
class Key:
    """One key pair of a zone.

    Attributes:
        zone: its owner, folded.
        flags: 256, or 257 for a key that the parent's DS points to.
        public: as in the DNSKEY record's data.
    """

    zone: bytes
    flags: int
    algorithm: int
    public: bytes
    sign: Sign

    @property
    def rdata(self) -> bytes:
        """The data of the DNSKEY record (RFC 4034 §2.1)."""
        return self.flags.to_bytes(2, "big") + bytes((_PROTOCOL, self.algorithm)) + self.public

    @property
    def tag(self) -> int:
        """The key tag (RFC 4034 appendix B)."""
        data = self.rdata + b"\0" * (len(self.rdata) % 2)
        words = (int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
        total = sum(words)
        return (total + (total >> 16)) & 0xFFFF

    def ds(self) -> bytes:
        """Return the data of the DS record for the parent, SHA-256 (RFC 4509)."""
        digest = hashlib.sha256(self.zone + self.rdata).digest()
        return self.tag.to_bytes(2, "big") + bytes((self.algorithm, 2)) + digest


# ---------------------------------------------------------------------------- key files


def load(base: str) -> Key:
    """Read a key pair as BIND's dnssec-keygen writes it.

    Args:
        base: the files' name without `.key` and `.private`; either ending may be there.

    Raises:
        KeyFileError: a file is missing, damaged, or its algorithm is not one of ours.
    """
    base = base.removesuffix(".private").removesuffix(".key")
    public, private = _text(f"{base}.key"), _text(f"{base}.private")
    zone, flags, algorithm, octets = _dnskey(public, f"{base}.key")
    fields = {}
    for line in private.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields[name.strip()] = value.strip()
    stated = fields.get("Algorithm", "").split(" ")[0]
    if stated != str(algorithm):
        raise KeyFileError(
            f'"{base}.private": algorithm {stated or "missing"}, "{base}.key" says {algorithm}'
        )
    try:
        sign, derived = _private(algorithm, fields)
    except (KeyError, ValueError) as error:
        raise KeyFileError(f'"{base}.private": {error} is missing or wrong') from error
    if derived != octets:
        raise KeyFileError(f'"{base}.private" does not belong to "{base}.key"')
    return Key(zone, flags, algorithm, octets, sign)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f'cannot read "{path}": {error}') from error


def _dnskey(text: str, path: str) -> tuple[bytes, int, int, bytes]:
    """Return owner, flags, algorithm and public key of the one DNSKEY record in a file."""
    for line in text.splitlines():
        words = line.partition(";")[0].split()
        if "DNSKEY" not in words:
            continue
        at = words.index("DNSKEY")
        try:
            zone = names.from_text(words[0].lower())
            flags, protocol, algorithm = map(int, words[at + 1 : at + 4])
            public = base64.b64decode("".join(words[at + 4 :]), validate=True)
        except ValueError as error:
            raise KeyFileError(f'"{path}": not a DNSKEY record: {error}') from error
        if protocol != _PROTOCOL or not flags & _ZONE_KEY:
            raise KeyFileError(f'"{path}": not a zone key: flags {flags}, protocol {protocol}')
        return zone, flags, algorithm, public
    raise KeyFileError(f'"{path}": no DNSKEY record in it')


def _private(algorithm: int, fields: Mapping[str, str]) -> tuple[Sign, bytes]:
    """Return the signing function of a private key, and the public key that belongs to it."""
    if algorithm in (ECDSAP256SHA256, ECDSAP384SHA384):
        return _ecdsa(algorithm, _number(fields, "PrivateKey"))
    if algorithm == ED25519:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        edwards = Ed25519PrivateKey.from_private_bytes(_octets(fields, "PrivateKey"))
        return edwards.sign, edwards.public_key().public_bytes_raw()
    if algorithm in (RSASHA256, RSASHA512):
        return _rsa(algorithm, fields)
    raise ValueError(f"algorithm {algorithm} (8, 10, 13, 14 and 15 are supported)")


def _octets(fields: Mapping[str, str], name: str) -> bytes:
    return base64.b64decode(fields[name], validate=True)


def _number(fields: Mapping[str, str], name: str) -> int:
    return int.from_bytes(_octets(fields, name), "big")


def _ecdsa(algorithm: int, number: int) -> tuple[Sign, bytes]:
    from cryptography.hazmat.primitives.asymmetric import ec

    p256 = algorithm == ECDSAP256SHA256
    key = ec.derive_private_key(number, ec.SECP256R1() if p256 else ec.SECP384R1())
    size = 32 if p256 else 48
    point = key.public_key().public_numbers()
    return _ecdsa_signing(key, size), point.x.to_bytes(size, "big") + point.y.to_bytes(size, "big")


def _ecdsa_signing(key: EllipticCurvePrivateKey, size: int) -> Sign:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    how = ec.ECDSA(hashes.SHA256() if size == 32 else hashes.SHA384())

    def sign(data: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(data, how))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")  # RFC 6605 §4

    return sign


def _rsa(algorithm: int, fields: Mapping[str, str]) -> tuple[Sign, bytes]:
    from cryptography.hazmat.primitives.asymmetric import rsa

    n, e, d = (_number(fields, name) for name in ("Modulus", "PublicExponent", "PrivateExponent"))
    p, q = _number(fields, "Prime1"), _number(fields, "Prime2")
    key = rsa.RSAPrivateNumbers(
        p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(e, n)
    ).private_key()
    exponent = e.to_bytes((e.bit_length() + 7) // 8, "big")
    head = (
        bytes((len(exponent),)) if len(exponent) < 256 else b"\0" + len(exponent).to_bytes(2, "big")
    )
    modulus = n.to_bytes((n.bit_length() + 7) // 8, "big")
    return _rsa_signing(key, algorithm), head + exponent + modulus  # RFC 3110 §2


def _rsa_signing(key: RSAPrivateKey, algorithm: int) -> Sign:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    digest = hashes.SHA256() if algorithm == RSASHA256 else hashes.SHA512()
    return lambda data: key.sign(data, PKCS1v15(), digest)


# ---------------------------------------------------------------------------- canonical form


def rrsets(section: Iterable[RR]) -> list[tuple[RR, ...]]:
    """Return a section's records by owner and type, in the order of their first."""
    found: dict[tuple[bytes, int], list[RR]] = {}
    for rr in section:
        found.setdefault((rr.owner.lower(), rr.rtype), []).append(rr)
    return [tuple(rrset) for rrset in found.values()]


def canonical(rr: RR) -> bytes:
    """Return a record's data as it is signed: names whole and in lower case (RFC 4034 §6.2)."""
    return rr.head + b"".join(name.lower() for name in rr.names) + rr.tail


def bitmap(types: Iterable[int]) -> bytes:
    """Return the type bit maps field of an NSEC record (RFC 4034 §4.1.2)."""
    windows: dict[int, bytearray] = {}
    for rtype in sorted(set(types)):
        window = windows.setdefault(rtype >> 8, bytearray())
        octet = (rtype & 0xFF) >> 3
        window.extend(bytes(octet + 1 - len(window)))
        window[octet] |= 0x80 >> (rtype & 7)
    return b"".join(bytes((number, len(bits))) + bits for number, bits in windows.items())


def nsec(name: bytes, ttl: int, types: Iterable[int]) -> RR:
    """Return the NSEC record that says which types `name` has, up to the name right after it."""
    return RR(name, NSEC, ttl, b"\x01\0" + name.lower() + bitmap({*types, RRSIG, NSEC}))


# ---------------------------------------------------------------------------- signing


@dataclass(frozen=True, slots=True)
class _Made:
    """A signature kept."""

    rr: RR
    renew: float


class Signer:
    """Signs the replies of one zone.

    With keys of both kinds the 257 ones sign the DNSKEY RRset and the others all else; with one
    kind every key signs everything.

    Args:
        keys: at least one, all of one zone.
        most: signatures kept.
    """

    def __init__(self, keys: Sequence[Key], most: int = MOST) -> None:
        self.zone = keys[0].zone
        self._most = max(most, 1)
        self._keys = tuple(keys)
        entry = [key for key in keys if key.flags & _SEP]
        rest = [key for key in keys if not key.flags & _SEP]
        self._for_keys = tuple(entry or rest)
        self._for_rest = tuple(rest or entry)
        self._made: dict[tuple[bytes, int, int, int, bytes], _Made] = {}
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._made)

    def apex(self, rtype: int, ttl: int) -> tuple[RR, ...]:
        """Return the zone's DNSKEY, CDS or CDNSKEY records; none for another type."""
        match rtype:
            case 48:
                return tuple(RR(self.zone, DNSKEY, ttl, key.rdata) for key in self._keys)
            case 60:
                return tuple(RR(self.zone, CDNSKEY, ttl, key.rdata) for key in self._for_keys)
            case 59:
                return tuple(RR(self.zone, CDS, ttl, key.ds()) for key in self._for_keys)
        return ()

    def ds(self, ttl: int) -> tuple[RR, ...]:
        """Return the DS records that the zone above has for this one."""
        return tuple(RR(self.zone, DS, ttl, key.ds()) for key in self._for_keys)

    def reply(
        self,
        reply: Reply,
        name: bytes,
        types: Callable[[], Iterable[int]],
        now: float,
        *,
        compact_ok: bool = False,
    ) -> Reply:
        """Return `reply` with its RRsets of this zone signed, and what does not exist denied.

        Args:
            reply: one of this zone.
            name: what was asked, folded.
            types: the types that `name` has; called only when there is no data of the one asked.
            now: seconds since 1970.
            compact_ok: the query had the CO flag: NXDOMAIN stays NXDOMAIN (RFC 9824 §5.1).
        """
        authority = reply.authority
        rcode = reply.rcode
        denied = not reply.answer and rcode in (rrs.NOERROR, rrs.NXDOMAIN)
        if denied and not reply.outside:
            gone = rcode == rrs.NXDOMAIN
            least = min((rr.ttl for rr in authority), default=0)
            authority = (*authority, nsec(name, least, {NXNAME} if gone else types()))
            if gone and not compact_ok:
                rcode = rrs.NOERROR
        return replace(
            reply,
            rcode=rcode,
            answer=self.section(reply.answer, now),
            authority=self.section(authority, now),
            additional=self.section(reply.additional, now),
            expires=reply.expires,
        )

    def section(self, section: Sequence[RR], now: float) -> tuple[RR, ...]:
        """Return a section with the signatures of its RRsets right behind each of them."""
        found: list[RR] = []
        for rrset in rrsets(section):
            found += rrset
            if names.below(rrset[0].owner.lower(), self.zone):
                signing = self._for_keys if rrset[0].rtype in _OF_KEYS else self._for_rest
                found += [self.signature(rrset, key, now) for key in signing]
        return tuple(found)

    def signature(self, rrset: Sequence[RR], key: Key, now: float) -> RR:
        """Return the RRSIG of an RRset by one key, kept or new."""
        first = rrset[0]
        owner = first.owner.lower()
        data = sorted(set(map(canonical, rrset)))
        digest = hashlib.blake2b(b"".join(data), digest_size=16).digest()
        place = (owner, first.rtype, first.ttl, key.tag, digest)
        made = self._made.get(place)
        if made is not None and now < made.renew:
            self.hits += 1
            return made.rr._replace(owner=first.owner)
        self.misses += 1
        if len(self._made) >= self._most:
            self._made.pop(next(iter(self._made)))  # the oldest; what is asked for comes back
        labels = _labels(owner)
        expires = int(now) + AHEAD
        head = b"".join((
            first.rtype.to_bytes(2, "big"), bytes((key.algorithm, labels)),
            first.ttl.to_bytes(4, "big"), (expires & 0xFFFFFFFF).to_bytes(4, "big"),
            ((int(now) - BEFORE) & 0xFFFFFFFF).to_bytes(4, "big"), key.tag.to_bytes(2, "big"),
            key.zone,
        ))  # fmt: skip
        frame = (
            owner
            + first.rtype.to_bytes(2, "big")
            + first.rclass.to_bytes(2, "big")
            + first.ttl.to_bytes(4, "big")
        )
        signed = head + b"".join(frame + len(octets).to_bytes(2, "big") + octets for octets in data)
        rr = RR(owner, RRSIG, first.ttl, head + key.sign(signed), rclass=first.rclass)
        self._made[place] = _Made(rr, expires - RENEW)
        return rr._replace(owner=first.owner)


_OF_KEYS: Final = frozenset((DNSKEY, CDS, CDNSKEY))


def _labels(owner: bytes) -> int:
    """Return the labels of a name without the root and a leading `*` (RFC 4034 §3.1.3)."""
    count, at = 0, 0
    while owner[at]:
        count += 1
        at += owner[at] + 1
    return count - (owner[:2] == b"\x01*")

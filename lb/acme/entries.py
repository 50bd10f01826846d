# SPDX-License-Identifier: Apache-2.0
"""What lies below `<root>/autocert_cache/`: names and values. Pure.

::

    <host>              what was issued: a sealed key pair; or PEM, as the original's cache plug-in wrote it
    <token>+http-01     what to answer at /.well-known/acme-challenge/<token>
    <host>+tls-alpn-01  what the host's certificate for acme-tls/1 is made of
    <host>+failed       {"Why","Tries","Until"}: the last order failed, and none is made before
    <host>+lock         who makes an order now
    <account>+account   an account's sealed key, by the hash of its server and address
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

import msgspec

from lb.fields import Fields, Invalid
from lb.keys import Kind, Ref
from lb.secret import KeyPair, Pair, read

HTTP: Final = "http-01"
ALPN: Final = "tls-alpn-01"
"""The ways to show that a name is ours, as ACME calls them."""
FAILED, LOCK, ACCOUNT = "+failed", "+lock", "+account"
_KEY: Final = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)  # fmt: skip
_CHALLENGES: Final = (f"+{HTTP}", f"+{ALPN}")
_SHARE: Final = (
    3  # a certificate is renewed when this part of its life is left, unless it says otherwise
)
_MONTH: Final = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class Issued:
    """The key pair of a host that an ACME server gave."""

    ref: Ref
    pair: Pair


@dataclass(frozen=True, slots=True)
class Challenge:
    """A key authorization that shows an ACME server that a name is ours."""

    ref: Ref
    answer: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A host's last order failed, the `tries`th in a row; none is made before `until` (Unix seconds)."""

    ref: Ref
    why: str
    tries: int = 1
    until: float = 0.0

    def encode(self) -> bytes:
        """Return what is stored."""
        told = {"Why": self.why, "Tries": self.tries, "Until": round(self.until)}
        return msgspec.json.encode(told)


@dataclass(frozen=True, slots=True)
class AccountEntry:
    """An account's key."""

    ref: Ref
    pair: Pair


Entry = Issued | Challenge | Failure | AccountEntry


def entry(name: str) -> Ref:
    """Return the identity of an entry."""
    return Ref(Kind.ACME, name)


def challenge(way: str, subject: str) -> str:
    """Return the name of a challenge's entry.

    Args:
        way: `HTTP` or `ALPN`.
        subject: the token of http-01, the host of tls-alpn-01.
    """
    return f"{subject}+{way}"


def challenged(name: str) -> tuple[str, str]:
    """Return what a challenge's entry is about, and the way: the inverse of `challenge`."""
    subject, _, way = name.rpartition("+")
    return subject, way


def account(directory: str, email: str, external: str = "") -> str:
    """Return the name of an account's entry.

    Args:
        external: the key id of the account elsewhere that it is bound to; "" for none.
    """
    told = " ".join((directory, email, *((external,) if external else ())))
    return hashlib.sha256(told.encode()).hexdigest()[:16] + ACCOUNT


def decode(ref: Ref, value: bytes) -> Entry | None:
    """Return what an entry holds; None for a lock, and for others' entries.

    Raises:
        Invalid: no text, or no key pair.
    """
    name = ref.id
    if name.endswith(_CHALLENGES):
        return Challenge(ref, _text(value))
    if name.endswith(FAILED):
        return _failure(ref, value)
    if name.endswith(ACCOUNT):
        return AccountEntry(ref, _pair(value))
    return None if "+" in name else Issued(ref, _pair(value))


def _failure(ref: Ref, value: bytes) -> Failure:
    try:
        told = Fields(msgspec.json.decode(value))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"not JSON: {error}") from error
    return Failure(ref, told.text("Why"), told.number("Tries"), float(told.number("Until")))


def _text(value: bytes) -> str:
    try:
        return value.decode("ascii")
    except UnicodeDecodeError as error:
        raise Invalid("no ASCII text") from error


def _pair(value: bytes) -> Pair:
    found = _KEY.search(value)
    if found:
        return KeyPair(found[0] + b"\n", value[: found.start()] + value[found.end() :].lstrip())
    pair = read(_text(value).strip())
    if pair is None:
        raise Invalid("no key pair")
    return pair


def renewal(cert: bytes, before: float) -> float:
    """Return when a certificate is to be renewed, in Unix seconds; raises ValueError.

    Args:
        before: seconds before its end; 0: 30 days. Never more than a half of its life, by
            default a third: else who gets short-lived ones would never stop asking.
    """
    from cryptography import x509  # 60 ms that vctl's start can do without

    leaf = x509.load_pem_x509_certificate(cert)
    end = leaf.not_valid_after_utc.timestamp()
    life = end - leaf.not_valid_before_utc.timestamp()
    return end - (min(before, life / 2) if before else min(_MONTH, life / _SHARE))

# SPDX-License-Identifier: Apache-2.0
"""JSON as Go's decoder reads it and its encoder writes it, as much as flannel's values need. Pure.

Names in any letter case, exact types, and addresses as raw text, so that an escape in one is
refused (specs/flannel.md §3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import msgspec

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_any = msgspec.json.Decoder()


class FieldError(ValueError):
    """A field that cannot be used; the text names it. Callers know the key and wrap it."""


def json_object(raw: bytes) -> dict[str, bytes]:
    """Return an object's fields by lower-cased name, values still JSON; the later of two wins."""
    try:
        return {name.lower(): bytes(value).strip() for name, value in _object.decode(raw).items()}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FieldError(f"not a JSON object: {str(error)[:1].lower()}{str(error)[1:]}") from error


def boolean(field: str, fields: Mapping[str, bytes], *, default: bool = False) -> bool:
    """Return a bool field; null and absent leave the default."""
    match fields.get(field.lower(), b"null"):
        case b"null":
            return default
        case b"true":
            return True
        case b"false":
            return False
        case other:
            raise FieldError(f"{field}: {_text(other)} is not a boolean")


def unsigned(
    field: str, fields: Mapping[str, bytes], *, default: int = 0, most: int = 2**64 - 1
) -> int:
    """Return an integer field that is not negative; null and absent leave the default."""
    raw = fields.get(field.lower(), b"null")
    if raw == b"null":
        return default
    if not raw.isdigit() or int(raw) > most:  # 24.0, -1 and "24" are errors in Go too
        raise FieldError(f"{field}: {_text(raw)} is not a whole number from 0 to {most}")
    return int(raw)


def string(field: str, fields: Mapping[str, bytes]) -> str:
    """Return a string field; null and absent are the empty string."""
    raw = fields.get(field.lower(), b"null")
    if raw == b"null":
        return ""
    value: object = _any.decode(raw)
    if not isinstance(value, str):
        raise FieldError(f"{field}: {_text(raw)} is not a string")
    return value


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _quoted(field: str, raw: bytes) -> str:
    """Return the raw text between the quotes: Go's address types do not undo escapes."""
    if len(raw) < 2 or raw[:1] != b'"':
        raise FieldError(f"{field}: {_text(raw)} is not an address in quotes")
    return _text(raw[1:-1])


DOTTED = rb"(?:0|[1-9]\d{0,2})(?:\.(?:0|[1-9]\d{0,2})){3}"
"""Matches an IPv4 address as Go reads one, but for groups over 255."""

_ADDRESS4 = re.compile(rb'"(%b)"' % DOTTED)


def packed4(dotted: bytes) -> bytes:
    """Return the four bytes of an address that matches DOTTED: 1 µs, `ipaddress` takes 4.

    Raises:
        ValueError: a group is over 255.
    """
    try:
        return bytes(map(int, dotted.split(b".")))
    except ValueError as error:
        raise ValueError(f"{dotted.decode()} has a group over 255") from error


def address4(field: str, raw: bytes) -> IPv4Address:
    """Return an IPv4 address field."""
    usual = _ADDRESS4.fullmatch(raw)
    text = _quoted(field, raw)
    try:
        return IPv4Address(text if usual is None else packed4(usual[1]))
    except ValueError as error:
        raise FieldError(f'{field}: "{text}" is not an IPv4 address') from error


def address6(field: str, raw: bytes) -> IPv6Address:
    """Return an IPv6 address field."""
    text = _quoted(field, raw)
    try:
        address = IPv6Address(text)
    except ValueError as error:
        raise FieldError(f'{field}: "{text}" is not an IPv6 address') from error
    if address.scope_id is not None:
        raise FieldError(f'{field}: "{text}" has a zone')
    return address


def optional4(field: str, fields: Mapping[str, bytes]) -> IPv4Address | None:
    """Return an IPv4 address field, or None when it is absent."""
    raw = fields.get(field.lower())
    return None if raw is None else address4(field, raw)


def optional6(field: str, fields: Mapping[str, bytes]) -> IPv6Address | None:
    """Return an IPv6 address field, or None when it is absent."""
    raw = fields.get(field.lower())
    return None if raw is None else address6(field, raw)


def network4(field: str, raw: bytes | None) -> IPv4Network | None:
    """Return an IPv4 network field, host bits masked away; None when it is absent."""
    if raw is None:
        return None
    text = _quoted(field, raw)
    try:
        _cidr(text)
        return IPv4Network(text, strict=False)
    except ValueError as error:
        raise FieldError(f'{field}: "{text}" is not an IPv4 network such as 10.5.0.0/16') from error


def network6(field: str, raw: bytes | None) -> IPv6Network | None:
    """Return an IPv6 network field, host bits masked away; None when it is absent."""
    if raw is None:
        return None
    text = _quoted(field, raw)
    try:
        _cidr(text)
        return IPv6Network(text, strict=False)
    except ValueError as error:
        raise FieldError(f'{field}: "{text}" is not an IPv6 network such as fd00:5::/48') from error


def _cidr(text: str) -> None:
    """Refuse what `ipaddress` takes and Go does not: no length, or a mask for one."""
    _, slash, length = text.partition("/")
    if not slash or not length.isascii() or not length.isdigit() or "%" in text:
        raise ValueError(text)


def encode_json(value: object) -> bytes:
    """Return compact JSON with the characters escaped that Go's encoder escapes."""
    text = msgspec.json.encode(value)
    for char, escape in _GO_ESCAPES:
        text = text.replace(char, escape)
    return text


_GO_ESCAPES = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)

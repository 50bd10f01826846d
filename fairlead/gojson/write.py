# SPDX-License-Identifier: Apache-2.0
"""Records and trees → JSON text, as Go's encoder writes it."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from fairlead.gojson.schema import schema_of
from fairlead.gojson.tree import Number, Pairs

_ESCAPES: Final = {
    '"': '\\"',
    "\\": "\\\\",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\b": "\\b",  # since Go 1.22; \u0008 before
    "\f": "\\f",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}
_PLAIN_STRING: Final = re.compile('["\\\\\x00-\x1f\u2028\u2029\ud800-\udfff]')
_HTML_STRING: Final = re.compile('["\\\\\x00-\x1f<>&\u2028\u2029\ud800-\udfff]')


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    if char >= "\ud800" and char <= "\udfff":
        return "\\ufffd"
    return _ESCAPES.get(char) or f"\\u{ord(char):04x}"


def encode(record: object, *, html: bool = True, newline: bool = False) -> bytes:
    """Write a record or a tree as Go's encoder does.

    Args:
        html: escape `<`, `>`, `&`, as `json.Marshal` does.
        newline: end with one, as `json.Encoder` does.

    Raises:
        ValueError: a float that JSON lacks.
    """
    out: list[str] = []
    _write(record, _HTML_STRING if html else _PLAIN_STRING, out)
    if newline:
        out.append("\n")
    return "".join(out).encode()


def _write(value: Any, special: re.Pattern[str], out: list[str]) -> None:
    match value:
        case None:
            out.append("null")
        case bool():
            out.append("true" if value else "false")
        case Number():
            out.append(value)
        case str():
            out.append(f'"{special.sub(_escape, value)}"')
        case int():
            out.append(str(int(value)))
        case float():
            out.append(format_float(value))
        case bytes():
            out.append(f'"{base64.b64encode(value).decode()}"')
        case Pairs():
            _write_object(value, special, out)
        case list() | tuple():
            out.append("[")
            for i, item in enumerate(value):
                if i:
                    out.append(",")
                _write(item, special, out)
            out.append("]")
        case Mapping():
            _write_object(sorted(value.items()), special, out)
        case _:
            _write_object(_fields(value), special, out)


def _write_object(
    pairs: Iterable[tuple[str, Any]], special: re.Pattern[str], out: list[str]
) -> None:
    out.append("{")
    first = True
    for name, item in pairs:
        out.append(f'{"" if first else ","}"{special.sub(_escape, name)}":')
        first = False
        _write(item, special, out)
    out.append("}")


def _fields(record: object) -> Iterable[tuple[str, Any]]:
    schema = schema_of(type(record))
    for field in schema.fields:
        value = getattr(record, field.attribute)
        if field.extra:
            continue
        if field.omit_empty and _empty(value):
            continue
        yield field.name, value
    if schema.extra:
        yield from getattr(record, schema.extra)


def _empty(value: Any) -> bool:
    """Say what `omitempty` calls empty: false, 0, nil, and what has no length; no struct is."""
    return value is None or (
        isinstance(value, (bool, int, float, str, bytes, tuple, list, dict)) and not value
    )


def format_float(value: float) -> str:
    """Write a float64 as Go's encoder: shortest digits, exponents below 1e-6 and from 1e21 on.

    Raises:
        ValueError: NaN or infinite.
    """
    if not math.isfinite(value):
        raise ValueError(f"{value} has no form in JSON")
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)  # noqa: S101  (finite: see above)
    point = len(digits) + exponent  # value = 0.digits × 10^point
    text = "".join(map(str, digits))
    if -6 < point <= 21:
        if point <= 0:
            text = "0." + "0" * -point + text
        elif exponent < 0:
            text = f"{text[:point]}.{text[point:]}"
        else:
            text += "0" * exponent
    else:
        power = point - 1
        mantissa = text[0] + ("." + text[1:] if len(text) > 1 else "")
        text = f"{mantissa}e{'-' if power < 0 else '+'}{abs(power):d}"
    return "-" + text if sign else text

# SPDX-License-Identifier: Apache-2.0
"""JSON text → tree: what was read, as it was written."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from fairlead.errors import FairleadError


class Number(str):
    """A number's text as it was read, so that it is written back as it was."""

    __slots__ = ()


class Pairs(tuple[tuple[str, Any], ...]):
    """A JSON object as read: names in order, doubles too."""

    __slots__ = ()


Tree = Any
"""str | bool | None | Number | list[Tree] | Pairs (encode takes int, float, tuple, dict too)."""

Extra = tuple[tuple[str, Tree], ...]
"""Annotate one field of a schema with it: the unknown fields, in order."""


class DecodeError(FairleadError):
    """The text is not JSON, or does not fit the schema; the message names the field."""


def _refuse(constant: str) -> Any:
    raise DecodeError(f"not JSON: {constant} is no value of JSON")


_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """Return a text with U+FFFD for each lone surrogate."""
    return _SURROGATE.sub("\ufffd", text) if not text.isascii() else text


def _pairs(pairs: list[tuple[str, Any]]) -> Pairs:
    return Pairs(pairs)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_int=Number, parse_float=Number, parse_constant=_refuse
)


def parse(data: bytes | str) -> Tree:
    """Return the tree of a JSON text.

    Raises:
        DecodeError: it is not JSON.
    """
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    if not text.strip(" \t\r\n"):
        raise DecodeError("not JSON: unexpected end of the text; it is empty")
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        reason = f"{error.msg[:1].lower()}{error.msg[1:]}"
        raise DecodeError(f"not JSON: {reason} at byte {error.pos}") from error
    except RecursionError as error:
        raise DecodeError("not JSON that can be used: nested too deep") from error

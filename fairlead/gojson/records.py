# SPDX-License-Identifier: Apache-2.0
"""JSON text → records."""

from __future__ import annotations

from typing import TypeVar

from fairlead.errors import RecordError
from fairlead.gojson.read import read_struct
from fairlead.gojson.schema import schema_of
from fairlead.gojson.tree import DecodeError, Tree, parse

T = TypeVar("T")


def decode(schema: type[T], data: bytes | str) -> T:
    """Return the record that a JSON text holds; top-level `null` gives the zero record.

    Raises:
        DecodeError: not JSON, not an object, or a field of the wrong type; it is named.
    """
    return from_tree(schema, parse(data))


def decode_record(schema: type[T], key: bytes, value: bytes, revision: int = 0) -> T:
    """Return the record stored under `key`.

    Raises:
        RecordError: as `decode`.
    """
    try:
        return decode(schema, value)
    except DecodeError as error:
        raise RecordError(key, str(error), revision) from error


def from_tree(schema: type[T], tree: Tree) -> T:
    """Return the record that a parsed object holds; errors as `decode`."""
    record: T = read_struct(schema_of(schema), tree, "")
    return record

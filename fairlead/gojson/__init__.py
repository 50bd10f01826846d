# SPDX-License-Identifier: Apache-2.0
"""JSON as Go's encoding/json reads and writes it, to and from typed records. Pure.

A schema is a frozen dataclass or a `msgspec.Struct`; its annotations say what Go's struct said::

    @dataclass(frozen=True, slots=True)
    class Service:
        host: str = ""
        port: Annotated[int, Bits(64), OMITEMPTY] = 0
        ttl: Annotated[int, UINT32] = 0
        target_strip: Annotated[int, Name("targetstrip")] = 0
        extra: Extra = ()                    # unknown fields, kept for rewriting

Reading (SkyDNS spec §2.1, vulcand spec §3): a field's exact name is preferred, any letter case
taken; of two occurrences the last wins (objects and maps merge); `null` changes nothing; absent is
the default; unknown fields are skipped; types are exact: no number in quotes, no 80.0 for an
integer, no -1 for an unsigned. Invalid UTF-8 and lone surrogates become U+FFFD.

Writing: fields in declared order, OMITEMPTY as Go's `omitempty`, map keys sorted, floats in Go's
shortest form, `<` `>` `&` and U+2028/9 escaped unless told not to.

Types: str, bool, int (64 bits unless a `Bits`), float, bytes (base64), T | None (a pointer:
null is None), tuple[T, ...] (a slice), dict[str, T], another schema, `Any` (a `Tree`).

Data flow::

    text ─► tree.parse ─► Tree ─► records.decode ─► record ─► write.encode ─► text
                                       ▲                           ▲
                annotations ─► schema ─┴──────── read.Field ───────┘
"""

from fairlead.gojson.read import INT64, UINT8, UINT16, UINT32, UINT64, Bits
from fairlead.gojson.records import decode, decode_record, from_tree
from fairlead.gojson.schema import OMITEMPTY, Name
from fairlead.gojson.tree import DecodeError, Extra, Number, Pairs, Tree, parse
from fairlead.gojson.write import encode, format_float

__all__ = [
    "INT64",
    "OMITEMPTY",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "Bits",
    "DecodeError",
    "Extra",
    "Name",
    "Number",
    "Pairs",
    "Tree",
    "decode",
    "decode_record",
    "encode",
    "format_float",
    "from_tree",
    "parse",
]

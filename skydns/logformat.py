# SPDX-License-Identifier: Apache-2.0
"""Which queries are written down and what their line says: CoreDNS's `log` (specs/skydns.md §14.4). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from skydns import message, names, rrs

COMMON: Final = '{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}" {rcode} {>rflags} {rsize} {duration}'
COMBINED: Final = f'{COMMON} "{{>opcode}}"'
CLASSES: Final = frozenset(("success", "denial", "error"))

_PLACE: Final = re.compile(r"\{([>/]?[a-z/]+)\}")
_RCLASSES: Final = {rrs.IN: "IN", rrs.CHAOS: "CH", rrs.ANY_CLASS: "ANY"}
_FLAGS: Final = (
    (0x8000, "qr"), (0x0400, "aa"), (0x0200, "tc"), (0x0100, "rd"), (0x0080, "ra"), (0x0020, "ad"), (0x0010, "cd"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Format:
    """Which queries are written down, and how.

    Attributes:
        zones: folded.
        classes: of replies, as in `CLASSES`.
    """

    zones: frozenset[bytes] = frozenset((names.ROOT,))
    text: str = COMMON
    classes: frozenset[str] = CLASSES


Formats = Mapping[bytes, Sequence[Format]]
"""By folded zone of the server block."""

EVERYTHING: Final[Formats] = {names.ROOT: (Format(),)}


def format_of(data: bytes, reply: bytes, formats: Formats) -> str:
    """Return the text for a query's line, "" when none is written.

    The server block with the longest zone that has the name decides, by the first of its formats
    whose zones have it.
    """
    end = message.question_end(data) if len(data) > message.HEADER else 0
    above = tuple(names.ancestors(data[message.HEADER : end - 4].lower() if end else names.ROOT))
    for each in formats.get(next((zone for zone in above if zone in formats), b""), ()):
        if not each.zones.isdisjoint(above):
            return each.text if kind(reply) in each.classes else ""
    return ""


def kind(reply: bytes) -> str:
    """Return the class of a reply: success, denial (NXDOMAIN, no data) or error."""
    rcode = reply[3] & 0xF
    if rcode == rrs.NXDOMAIN or (rcode == rrs.NOERROR and reply[6:8] == b"\0\0"):
        return "denial"
    return "success" if rcode == rrs.NOERROR else "error"


def line(
    data: bytes,
    reply: bytes,
    client: str,
    proto: str,
    seconds: float,
    text: str = COMMON,
    local: str = "-",
) -> str:
    """Return a query's line: the text with its placeholders filled in, `-` for unknown ones.

    Args:
        client: address and port, as `192.0.2.7:53` or `[2001:db8::7]:53`.
    """
    remote, _, port = client.rpartition(":")
    bits = int.from_bytes(reply[2:4], "big")
    values = {
        "remote": remote, "port": port, "local": f"[{local}]" if ":" in local else local, "proto": proto,
        "size": str(len(data)), ">id": str(int.from_bytes(data[:2], "big")),
        ">opcode": str(data[2] >> 3 & 0xF), ">do": "false", ">bufsize": "512",
        "rcode": rrs.RCODES.get(bits & 0xF, str(bits & 0xF)),
        ">rflags": ",".join(word for bit, word in _FLAGS if bits & bit),
        "rsize": str(len(reply)), "duration": f"{seconds:.9f}s", "/log/class": kind(reply),
        "/log/type": _type(reply),
    }  # fmt: skip
    query = message.parse(data)
    if isinstance(query, message.Query):
        values |= {
            "name": names.to_text(query.question[:-4]),
            "type": rrs.TYPES.get(query.rtype, f"TYPE{query.rtype}"),
            "class": _RCLASSES.get(query.rclass, f"CLASS{query.rclass}"),
            ">do": str(query.do).lower(), ">bufsize": str(max(query.told, 512)),
        }  # fmt: skip
    return _PLACE.sub(lambda place: values.get(place[1], "-"), text)


def _type(reply: bytes) -> str:
    rcode = rrs.RCODES.get(reply[3] & 0xF, "-")
    return "NODATA" if rcode == "NOERROR" and kind(reply) == "denial" else rcode

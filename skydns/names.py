# SPDX-License-Identifier: Apache-2.0
r"""Domain names as wire bytes, and their presentation form.

Everywhere inside, a name is its uncompressed wire form: length octet, label, …, 0. It is
hashable, compares fast, and goes into a message as it is. *Folded* means ASCII lower case;
`bytes.lower` may be used on the whole wire form, for a length octet is at most 63 and no
letter is that small. The parent of a name is a slice, `name[name[0] + 1:]`.

Presentation form is RFC 1035 §5.1: `\.` and `\\` for a dot or backslash in a label,
`\DDD` (decimal) for an octet that does not print.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

ROOT = b"\0"
MOST_LABEL = 63  # RFC 1035 §2.3.4
MOST_NAME = 255

_IP6 = b"\x03ip6\x04arpa\0"
_PLAIN = frozenset(range(0x21, 0x7F)) - frozenset(b'."\\();@$')


def from_labels(labels: Iterable[bytes]) -> bytes:
    """Return the wire form of labels, leftmost first.

    Raises:
        ValueError: a label is empty or over 63 octets, or the name over 255.
    """
    wire = bytearray()
    for label in labels:
        if not label:
            raise ValueError("empty label")
        if len(label) > MOST_LABEL:
            raise ValueError(f"label of {len(label)} octets, at most {MOST_LABEL} fit")
        wire.append(len(label))
        wire += label
    wire.append(0)
    if len(wire) > MOST_NAME:
        raise ValueError(f"name of {len(wire)} octets, at most {MOST_NAME} fit")
    return bytes(wire)


def from_text(text: str) -> bytes:
    """Return the wire form of a name in presentation form; a final dot is optional.

    Octets outside ASCII stand for their UTF-8 form.

    Raises:
        ValueError: as `from_labels`, or an escape that is cut short or over 255.
    """
    data = text.encode()
    if b"\\" not in data:  # 20 times as frequent as the other kind
        if data == b".":
            return ROOT
        return from_labels((data[:-1] if data.endswith(b".") else data).split(b"."))
    labels, label, at = [], bytearray(), 0
    ended = False
    while at < len(data):
        octet, ended = data[at], False
        at += 1
        if octet == 0x2E:
            labels.append(bytes(label))
            label.clear()
            ended = True
        elif octet == 0x5C:
            digits = data[at : at + 3]
            if digits[:1].isdigit():
                if len(digits) < 3 or not digits.isdigit() or int(digits) > 255:
                    raise ValueError(f"bad escape \\{digits.decode('ascii', 'replace')}")
                label.append(int(digits))
                at += 3
            elif digits:
                label.append(digits[0])
                at += 1
            else:
                raise ValueError("backslash at the end")
        else:
            label.append(octet)
    if not ended:
        labels.append(bytes(label))
    return from_labels(labels)


def mailbox(text: str) -> bytes:
    """Return an RNAME: the `@` of an address counts as a dot; "" stays b"".

    Raises:
        ValueError: not a name.
    """
    return from_text(text.replace("@", ".", 1)) if text else b""


def reverse(address: bytes) -> bytes:
    """Return the name below in-addr.arpa or ip6.arpa that stands for an address's octets."""
    if len(address) == 4:
        parts = [b"%d" % octet for octet in reversed(address)]
        return from_labels((*parts, b"in-addr", b"arpa"))
    return b"".join(b"\x01%c" % digit for digit in reversed(address.hex().encode())) + _IP6


def address_of(name: bytes) -> bytes:
    """Return the address that a folded reverse name stands for, b"" when it stands for none."""
    parts = list(labels(name))
    if len(parts) == 6 and parts[4:] == [b"in-addr", b"arpa"]:
        texts = parts[3::-1]
        if all(part.isdigit() and part == b"%d" % int(part) and int(part) < 256 for part in texts):
            return bytes(map(int, texts))
    if len(parts) == 34 and parts[32:] == [b"ip6", b"arpa"]:
        digits = b"".join(parts[31::-1])
        if len(digits) == 32 and all(digit in b"0123456789abcdef" for digit in digits):
            return bytes.fromhex(digits.decode())
    return b""


def end(data: bytes, at: int) -> int:
    """Return where an uncompressed name that begins at `at` ends."""
    while length := data[at]:
        at += length + 1
    return at + 1


def labels(wire: bytes) -> Iterator[bytes]:
    """Yield the labels of a name, leftmost first, without the root's."""
    at = 0
    while length := wire[at]:
        yield wire[at + 1 : at + 1 + length]
        at += length + 1


def count(wire: bytes) -> int:
    """Return how many labels a name has, the root's not counted."""
    return sum(1 for _ in labels(wire))


def to_text(wire: bytes) -> str:
    """Return a name in presentation form, with the final dot."""
    return "".join(f"{_label_text(label)}." for label in labels(wire)) or "."


def parent(wire: bytes) -> bytes:
    """Return the name without its leftmost label; the root is its own parent."""
    return wire[wire[0] + 1 :] or ROOT


def below(wire: bytes, zone: bytes) -> bool:
    """Say whether `wire` is `zone` or lies under it; both folded."""
    return wire.endswith(zone) and (
        len(wire) == len(zone) or zone == ROOT or _on_boundary(wire, len(wire) - len(zone))
    )


def ancestors(wire: bytes) -> Iterator[bytes]:
    """Yield the name, its parent, … and the root."""
    while len(wire) > 1:
        yield wire
        wire = wire[wire[0] + 1 :]
    yield ROOT


def longest(wire: bytes, zones: Container[bytes]) -> bytes:
    """Return the longest of some zones that a name lies in, b"" for none; all folded."""
    for above in ancestors(wire):
        if above in zones:
            return above
    return b""


def strip(wire: bytes, number: int) -> bytes:
    """Return the name without its `number` leftmost labels; too many: the name as it is.

    Trap 15: what would consume the whole name strips nothing; nor does a negative number.
    """
    if number <= 0 or number >= count(wire):
        return wire
    for _ in range(number):
        wire = wire[wire[0] + 1 :]
    return wire


def _on_boundary(wire: bytes, cut: int) -> bool:
    """Say whether a label begins at `cut`: `notexample` does not lie under `example`."""
    at = 0
    while at < cut:
        at += wire[at] + 1
    return at == cut


def _label_text(label: bytes) -> str:
    """Return one label with its odd octets escaped."""
    return "".join(
        chr(octet)
        if octet in _PLAIN
        else f"\\{chr(octet)}"
        if 0x21 <= octet < 0x7F
        else f"\\{octet:03}"
        for octet in label
    )

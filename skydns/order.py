# SPDX-License-Identifier: Apache-2.0
"""In which order the addresses of an answer go out (specs/skydns.md §10.6). Pure but for chance.

What `skydns.compiled` does by itself is the usual: they take turns. Here is the rest: another first
one by chance, one by weights from a file, and networks that come before others. Only addresses of one
RRset change places; aliases stay before what they lead to.
"""

from __future__ import annotations

import ipaddress
import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from skydns import message, names, rrs
from skydns.addresses import Network
from skydns.rrs import RR

Weights = Mapping[bytes, Mapping[bytes, int]]
"""By folded name and packed address."""


@dataclass(frozen=True)
class Order:
    """What is wanted.

    Attributes:
        chance: shuffle, instead of taking turns.
        client: the first address depends on who asks, and stays the same for one client.
        preferred: networks whose addresses come first.
        weights: names whose first address is drawn by weight.
    """

    chance: bool = False
    preferred: tuple[Network, ...] = ()
    weights: Weights = field(default_factory=dict)
    client: bool = False

    def __bool__(self) -> bool:
        return bool(self.chance or self.preferred or self.weights)

    def arranged(self, answers: tuple[RR, ...]) -> tuple[RR, ...]:
        """Return an answer with the preferred addresses first among those of their owner."""
        if not self.preferred:
            return answers
        found: list[RR] = []
        at = 0
        while at < len(answers):
            end = at
            while end < len(answers) and answers[end][:2] == answers[at][:2]:
                end += 1
            found += sorted(answers[at:end], key=self._later)
            at = end
        return tuple(found)

    def _later(self, rr: RR) -> bool:
        return rr.rtype not in {rrs.A, rrs.AAAA} or not self._prefers(rr.head)

    def _prefers(self, packed: bytes) -> bool:
        address = ipaddress.ip_address(packed)
        return any(address in network for network in self.preferred)

    def for_client(self, reply: bytes, client: bytes) -> bytes:
        """Return a whole reply with that address first that is this client's.

        Args:
            client: its address, packed.
        """
        found = message.turning(reply)
        if found is None:
            return reply
        start, step, count = found
        end = start + step * count
        records = [reply[at : at + step] for at in range(start, end, step)]
        first = [each for each in records if self.preferred and self._prefers(_address(each))]
        rest = [each for each in records if each not in first]
        turns = zlib.crc32(client)
        return b"".join((reply[:start], *_turned_by(first, turns), *_turned_by(rest, turns), reply[end:]))  # fmt: skip

    def turned(self, name: bytes, reply: bytes, place: tuple[int, int, int], turns: int) -> bytes:
        """Return a reply with its addresses in the order of this turn; see `payload`."""
        if not self:
            start, step, count = place
            end, at = start + step * count, start + step * (turns % count)
            return b"".join((reply[:start], reply[at:end], reply[start:at], reply[end:]))
        return self.payload(name, reply, *place, turns)()

    def payload(
        self, name: bytes, reply: bytes, start: int, step: int, count: int, turns: int = 0
    ) -> Callable[[], bytes]:
        """Return what makes a reply with its addresses in another order each time.

        Args:
            name: asked for, folded.
            reply: octets, without the id.
            start, step, count: where the equally long address records stand.
            turns: that were before.
        """
        end = start + step * count
        head, tail = reply[:start], reply[end:]
        records = [reply[at : at + step] for at in range(start, end, step)]
        if (given := self.weights.get(name)) is not None:
            return _weighted(head, records, tail, [given.get(_address(each), 1) for each in records])  # fmt: skip
        first = [each for each in records if self.preferred and self._prefers(_address(each))]
        rest = [each for each in records if each not in first]
        one, other = (_shuffled, _shuffled) if self.chance else (_turned(turns), _turned(turns))
        return lambda: b"".join((head, *one(first), *other(rest), tail))


def _weighted(
    head: bytes, records: list[bytes], tail: bytes, weights: list[int]
) -> Callable[[], bytes]:
    def made() -> bytes:
        (at,) = random.choices(range(len(records)), weights)  # noqa: S311
        return b"".join((head, records[at], *records[:at], *records[at + 1 :], tail))

    return made


def _shuffled(records: list[bytes]) -> list[bytes]:
    return random.sample(records, len(records))


def _turned(turns: int) -> Callable[[list[bytes]], list[bytes]]:
    def turned(records: list[bytes]) -> list[bytes]:
        nonlocal turns
        turns += 1
        return _turned_by(records, turns)

    return turned


def _turned_by(records: list[bytes], turns: int) -> list[bytes]:
    at = turns % len(records) if records else 0
    return records[at:] + records[:at]


def _address(record: bytes) -> bytes:
    """Return the address in an A or AAAA record's octets."""
    return record[-16:] if record[-18:-16] == b"\0\x10" else record[-4:]


def _weigh(present: dict[bytes, int] | None, address: bytes, weight: int) -> None:
    if present is None or not 1 <= weight <= 255:
        raise ValueError("a name comes first, and weights are 1 to 255")
    present[address] = weight


def read_weights(path: str) -> Weights:
    """Read a file of weights: a line with a name, then lines of an address and a weight (1 to 255).

    Raises:
        ValueError: it cannot be read; names the line.
    """
    found: dict[bytes, dict[bytes, int]] = {}
    present: dict[bytes, int] | None = None
    try:
        lines: Sequence[str] = Path(path).read_text("utf-8").splitlines()
    except OSError as error:
        raise ValueError(f'cannot read "{path}": {error}') from error
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            if len(words) == 1:
                present = found.setdefault(names.from_text(words[0]).lower(), {})
                continue
            address, weight = words
            _weigh(present, ipaddress.ip_address(address).packed, int(weight))
        except ValueError as error:
            raise ValueError(f'"{path}", line {number}: {error}') from error
    return found

# SPDX-License-Identifier: Apache-2.0
"""What parent and workers tell each other, and the frames it goes in. Pure.

A frame is a head (length of the body, number of file descriptors that come with it) and a body
in MessagePack. Both ends are the same program of the same version, so there is no negotiation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from fairlead.etcd.types import KeyValue, LeaseID, Revision
from fairlead.etcd.view import Change, Changes

PART: Final = 5_000
"""Changes in one frame at most: a snapshot of 100,000 keys leaves turns for other work."""

HEAD: Final = struct.Struct("<IB")
_Item = tuple[bytes, tuple[bytes, int, int, int, int] | None]


class Part(msgspec.Struct, frozen=True, array_like=True, tag="part"):
    """A part of a feed's batch; `last`: with it the batch is whole."""

    feed: str
    revision: int
    items: tuple[_Item, ...]
    resync: bool
    last: bool


class Tell(msgspec.Struct, frozen=True, array_like=True, tag="tell"):
    """What the daemon's code tells the other end under a topic; `body` is of plain values."""

    topic: str
    body: Any = None


class Call(msgspec.Struct, frozen=True, array_like=True, tag="call"):
    """The same from a worker, with an answer wanted."""

    number: int
    topic: str
    body: Any = None


class Answer(msgspec.Struct, frozen=True, array_like=True, tag="answer"):
    """The answer to a call; `error` says why there is none."""

    number: int
    body: Any = None
    error: str = ""


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """The worker serves."""


class Applied(msgspec.Struct, frozen=True, array_like=True, tag="applied"):
    """The worker's loops have looked at these revisions of its feeds, and at so many tells."""

    revisions: dict[str, int]
    told: int


class Ping(msgspec.Struct, frozen=True, array_like=True, tag="ping"):
    """Asks for a sign of life; a worker answers with the same."""


class Reload(msgspec.Struct, frozen=True, array_like=True, tag="reload"):
    """Read the configuration again."""


class Release(msgspec.Struct, frozen=True, array_like=True, tag="release"):
    """Carry out the removals that were held back."""


class Drain(msgspec.Struct, frozen=True, array_like=True, tag="drain"):
    """Finish what is under way, and end."""


Message = Part | Tell | Call | Answer | Ready | Applied | Ping | Reload | Release | Drain

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Message)


def frame(message: Message, descriptors: int = 0) -> bytes:
    """Return a message as it is sent.

    Raises:
        TypeError: the body has a value that MessagePack does not know.
    """
    body = _encoder.encode(message)
    return HEAD.pack(len(body), descriptors) + body


class Unframer:
    """Octets as they come → messages with the number of descriptors that belong to each."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, octets: bytes) -> Iterator[tuple[Message, int]]:
        """Take octets in; give what is whole.

        Raises:
            msgspec.DecodeError: the other end is no worker of ours.
        """
        self._held += octets
        while len(self._held) >= HEAD.size:
            size, descriptors = HEAD.unpack_from(self._held)
            end = HEAD.size + size
            if len(self._held) < end:
                return
            body = bytes(memoryview(self._held)[HEAD.size : end])
            del self._held[:end]
            yield _decoder.decode(body), descriptors


def parts(feed: str, batch: Changes) -> Iterator[Part]:
    """Give a batch in parts of bounded size; an empty batch is one part."""
    changes = batch.changes
    for start in range(0, len(changes) or 1, PART):
        some = changes[start : start + PART]
        items = tuple((change.key, _packed(change.new)) for change in some)
        last = start + PART >= len(changes)
        yield Part(feed, batch.revision, items, batch.resync, last)


def whole(some: Iterable[Part]) -> Changes:
    """Put the parts of one batch together; a change's `old` is not sent, and None."""
    changes: list[Change] = []
    for part in some:
        changes += [Change(key, _unpacked(key, value), None) for key, value in part.items]
    return Changes(Revision(part.revision), tuple(changes), part.resync)


def _packed(kv: KeyValue | None) -> tuple[bytes, int, int, int, int] | None:
    if kv is None:
        return None
    return kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease


def _unpacked(key: bytes, value: tuple[bytes, int, int, int, int] | None) -> KeyValue | None:
    if value is None:
        return None
    octets, created, modified, version, lease = value
    return KeyValue(key, octets, Revision(created), Revision(modified), version, LeaseID(lease))

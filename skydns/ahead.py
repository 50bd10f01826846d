# SPDX-License-Identifier: Apache-2.0
"""What answers ahead of the store: a Corefile's `hosts` and `file`, in CoreDNS's order.

::

    question ─► server block with the longest zone ─► hosts ─► file ─► Reply, or None: the store's
    alias of the store or a file that leads out of its zone ─► `completed`: file, store, or outside

The files are looked at again every `reload` seconds; one that is no good keeps what was read last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Never, Protocol

from skydns import rrs
from skydns.answer import answer
from skydns.compiled import Answers
from skydns.files import Files
from skydns.hosts import Hosts, Spec
from skydns.lookup import zone_of
from skydns.reply import Reply
from skydns.rrs import Question
from skydns.zonefile import Zone, Zonefile

_PAUSE: Final = 5.0  # seconds between two looks when no file asks for any
_LINKS: Final = 16


class Block(Protocol):
    """What a server block has of these plugins."""

    hosts: Spec | None
    file: list[Zonefile]


class Ahead:
    """Answers from files.

    Args:
        answers: asked for names that no file has; what they keep is dropped when a file changes.
        said: told what is wrong with a file.

    Attributes:
        hosts: the files like /etc/hosts.
    """

    def __init__(self, answers: Answers, said: Callable[[str, str], None]) -> None:
        self._answers = answers
        self.hosts = Hosts(said)
        self._files = Files(said)

    def use(self, blocks: Mapping[bytes, Block]) -> None:
        """Answer by these from now on."""
        self.hosts.use({zone: block.hosts for zone, block in blocks.items()})
        self._files.use({zone: tuple(block.file) for zone, block in blocks.items()})
        self._answers.ahead = self if self.hosts or self._files else None
        self._answers.clear()

    def answer(self, question: Question) -> Reply | None:
        """Return what the files say about a name; None: they have nothing to say."""
        found = self.hosts.answer(question)
        if found is None:
            found = self._files.answer(question)
        if found is None:
            return None
        signing = self._answers.signing
        if signing is not None and found.zone in signing.signers:
            found = replace(found, zone=b"")  # these are not the store's data, and stay unsigned
        return self.completed(found, question)

    def completed(self, reply: Reply, question: Question) -> Reply:
        """Return a reply whose alias leads out of its zone, with what we know of the target."""
        for _ in range(_LINKS):
            target = reply.outside.lower()
            if not target:
                break
            asked = Question(target, question.rtype, question.rclass)
            made = self._files.answer(asked)
            if made is None and zone_of(target, self._answers.policy):
                served, policy = self._answers.served, self._answers.policy
                stored = answer(asked, served, policy, self._answers.now())
                made = stored if isinstance(stored, Reply) else None
            if made is None or made.rcode == rrs.SERVFAIL:
                break
            reply = replace(
                reply.joined(question, {(reply.outside, question.rtype): made.answer}), outside=made.outside,
                reads=(*reply.reads, *made.reads, target), expires=min(reply.expires, made.expires),
            )  # fmt: skip
        return reply

    @property
    def zones(self) -> Mapping[bytes, Zone]:
        """The zones of master files, by folded name."""
        return self._files.zones

    async def run(self) -> Never:
        """Read files anew that have changed."""
        while True:
            pauses = (*self.hosts.pauses, *self._files.pauses)
            await asyncio.sleep(min(pauses, default=_PAUSE))
            await self.look()

    async def look(self) -> None:
        """Read the files that have changed."""
        if any([await self.hosts.look(), await self._files.look()]):
            self._answers.clear()

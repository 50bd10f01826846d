# SPDX-License-Identifier: Apache-2.0
"""What comes of a question, before it is octets: a Reply, or that others have to be asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from skydns import rrs
from skydns.rrs import RR, Question
from skydns.shown import rrsets

Wanted = tuple[bytes, int]
"""A name outside our zones, and the type that is asked about it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, complete but for the question's own header bits and EDNS.

    Attributes:
        zone: the zone it comes from, b"" for none; negative answers carry its SOA.
        reads: folded names it depends on.
        expires: on the monotonic clock, when a TTL in it becomes wrong.
        outside: a name outside our zones that the chain ends at.
        absorbed: names outside, and of which of our names what they have becomes the own data: no
            alias may stand there (§4.3).
        glue: names outside that SRV or MX records show.
        trouble: an extended error code (RFC 8914) that says why; None: none.
        fixed: its SOA is of a file, so the store's serial does not go into it.
    """

    rcode: int
    authoritative: bool = True
    answer: tuple[RR, ...] = ()
    authority: tuple[RR, ...] = ()
    additional: tuple[RR, ...] = ()
    zone: bytes = b""
    reads: tuple[bytes, ...] = ()
    expires: float = math.inf
    outside: bytes = b""
    trouble: int | None = None
    fixed: bool = False
    absorbed: tuple[tuple[bytes, bytes], ...] = ()
    glue: tuple[bytes, ...] = ()

    @property
    def waits(self) -> bool:
        """Whether others may know more of it."""
        return bool(self.outside or self.absorbed or self.glue)

    def wanted(self, rtype: int) -> tuple[Wanted, ...]:
        """Return what others are to be asked about a question of this type: the answer's, then glue."""
        return (
            *(((self.outside, rtype),) if self.outside else ()),
            *((target, rtype) for target, _ in self.absorbed),
            *((target, family) for target in self.glue for family in (rrs.A, rrs.AAAA)),
        )

    def joined(self, question: Question, told: Mapping[Wanted, Sequence[RR]]) -> Reply:
        """Return the reply with what others said, as far as they did."""
        rtype = question.rtype
        answer = [*self.answer, *told.get((self.outside, rtype), ())]
        for target, owner in self.absorbed:
            found = told.get((target, rtype), ())
            answer += (rr._replace(owner=owner) for rr in found if rr.rtype == rtype)
        additional = list(self.additional)
        for target in self.glue:
            additional += told.get((target, rrs.A), ())  # its aliases too, once
            additional += (rr for rr in told.get((target, rrs.AAAA), ()) if rr.rtype == rrs.AAAA)
        return replace(
            self, answer=rrsets(answer) if self.absorbed else tuple(answer),
            authority=() if answer else self.authority, additional=rrsets(additional),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Forward:
    """Not ours to answer: ask the name servers, or refuse when there are none.

    Attributes:
        reads: folded names whose coming into being would change this.
        stub: a stub zone has the name: asked for whatever forwarding is set to.
    """

    reads: tuple[bytes, ...] = ()
    stub: bool = False

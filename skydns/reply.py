# SPDX-License-Identifier: Apache-2.0
"""What comes of a question, before it is octets: a Reply, or that others have to be asked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from skydns.rrs import RR, Question


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, complete but for the question's own header bits and EDNS.

    Attributes:
        zone: the zone it comes from, b"" for none; negative answers carry its SOA.
        reads: folded names it depends on.
        expires: on the monotonic clock, when a TTL in it becomes wrong.
        outside: a name outside our zones that the chain ends at.
        absorbed: what `outside` has becomes the asked name's own: no alias may stand there.
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
    absorbed: bool = False

    def joined(self, question: Question, more: Iterable[RR]) -> Reply:
        """Return the reply with what is known of `outside`."""
        if not self.absorbed:
            return replace(self, answer=(*self.answer, *more))
        own = tuple(rr._replace(owner=question.name) for rr in more if rr.rtype == question.rtype)
        return replace(self, answer=own, authority=() if own else self.authority)


@dataclass(frozen=True, slots=True)
class Forward:
    """Not ours to answer: ask the name servers, or refuse when there are none.

    Attributes:
        reads: folded names whose coming into being would change this.
        stub: a stub zone has the name: asked for whatever forwarding is set to.
    """

    reads: tuple[bytes, ...] = ()
    stub: bool = False

# SPDX-License-Identifier: Apache-2.0
"""What the CHAOS class tells of this server (specs/skydns.md §8). Pure."""

from __future__ import annotations

from skydns import rrs
from skydns.policy import Policy
from skydns.reply import Reply
from skydns.rrs import RR, Question
from skydns.shown import character_strings


def answer(question: Question, policy: Policy) -> Reply:
    """Return what the CHAOS class knows of us (§8)."""
    texts = {
        b"\x07version\x04bind\0": (policy.version,),
        b"\x07version\x06server\0": (policy.version,),
        b"\x08hostname\x04bind\0": (policy.host,),
        b"\x02id\x06server\0": (policy.host,),
        b"\x07authors\x04bind\0": policy.authors,
    }
    found = tuple(filter(None, texts.get(question.name, ())))
    if question.rtype not in {rrs.TXT, rrs.ANY} or not found:
        return Reply(rrs.REFUSED, authoritative=False)
    return Reply(
        rrs.NOERROR,
        answer=tuple(
            RR(question.name, rrs.TXT, 0, character_strings(text.encode()[:255]), rclass=rrs.CHAOS)
            for text in found
        ),
    )

# SPDX-License-Identifier: Apache-2.0
"""One query answered by way of the rules that rewrite: `skydns.rewrite` changes, others answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import dnslib

from skydns import message, rrs
from skydns.message import Query
from skydns.rewrite import Change, joined

Inner = Callable[[bytes, bytes], Awaitable[bytes]]
"""Answers a query; takes EDNS options for name servers that have to be asked; b"": no answer."""

_UNREADABLE: Final = (dnslib.DNSError, ValueError, IndexError)


async def reply(change: Change, query: Query, data: bytes, inner: Inner, *, udp: bool) -> bytes:
    """Return the reply to a changed query, as one to the query that came; b"" for none."""
    asked = change.query(data)
    if asked is None:  # the rules made no name of it
        return message.failure(query, rrs.SERVFAIL, recursion=False)
    options = b"".join(
        code.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value
        for code, value in sorted(change.options.items())
    )
    found = await inner(asked, options)
    if not found:
        return b""
    try:
        if alias := change.redirected(found):
            at, target = alias
            kinds = message.question_end(asked) - 4
            onward = asked[: message.HEADER] + target + asked[kinds:]
            if rest := await inner(onward, options):
                found = joined(found, at, target, rest)
        whole = change.restored(found)
    except _UNREADABLE:
        return message.failure(query, rrs.SERVFAIL, recursion=False)
    limit = min(query.size, message.UDP_SIZE) if udp else message.TCP_SIZE
    return whole if len(whole) <= limit else message.truncated(data)

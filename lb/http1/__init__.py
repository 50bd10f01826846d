# SPDX-License-Identifier: Apache-2.0
r"""HTTP/1.1 messages as bytes: read strictly, rewritten by slices. No IO (RFC 9112, RFC 9110).

Theory of operation
-------------------
::

    GET /x HTTP/1.1 ⏎ Host: a ⏎ Connection: close ⏎ X-A: 1 ⏎⏎
    └─ line ──────┘└─ block: every field as "\r\nName: value" ─┘
                     │  one search finds the fields that mean something to a proxy
                     ▼
    Fields(host=b"a", kept=b"\r\nX-A: 1", close=True, …)      kept = the block less hop-by-hop fields

What goes to the next hop is put together again from `kept` and our own lines, so whatever the
peer's framing looked like, the next hop sees exactly one unambiguous message: one Content-Length
or one `Transfer-Encoding: chunked`, our own chunk sizes, no extensions.

What could be read in two ways is refused (`RemoteProtocolError`, its hint is the status): bare
CR or LF, folded lines, white space before the colon, both framings, unlike lengths, control
bytes. tests/unit/lb/test_http1.py holds the table of raw cases.

* `syntax`: what both kinds of heads are made of.  `request`, `response`: heads.
* `reader`: the heads of one connection, which mostly repeat.  `lines`: those of all connections.
* `chunks`: chunked bodies.  `own`: answers of the proxy itself.

Speed: a request's block is split into lines, and those that were read before, of whatever client,
are looked up instead of read; one possessive match checks a response's head and takes it apart.
About 5 µs for a request of 12 fields and 4 µs for a response (Python 3.11). Compiled without
re.IGNORECASE: sre tests a character set before it tries a branch, but not a case-folded literal.
docs/lb.md has the figures of the whole.
"""

from __future__ import annotations

from lb.http1.chunks import Chunks, chunk, last_chunk
from lb.http1.own import REASONS, own_response, reason_of, status_line
from lb.http1.reader import Reader
from lb.http1.request import Fields, Request, parse_request
from lb.http1.response import Response, parse_response
from lb.http1.syntax import CHUNKED, UNTIL_CLOSE, check_block, find_head, find_response

__all__ = [
    "CHUNKED",
    "REASONS",
    "UNTIL_CLOSE",
    "Chunks",
    "Fields",
    "Reader",
    "Request",
    "Response",
    "check_block",
    "chunk",
    "find_head",
    "find_response",
    "last_chunk",
    "own_response",
    "parse_request",
    "parse_response",
    "reason_of",
    "status_line",
]

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

Speed: one possessive match checks a whole head and takes it apart, one search finds the special
fields; no list of fields is ever built. About 5 µs for a request of 12 fields and 4 µs for a
response; 4 µs for one that differs from the connection's last in a few plain lines, 1.1 µs where
only the first line does (Python 3.11). Compiled without re.IGNORECASE: sre tests a character set
before it tries a branch, but not a case-folded literal. docs/lb.md has the figures of the whole.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from operator import ne
from typing import Final

from fairlead.errors import RemoteProtocolError

CHUNKED: Final = -1
"""As a body's length: framed by chunks."""
UNTIL_CLOSE: Final = -2
"""As a response body's length: up to the end of the connection."""

_TCHAR: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_REQUEST_LINE: Final = re.compile(
    rb"(" + _TCHAR + rb"{1,64}) ([!\x22$-~\x80-\xff]+) HTTP/1\.([0-9])"
)
_OTHER_VERSION: Final = re.compile(rb"[^ \r\n]+ [^ \r\n]+ HTTP/[0-9]+(?:\.[0-9]+)?")
_BLOCK: Final = rb"(?:\r\n" + _TCHAR + rb"++:[\t -~\x80-\xff]*+)*+"
# a whole head in one call; what it does not match is read again, slowly, to say why
_REQUEST_HEAD: Final = re.compile(
    rb"(" + _TCHAR + rb"{1,64}+) ([!\x22$-~\x80-\xff]++) HTTP/1\.([0-9])(" + _BLOCK + rb")"
)
_RESPONSE_HEAD: Final = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9][0-9])((?: [\t -~\x80-\xff]*+)?+)(" + _BLOCK + rb")"
)
_BAD_LINE: Final = re.compile(rb"\r\n(?!" + _TCHAR + rb"++:)")
_TEXT: Final = bytes([9, 10, 13, *range(32, 127), *range(128, 256)])
_ABSOLUTE: Final = re.compile(rb"[hH][tT][tT][pP][sS]?://([^/?#@\\]*)([/?].*)?", re.DOTALL)
_HOST: Final = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+(?:%25[\w.~-]+)?\]|[\w.~!$&'()*+,;=%-]*)(?::[0-9]{0,5})?", re.ASCII
)
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")


def _names(*names: str) -> bytes:
    """Return an alternation of field names in any case, for the search after CRLF."""
    return "|".join(
        "".join(f"[{c.upper()}{c.lower()}]" if c.isalpha() else f"[{c}]" for c in name)
        for name in names
    ).encode()


_SPECIAL_NAME: Final = (
    rb"(?:"
    + _names(
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
    + rb"|[Xx][-_](?:[Ff][Oo][Rr][Ww][Aa][Rr][Dd][Ee][Dd][-_](?:"
    + _names("for", "proto", "host", "port", "server")
    + rb")|[Rr][Ee][Aa][Ll][-_][Ii][Pp]))"
)
_REQUEST_SPECIAL: Final = re.compile(rb"\r\n(?=[CcEeHhKkPpTtUuXx])(" + _SPECIAL_NAME + rb"):")
_PLAIN_LINE: Final = re.compile(
    rb"(?!" + _SPECIAL_NAME + rb":)" + _TCHAR + rb"++:[\t -~\x80-\xff]*+"
)
_RESPONSE_SPECIAL: Final = re.compile(
    rb"\r\n(?=[CcDdKkPpTtUu])("
    + _names(
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
    + rb"):"
)
# never dropped because a Connection field names them: the sender could strip what others rely on
# (specs/vulcand.md §8, V11)
_END_TO_END: Final = frozenset(
    b"accept accept-encoding authorization cache-control content-encoding content-length content-type "
    b"cookie date expect host origin referer set-cookie transfer-encoding user-agent via www-authenticate".split()
)
_HOP: Final = frozenset({b"keep-alive", b"close", b"upgrade", b"te", b"http2-settings"})


class Fields:
    """What a request's header block says.

    Attributes:
        host: the Host field's value as sent; None when there is none.
        kept: the block without Host, hop-by-hop, framing and forwarding fields.
        length: bytes of the body, or CHUNKED.
        sized: whether a Content-Length was given.
        keep_alive: whether a `keep-alive` token was given.
        upgrade: the Upgrade field's value if Connection asks for it, else b"".
        forwarded: lower-cased name → values of the forwarding fields as received.
    """

    __slots__ = (
        "block",
        "close",
        "expect",
        "forwarded",
        "host",
        "keep_alive",
        "kept",
        "length",
        "lines",
        "nominated",
        "sized",
        "special",
        "te",
        "upgrade",
    )

    def __init__(self) -> None:
        self.block = b""
        self.host: bytes | None = None
        self.kept = b""
        self.length = 0
        self.sized = False
        self.close = False
        self.keep_alive = False
        self.expect = False
        self.te = False
        self.nominated = False  # a Connection field named fields of its own
        self.upgrade = b""
        self.forwarded: dict[bytes, list[bytes]] | None = None
        # for `_like`: the block's lines, and which of them mean something to a proxy, last first
        self.lines: list[bytes] | None = None
        self.special: tuple[int, ...] = ()

    def value(self, name: str) -> bytes:
        """Return the first value of a field of any name, b"" when absent; for Header() routes."""
        found = re.search(
            rb"\r\n" + re.escape(name.encode()) + rb":([^\r]*)", self.block, re.IGNORECASE
        )
        return found[1].strip(b" \t") if found else b""


class Request:
    """A request's head.

    Attributes:
        target: origin-form, or `*`; as sent, byte for byte.
        minor: 0 or 1 of HTTP/1.x (a higher one counts as 1).
        host: the authority asked for: the absolute-form's, else the Host field; b"" for none.
        path: the target's path without query; `/` when empty.
    """

    __slots__ = ("fields", "host", "method", "minor", "path", "target")

    def __init__(
        self, method: bytes, target: bytes, minor: int, fields: Fields, host: bytes, path: bytes
    ) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.fields = fields
        self.host = host
        self.path = path

    @property
    def websocket(self) -> bool:
        """Whether it asks for an upgrade that is granted: a websocket, without a body."""
        fields = self.fields
        return (
            fields.upgrade != b""
            and self.method == b"GET"
            and self.minor == 1
            and b"websocket" in fields.upgrade.lower()
            and not fields.length
        )


def find_head(data: bytes | bytearray, limit: int, start: int = 0) -> int:
    """Return where the head's closing CRLF CRLF begins, -1 when more bytes are needed.

    Args:
        start: where to search from: up to 3 bytes before what is new.

    Raises:
        RemoteProtocolError: longer than `limit`, or a bare LF or NUL shows that none will come.
    """
    end = data.find(b"\r\n\r\n", start)
    if end > limit or (end < 0 and len(data) > limit):
        raise RemoteProtocolError("the head is too long", 431)
    if end < 0:
        if start and data[start : start + 1] == b"\n":
            start -= 1  # else half a CRLF would be taken for a bare LF
        if data.count(b"\n", start) != data.count(b"\r\n", start):
            raise RemoteProtocolError("a line ends in a bare LF", 400)
    return end


def find_response(data: bytes, limit: int) -> int:
    """Return what `find_head` does, of a server's bytes.

    Raises:
        RemoteProtocolError: too long, a bare LF, or no HTTP/1 at all: who speaks something else
            first is not waited for.
    """
    end = find_head(data, limit)
    if end < 0 and not b"HTTP/1.".startswith(data[:7]):
        raise RemoteProtocolError("no HTTP/1 response", 502)
    return end


def parse_request(data: bytes, end: int, last: Fields | None = None) -> Request:
    """Return the head in data[:end], where `end` is what `find_head` gave.

    Args:
        last: the previous request's fields on this connection. A keep-alive client mostly repeats
            its header block, and to compare 400 bytes takes 0.03 µs where reading them takes 2.

    Raises:
        RemoteProtocolError: refused; `hint` is the status.
    """
    fields = None
    at = -1
    if last is not None:
        at = data.find(b"\r\n")
        block = data[at:end]
        fields = last if last.block == block else _like(last, block)
    if fields is not None:
        found = _REQUEST_LINE.fullmatch(data, 0, at)
        if found is None:
            raise _refusal(data[:end])
        method, target, digit = found.groups()
    else:
        found = _REQUEST_HEAD.fullmatch(data, 0, end)
        if found is None:
            raise _refusal(data[:end])
        method, target, digit, block = found.groups()
        fields = _read_fields(block)
    minor = 0 if digit == b"0" else 1
    if minor:
        if fields.host is None:
            raise RemoteProtocolError("no Host field", 400)
    elif fields.length == CHUNKED:
        raise RemoteProtocolError("Transfer-Encoding in HTTP/1.0", 400)
    host = fields.host or b""
    if method == b"CONNECT":  # in any form: a server that took it would make a tunnel of the rest
        raise RemoteProtocolError("CONNECT is not served here", 501)
    if target[:1] != b"/":
        target, authority = _other_form(method, target)
        if authority is not None:
            host = authority
    query = target.find(b"?")
    path = target if query < 0 else target[:query]
    return Request(method, target, minor, fields, host, path or b"/")


def _refusal(head: bytes) -> RemoteProtocolError:
    """Return what is wrong with a head that is no request."""
    line, _, _ = head.partition(b"\r\n")
    if _REQUEST_LINE.fullmatch(line) is None:
        if _OTHER_VERSION.fullmatch(line) and not _is_version_1(line):
            return RemoteProtocolError("unsupported protocol version", 505)
        return RemoteProtocolError("malformed request line", 400)
    try:
        check_block(head[len(line) :])
    except RemoteProtocolError as error:
        return error
    return RemoteProtocolError("malformed field line", 400)


def _is_version_1(line: bytes) -> bool:
    return re.fullmatch(rb"HTTP/1\.[0-9]", line.rpartition(b" ")[2]) is not None


def _other_form(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """Return (origin-form, authority) of an absolute-form or asterisk-form target."""
    if target == b"*":
        if method != b"OPTIONS":
            raise RemoteProtocolError("target * is for OPTIONS only", 400)
        return target, None
    found = _ABSOLUTE.fullmatch(target)
    if found is None or not found[1] or not _HOST.fullmatch(found[1]):
        raise RemoteProtocolError("malformed request target", 400)
    rest = found[2] or b""
    return (rest if rest[:1] == b"/" else b"/" + rest), found[1]


def check_block(block: bytes) -> None:
    """Refuse a block of fields that could be read in two ways.

    Raises:
        RemoteProtocolError: with what is wrong.
    """
    lines = block.count(b"\r\n")
    if block.count(b"\n") != lines or block.count(b"\r") != lines:
        raise RemoteProtocolError("a bare CR or LF in a field", 400)
    if block.translate(None, _TEXT):
        raise RemoteProtocolError("a control byte in a field", 400)
    if _BAD_LINE.search(block) is not None:
        raise RemoteProtocolError("malformed field line", 400)


def _read_fields(block: bytes) -> Fields:
    """Return what a request's fields say; the block's form has been checked."""
    fields = Fields()
    fields.block = block
    kept = []
    at = 0
    length: bytes | None = None
    coded = False
    nominated: set[bytes] = set()
    upgrade = b""
    te = b""
    for found in _REQUEST_SPECIAL.finditer(block):
        start = found.start()
        stop = block.find(b"\r\n", start + 2)
        if stop < 0:
            stop = len(block)
        if start > at:
            kept.append(block[at:start])
        at = stop
        value = block[found.end() : stop].strip(b" \t")
        name = found[1].lower()
        if name == b"host":
            if fields.host is not None:
                raise RemoteProtocolError("more than one Host field", 400)
            if not _HOST.fullmatch(value):
                raise RemoteProtocolError("malformed Host field", 400)
            fields.host = value
        elif name == b"connection":
            value = value.lower()
            if value == b"keep-alive":
                fields.keep_alive = True
            else:
                nominated.update(token.strip(b" \t") for token in value.split(b","))
        elif name == b"content-length":
            length = _one_length(length, value)
        elif name == b"transfer-encoding":
            if coded:
                raise RemoteProtocolError("more than one Transfer-Encoding", 400)
            _only_chunked(value)
            coded = True
        elif name == b"expect":
            if value.lower() != b"100-continue":
                raise RemoteProtocolError("unknown expectation", 417)
            fields.expect = True
        elif name == b"upgrade":
            upgrade = value
        elif name == b"te":
            te = value
        elif name[:1] == b"x" and b"_" not in name:
            # an underscored double is dropped and not heard: CGI and WSGI fold the two
            if fields.forwarded is None:
                fields.forwarded = {}
            fields.forwarded.setdefault(name, []).append(value)
    fields.kept = b"".join(kept) + block[at:] if at else block
    if length is not None:
        if coded:
            raise RemoteProtocolError("both Content-Length and Transfer-Encoding", 400)
        fields.length = int(length)
        fields.sized = True
    elif coded:
        fields.length = CHUNKED
    fields.te = b"trailers" in te.lower()  # whether or not Connection names it, as the original
    if nominated:
        fields.close = b"close" in nominated
        fields.keep_alive = fields.keep_alive or b"keep-alive" in nominated
        if b"upgrade" in nominated:
            fields.upgrade = upgrade
        nominated -= _HOP
        if nominated:
            fields.nominated = True
            fields.kept = _without(fields.kept, nominated)
    return fields


_MOST_NEW: Final = 3


def _like(last: Fields, block: bytes) -> Fields | None:
    """Return the fields of a block that differs from the last one by a few plain lines, else None.

    About 4 µs where reading all of it takes 5.
    """
    before = last.lines
    if before is None:
        if last.nominated:
            return None
        before = last.lines = last.block.split(b"\r\n")
        last.special = tuple(
            i for i, line in enumerate(before) if i and not _PLAIN_LINE.fullmatch(line)
        )[::-1]
    lines = block.split(b"\r\n")
    if len(lines) != len(before):
        return None
    differs = list(map(ne, lines, before))
    if differs.count(True) > _MOST_NEW:
        return None
    at = -1
    for _ in range(differs.count(True)):
        at = differs.index(True, at + 1)
        if at in last.special or not _PLAIN_LINE.fullmatch(lines[at]):
            return None
    fields = Fields.__new__(Fields)
    fields.block = block
    fields.lines = lines.copy()
    for at in last.special:
        del lines[at]
    fields.kept = b"\r\n".join(lines)
    fields.special = last.special
    fields.host = last.host
    fields.length = last.length
    fields.sized = last.sized
    fields.close = last.close
    fields.keep_alive = last.keep_alive
    fields.expect = last.expect
    fields.te = last.te
    fields.nominated = False
    fields.upgrade = last.upgrade
    fields.forwarded = last.forwarded
    return fields


def _one_length(before: bytes | None, value: bytes) -> bytes:
    """Return the one length that all Content-Length values name (RFC 9112 §6.3, case 5)."""
    for part in value.split(b","):
        number = part.strip(b" \t")
        if not _LENGTH.fullmatch(number):
            raise RemoteProtocolError("malformed Content-Length", 400)
        if before is not None and int(before) != int(number):
            raise RemoteProtocolError("unlike Content-Lengths", 400)
        before = number
    if before is None:
        raise RemoteProtocolError("malformed Content-Length", 400)
    return before


def _only_chunked(value: bytes) -> None:
    if value.lower() != b"chunked":
        known = all(re.fullmatch(_TCHAR + rb"+", c.strip(b" \t")) for c in value.split(b","))
        repeated = value.lower().replace(b" ", b"").split(b",").count(b"chunked") > 1
        raise RemoteProtocolError(
            "unsupported transfer encoding", 501 if known and not repeated else 400
        )


def _without(block: bytes, names: set[bytes]) -> bytes:
    """Return a block less the fields that a Connection field named, but never an end-to-end one."""
    lines = block.split(b"\r\n")
    return b"\r\n".join(
        line
        for line in lines
        if (name := line.partition(b":")[0].lower()) not in names or name in _END_TO_END
    )


class Response:
    """A response's head.

    Attributes:
        line: the status line without CRLF, its version made 1.1.
        kept: the fields that go on to the client, each as CRLF and its text; Content-Length among
            them when `length` is one.
        length: bytes of the body, CHUNKED or UNTIL_CLOSE.
        keep: whether the connection may be used again after the body.
        dated: whether there is a Date.
    """

    __slots__ = ("dated", "keep", "kept", "length", "line", "sized", "status", "upgrade")

    def __init__(self, status: int, line: bytes) -> None:
        self.status = status
        self.line = line
        self.kept = b""
        self.length = UNTIL_CLOSE
        self.keep = True
        self.dated = False
        self.sized = False
        self.upgrade = b""


def parse_response(data: bytes, end: int, method: bytes) -> Response:
    """Return the head in data[:end] of an answer to a request of `method`.

    Raises:
        RemoteProtocolError: the server's message could be read in two ways; hint 502.
    """
    found = _RESPONSE_HEAD.fullmatch(data, 0, end)
    if found is None:
        raise RemoteProtocolError("malformed head of a response", 502)
    minor, code, reason, block = found.groups()
    status = int(code)
    response = Response(status, b"HTTP/1.1 " + code + reason)
    keep = minor == b"1"
    kept = []
    at = 0
    length: bytes | None = None
    coded = False
    nominated: set[bytes] = set()
    upgrade = b""
    for special in _RESPONSE_SPECIAL.finditer(block):
        start = special.start()
        stop = block.find(b"\r\n", start + 2)
        if stop < 0:
            stop = len(block)
        name = special[1].lower()
        if name == b"date":
            response.dated = True
            continue
        if start > at:
            kept.append(block[at:start])
        at = stop
        value = block[special.end() : stop].strip(b" \t")
        if name == b"content-length":
            if length is None and value.isdigit() and len(value) < 19:
                length = value
                continue
            try:
                length = _one_length(length, value)
            except RemoteProtocolError as error:
                raise RemoteProtocolError(str(error), 502) from error
        elif name == b"connection":
            value = value.lower()
            if value == b"keep-alive":
                keep = True
            else:
                nominated.update(token.strip(b" \t") for token in value.split(b","))
        elif name == b"transfer-encoding":
            if coded or value.lower() != b"chunked":
                raise RemoteProtocolError("unsupported transfer encoding", 502)
            coded = True
        elif name == b"upgrade":
            upgrade = value
    if at:
        kept.append(block[at:])
        response.kept = b"".join(kept)
    else:
        response.kept = block
    if nominated:
        if b"close" in nominated:
            keep = False
        elif b"keep-alive" in nominated:
            keep = True
        if b"upgrade" in nominated:
            response.upgrade = upgrade
        nominated -= _HOP
        if nominated:
            response.kept = _without(response.kept, nominated)
    bodiless = method == b"HEAD" or status < 200 or status in (204, 304)
    if length is not None:
        if coded:
            raise RemoteProtocolError("both Content-Length and Transfer-Encoding", 502)
        if status >= 200 and status != 204:  # RFC 9110 §8.6: there it must not be
            response.sized = True
            response.kept += b"\r\nContent-Length: " + length
        response.length = int(length)
    elif coded:
        response.length = CHUNKED
    if bodiless:
        response.length = 0
    elif response.length == UNTIL_CLOSE:
        keep = False
    response.keep = keep
    return response


_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t -~\x80-\xff]*)?")
_CHUNK_LINE_LIMIT: Final = 4096
_TRAILER_LIMIT: Final = 16384
# what a trailer may not say (RFC 9110 §6.5.1): framing, routing, authentication, our own lines
_NO_TRAILER: Final = frozenset(
    b"age authorization cache-control connection content-encoding content-length content-range "
    b"content-type cookie date expires host keep-alive location max-forwards pragma proxy-authenticate "
    b"proxy-authorization proxy-connection range retry-after set-cookie te trailer transfer-encoding "
    b"upgrade vary warning www-authenticate x-forwarded-for x-forwarded-host x-forwarded-port "
    b"x-forwarded-proto x-forwarded-server x-real-ip".split()
)


class Chunks:
    """Reads a chunked body; extensions are dropped, trailers kept apart.

    Attributes:
        done: the last chunk and the trailers have been read.
        rest: after `done`, the bytes that belong to the next message.
        trailers: each as CRLF and its text.
    """

    __slots__ = ("_buffer", "_hint", "_left", "_state", "done", "rest", "trailers")

    _LINE, _DATA, _CLOSE, _TRAILER = range(4)

    def __init__(self, hint: int = 400) -> None:
        self._hint = hint
        self._state = self._LINE
        self._left = 0
        self._buffer = b""
        self.done = False
        self.rest = b""
        self.trailers = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take in bytes; return the pieces of body they hold, none of them empty.

        Raises:
            RemoteProtocolError: not chunked framing; the hint is the one given.
        """
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        out: list[bytes] = []
        at = 0
        size = len(data)
        while at < size:
            if self._state == self._DATA:
                piece = data[at : at + self._left]
                out.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = self._CLOSE
            elif self._state == self._CLOSE:
                if size - at < 2 and data[at:] == b"\r":
                    self._buffer = data[at:]
                    return out
                if data[at : at + 2] != b"\r\n":
                    raise RemoteProtocolError("a chunk is longer than its size", self._hint)
                at += 2
                self._state = self._LINE
            elif self._state == self._LINE:
                end = self._line_end(data, at, _CHUNK_LINE_LIMIT)
                if end < 0:
                    return out
                found = _CHUNK_LINE.fullmatch(data, at, end)
                if found is None:
                    raise RemoteProtocolError("malformed chunk size", self._hint)
                self._left = int(found[1], 16)
                at = end + 2
                self._state = self._DATA if self._left else self._TRAILER
            else:
                end = self._line_end(data, at, _TRAILER_LIMIT)
                if end < 0:
                    return out
                if end == at:
                    self.done = True
                    self.rest = data[end + 2 :]
                    return out
                self._trailer(b"\r\n" + data[at:end])
                at = end + 2
        return out

    def _line_end(self, data: bytes, at: int, limit: int) -> int:
        end = data.find(b"\r\n", at)
        if end < 0:
            rest = data[at:]
            if len(rest) > limit or b"\n" in rest or b"\r" in rest[:-1]:
                raise RemoteProtocolError("malformed line in a chunked body", self._hint)
            self._buffer = rest
        elif end - at > limit:
            raise RemoteProtocolError("a line too long in a chunked body", self._hint)
        return end

    def _trailer(self, line: bytes) -> None:
        try:
            check_block(line)
        except RemoteProtocolError as error:
            raise RemoteProtocolError(str(error), self._hint) from error
        if line[2:].partition(b":")[0].lower() not in _NO_TRAILER:
            self.trailers += line
        if len(self.trailers) > _TRAILER_LIMIT:
            raise RemoteProtocolError("too many trailers", self._hint)


def chunk(data: bytes) -> bytes:
    """Return one chunk that holds `data`, which must not be empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: bytes = b"") -> bytes:
    """Return the end of a chunked body; `trailers` as `Chunks` gives them."""
    return b"0" + trailers + b"\r\n\r\n"


REASONS: Final = {
    400: b"Bad Request",
    404: b"Not Found",
    408: b"Request Timeout",
    413: b"Request Entity Too Large",
    417: b"Expectation Failed",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}


def status_line(status: int) -> bytes:
    """Return the status line of a response of the proxy itself, without CRLF."""
    return b"HTTP/1.1 %d %b" % (status, reason_of(status))


def reason_of(status: int) -> bytes:
    """Return the words for a status; "Status" for one that nobody registered."""
    try:
        return REASONS.get(status) or HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Status"


def own_response(
    status: int,
    body: bytes | None = None,
    *,
    content_type: bytes = b"text/plain; charset=utf-8",
    date: bytes = b"",
    close: bool = False,
    minor: int = 1,
    head_only: bool = False,
    fields: bytes = b"",
) -> bytes:
    """Return a whole response of the proxy itself (specs/vulcand.md §9); default body: the reason."""
    reason = reason_of(status)
    if body is None:
        body = reason
    connection = (
        b"\r\nConnection: close" if close else b"\r\nConnection: keep-alive" if not minor else b""
    )
    if status in (204, 304):
        return b"HTTP/1.1 %d %b%b%b%b\r\n\r\n" % (
            status, reason, fields, b"\r\nDate: " + date if date else b"", connection,
        )  # fmt: skip
    return b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d%b%b%b\r\n\r\n%b" % (
        status,
        reason,
        content_type,
        len(body),
        fields,
        b"\r\nDate: " + date if date else b"",
        connection,
        b"" if head_only else body,
    )

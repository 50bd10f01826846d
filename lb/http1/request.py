# SPDX-License-Identifier: Apache-2.0
"""A request's head, read strictly. No IO (RFC 9112 §3, §5, §6)."""

from __future__ import annotations

import re
from typing import Final

from fairlead.errors import RemoteProtocolError
from lb.http1 import lines
from lb.http1.syntax import (
    CHUNKED,
    HOP,
    TCHAR,
    check_block,
    names_in_any_case,
    one_length,
    without,
)

_REQUEST_LINE: Final = re.compile(
    rb"(" + TCHAR + rb"{1,64}) ([!\x22$-~\x80-\xff]+) HTTP/1\.([0-9])"
)
_OTHER_VERSION: Final = re.compile(rb"[^ \r\n]+ [^ \r\n]+ HTTP/[0-9]+(?:\.[0-9]+)?")
_ABSOLUTE: Final = re.compile(rb"[hH][tT][tT][pP][sS]?://([^/?#@\\]*)([/?].*)?", re.DOTALL)
_HOST: Final = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+(?:%25[\w.~-]+)?\]|[\w.~!$&'()*+,;=%-]*)(?::[0-9]{0,5})?", re.ASCII
)

_SPECIAL_NAME: Final = (
    rb"(?:"
    + names_in_any_case(
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
    + names_in_any_case("for", "proto", "host", "port", "server")
    + rb")|[Rr][Ee][Aa][Ll][-_][Ii][Pp]))"
)
# one line: a field that means something to a proxy, or any other
_LINE: Final = re.compile(
    rb"(?:(?=[CcEeHhKkPpTtUuXx])(" + _SPECIAL_NAME + rb"):|" + TCHAR + rb"++:)([\t -~\x80-\xff]*+)"
)
_PLAIN_LINE: Final = re.compile(
    rb"(?!" + _SPECIAL_NAME + rb":)" + TCHAR + rb"++:[\t -~\x80-\xff]*+"
)


MOST_FIELDS: Final = 1000
"""Fields of a request; a head of a megabyte could hold 200,000, and cost a fifth of a second."""


def is_plain(line: bytes) -> bool:
    """Say whether a line is a field that means nothing to a proxy."""
    return _PLAIN_LINE.fullmatch(line) is not None


class Fields:
    """What a request's fields say to a proxy.

    Attributes:
        host: the Host field's value as sent; None when there is none.
        length: bytes of the body, or CHUNKED.
        sized: whether a Content-Length was given.
        keep_alive: whether a `keep-alive` token was given.
        nominated: whether a Connection field named fields of its own.
        upgrade: the Upgrade field's value if Connection asks for it, else b"".
        forwarded: lower-cased name → values of the forwarding fields as received.
    """

    __slots__ = (
        "close",
        "expect",
        "forwarded",
        "host",
        "keep_alive",
        "length",
        "nominated",
        "sized",
        "te",
        "upgrade",
    )

    def __init__(self) -> None:
        self.host: bytes | None = None
        self.length = 0
        self.sized = False
        self.close = False
        self.keep_alive = False
        self.expect = False
        self.te = False
        self.nominated = False
        self.upgrade = b""
        self.forwarded: dict[bytes, list[bytes]] | None = None


class Request:
    """A request's head.

    Attributes:
        target: origin-form, or `*`; as sent, byte for byte.
        minor: 0 or 1 of HTTP/1.x (a higher one counts as 1).
        host: the authority asked for: the absolute-form's, else the Host field; b"" for none.
        path: the target's path without query; `/` when empty.
        block: the fields as received, each as CRLF and its text.
        kept: the same without Host, hop-by-hop, framing and forwarding fields.
    """

    __slots__ = ("block", "fields", "host", "kept", "method", "minor", "path", "target")

    def __init__(
        self,
        method: bytes,
        target: bytes,
        minor: int,
        fields: Fields,
        host: bytes,
        path: bytes,
        block: bytes = b"",
        kept: bytes = b"",
    ) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.fields = fields
        self.host = host
        self.path = path
        self.block = block
        self.kept = kept

    def value(self, name: str) -> bytes:
        """Return the first value of a field of any name, b"" when absent; for Header() routes."""
        found = re.search(
            rb"\r\n" + re.escape(name.encode()) + rb":([^\r]*)", self.block, re.IGNORECASE
        )
        return found[1].strip(b" \t") if found else b""

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


def parse_request(data: bytes, end: int) -> Request:
    """Return the head in data[:end], where `end` is what `find_head` gave.

    Raises:
        RemoteProtocolError: refused; `hint` is the status.
    """
    at = data.find(b"\r\n", 0, end)
    if at < 0:
        at = end
    found = _REQUEST_LINE.fullmatch(data, 0, at)
    if found is None:
        raise _refusal(data[:end])
    method, target, digit = found.groups()
    block = data[at:end]
    if block.count(b"\n") > MOST_FIELDS:
        raise RemoteProtocolError("too many fields", 431)
    fields, kept = _read_fields(block)
    return _request(method, target, digit, fields, block, kept)


def with_fields(data: bytes, at: int, fields: Fields, block: bytes, kept: bytes) -> Request:
    """Return the head whose first line is data[:at] and whose fields are known.

    Raises:
        RemoteProtocolError: as `parse_request`.
    """
    found = _REQUEST_LINE.fullmatch(data, 0, at)
    if found is None:
        raise _refusal(data[:at] + block)
    method, target, digit = found.groups()
    host = fields.host
    if host is None or digit != b"1" or target[:1] != b"/" or method == b"CONNECT":
        return _request(method, target, digit, fields, block, kept)
    query = target.find(b"?")
    path = target if query < 0 else target[:query]
    return Request(method, target, 1, fields, host, path, block, kept)


def _request(
    method: bytes, target: bytes, digit: bytes, fields: Fields, block: bytes, kept: bytes
) -> Request:
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
    return Request(method, target, minor, fields, host, path or b"/", block, kept)


def _refusal(head: bytes) -> RemoteProtocolError:
    """Return what is wrong with a head that is no request."""
    line, _, _ = head.partition(b"\r\n")
    if _OTHER_VERSION.fullmatch(line) and not _is_version_1(line):
        return RemoteProtocolError("unsupported protocol version", 505)
    return RemoteProtocolError("malformed request line", 400)


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


def _read_fields(block: bytes) -> tuple[Fields, bytes]:
    """Return what a request's fields say, and what is kept of the block."""
    fields = Fields()
    kept = block.split(b"\r\n")
    length: bytes | None = None
    coded = False
    nominated: set[bytes] = set()
    upgrade = b""
    te = b""
    odd = [line for line in kept if line not in lines.plain]
    for line in odd[1:]:  # the first is what stands before the first CRLF: nothing
        told = lines.special.get(line) or _told(line)
        if told is None:
            continue
        kept.remove(line)
        name, value = told
        if name == b"host":
            if fields.host is not None:
                raise RemoteProtocolError("more than one Host field", 400)
            fields.host = value
        elif name == b"connection":
            value = value.lower()
            if value == b"keep-alive":
                fields.keep_alive = True
            else:
                nominated.update(token.strip(b" \t") for token in value.split(b","))
        elif name == b"content-length":
            length = one_length(length, value)
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
    left = b"\r\n".join(kept)
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
        nominated -= HOP
        if nominated:
            fields.nominated = True
            left = without(left, nominated)
    return fields, left


def _told(line: bytes) -> tuple[bytes, bytes] | None:
    """Return name and value of a line that means something to a proxy, None for another.

    Raises:
        RemoteProtocolError: it is no field.
    """
    found = _LINE.fullmatch(line)
    if found is None:
        check_block(b"\r\n" + line)
        raise RemoteProtocolError("malformed field line", 400)
    name, value = found.groups()
    if name is None:
        lines.note_plain(line)
        return None
    name, value = name.lower(), value.strip(b" \t")
    if name == b"host" and not _HOST.fullmatch(value):
        raise RemoteProtocolError("malformed Host field", 400)
    lines.note_special(line, name, value)
    return name, value


def _only_chunked(value: bytes) -> None:
    if value.lower() != b"chunked":
        known = all(re.fullmatch(TCHAR + rb"+", c.strip(b" \t")) for c in value.split(b","))
        repeated = value.lower().replace(b" ", b"").split(b",").count(b"chunked") > 1
        raise RemoteProtocolError(
            "unsupported transfer encoding", 501 if known and not repeated else 400
        )

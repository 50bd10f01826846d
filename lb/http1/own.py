# SPDX-License-Identifier: Apache-2.0
"""Answers of the proxy itself (specs/vulcand.md §9). No IO."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

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

# SPDX-License-Identifier: Apache-2.0
"""trace: a line of JSON to syslog for each request (specs/vulcand.md §4.5)."""

from __future__ import annotations

import os
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec

from fairlead.flags import Kind, Setting, Values
from lb.fields import Fields, Invalid
from lb.middleware import Answer, Exchange, Link, Reply
from lb.middleware import values as header_values
from lb.middleware.types import Type
from lb.syslog import FACILITIES, SEVERITIES, Syslog


def syslog(address: str) -> tuple[Syslog, str]:
    """Return the socket that an address names, and the prefix of its lines; raises Invalid."""
    try:
        parts = urlsplit(address)
        port = parts.port or 514
    except ValueError as error:
        raise Invalid(f"trace address '{address}': {error}") from error
    if parts.scheme != "syslog":
        raise Invalid(f"unsupported trace address '{address}': syslog://… is wanted")
    asked = {name: found[-1] for name, found in parse_qs(parts.query).items()}
    facility = asked.get("f", "LOG_LOCAL0").removeprefix("LOG_")
    severity = asked.get("sev", "DEBUG").removeprefix("LOG_")
    if facility not in FACILITIES:
        raise Invalid(f"unsupported facility: {asked.get('f')}")
    if severity not in SEVERITIES:
        raise Invalid(f"unsupported severity: {asked.get('sev')}")
    host, path = parts.hostname or "", parts.path if not parts.hostname else ""
    priority = FACILITIES[facility] * 8 + SEVERITIES[severity]
    return Syslog(host, port, path, priority, f"pid[{os.getpid()}]"), asked.get("prefix", "@cee: ")


class Trace(Link):
    """Writes when the head of the answer is known."""

    __slots__ = ("_prefix", "_request", "_response", "_to")

    def __init__(
        self, to: Syslog, prefix: str, request: tuple[str, ...], response: tuple[str, ...]
    ) -> None:
        self._to = to
        self._prefix = prefix
        self._request = request
        self._response = response

    def on_request(self, exchange: Exchange) -> Reply | None:
        """Note what the client asked for: links further in may change it."""
        exchange.notes[self] = exchange.target
        return None

    def on_response(self, exchange: Exchange, answer: Answer) -> None:
        """Write the line."""
        asked: dict[str, Any] = {
            "method": exchange.method.decode("latin-1"),
            "body_bytes": _number(exchange.header("Content-Length"), exchange.length),
            "url": exchange.notes[self].decode("utf-8", "replace"),
        }
        if self._request:
            asked["headers"] = {
                n: found for n in self._request if (found := _words(exchange.headers(n)))
            }
        if exchange.tls is not None:
            asked["tls"] = exchange.tls
        told: dict[str, Any] = {
            "code": answer.status,
            "roundtrip": (exchange.now - exchange.begun) * 1000,
        }
        if self._response:
            told["headers"] = {
                n: found
                for n in self._response
                if (found := _words(header_values(answer.fields, n)))
            }
        told["body_bytes"] = max(0, answer.length)
        self._to.send(
            self._prefix + msgspec.json.encode({"request": asked, "response": told}).decode()
        )

    def retire(self) -> None:
        """Close the socket."""
        self._to.close()


def _number(text: bytes, length: int) -> int:
    return int(text) if text.isdigit() else max(0, length)


def _words(found: list[bytes]) -> list[str]:
    return [value.decode("utf-8", "replace") for value in found]


def _make(fields: Fields) -> Link:
    to, prefix = syslog(fields.text("Addr"))
    return Trace(to, prefix, fields.texts("ReqHeaders"), fields.texts("RespHeaders"))


def _body(values: Values) -> dict[str, Any]:
    return {
        "Addr": values.text("addr"),
        "ReqHeaders": list(values.many("reqHeader")),
        "RespHeaders": list(values.many("respHeader")),
    }


TYPE: Final = Type(
    _make,
    (
        Setting("addr", help="Address of syslog: syslog://HOST:PORT?f=LOG_LOCAL0&sev=INFO, syslog:///PATH or syslog://."),
        Setting("reqHeader", Kind.REPEAT, help="A request's header to write; may be repeated."),
        Setting("respHeader", Kind.REPEAT, help="A response's header to write; may be repeated."),
    ),
    _body,
    zeros={"ReqHeaders": None, "RespHeaders": None, "Addr": ""},
)  # fmt: skip

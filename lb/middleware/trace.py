# SPDX-License-Identifier: Apache-2.0
"""trace: a line of JSON to syslog for each request (specs/vulcand.md §4.5)."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec

from fairlead.flags import Kind, Setting, Values
from lb.fields import Fields, Invalid
from lb.middleware import Answer, Exchange, Link, Reply
from lb.middleware import values as header_values
from lb.middleware.types import Type

FACILITIES: Final = {
    "KERN": 0, "USER": 1, "MAIL": 2, "DAEMON": 3, "AUTH": 4, "SYSLOG": 5, "LPR": 6, "NEWS": 7,
    "UUCP": 8, "CRON": 9, "AUTHPRIV": 10, "FTP": 11, **{f"LOCAL{n}": 16 + n for n in range(8)},
}  # fmt: skip
SEVERITIES: Final = {
    "EMERG": 0, "ALERT": 1, "CRIT": 2, "ERR": 3, "WARNING": 4, "NOTICE": 5, "INFO": 6, "DEBUG": 7,
}  # fmt: skip
_LOCAL: Final = ("/dev/log", "/var/run/syslog", "/var/run/log")


class Syslog:
    """A syslog socket; a line that cannot be sent at once is dropped."""

    def __init__(self, host: str, port: int, path: str, priority: int, tag: str) -> None:
        self._server = host, port
        self._path = path
        self._network = bool(host)
        self._priority = priority
        self._tag = tag
        self._socket: socket.socket | None = None

    def send(self, text: str) -> None:
        """Send a line."""
        if self._network:
            stamp = datetime.now().astimezone().isoformat(timespec="seconds")
            head = f"<{self._priority}>{stamp} {socket.gethostname()} {self._tag}: "
        else:
            now = time.localtime()
            head = f"<{self._priority}>{time.strftime('%b', now)} {now.tm_mday:2d} {time.strftime('%H:%M:%S', now)} {self._tag}: "
        try:
            if self._socket is None:
                self._socket = self._open()
            self._socket.send((head + text + "\n").encode())
        except OSError:
            self.close()

    def _open(self) -> socket.socket:
        family = socket.AF_UNIX
        places: tuple[Any, ...] = (self._path,) if self._path else _LOCAL
        if self._network:
            family, *_, address = socket.getaddrinfo(*self._server, type=socket.SOCK_DGRAM)[0]
            places = (address,)
        refused: OSError = FileNotFoundError("no syslog socket")
        for place in places:
            sock = socket.socket(family, socket.SOCK_DGRAM)
            sock.setblocking(False)
            try:
                sock.connect(place)
            except OSError as error:
                sock.close()
                refused = error
                continue
            return sock
        raise refused

    def close(self) -> None:
        """Close the socket; the next line opens it anew."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
        self._socket = None


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
)  # fmt: skip

# SPDX-License-Identifier: Apache-2.0
"""Our own types, as plug-ins by entry point: header, cors, basicauth, ipallow.

header     {"Request":{"Set":{…},"Add":{…},"Remove":[…]},"Response":{…}}
cors       {"Origins":["https://a.example.org"],"Methods":["GET"],"Headers":[…],"Expose":[…],"Credentials":false,"MaxAge":"1h"}
basicauth  {"Realm":"staff","Users":{"ann":"sha256:…"}}        sha256 of the password in hex, or the password
ipallow    {"Networks":["10.0.0.0/8"],"Deny":["10.9.0.0/16"]}
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
from typing import Any, Final

from fairlead.duration import format_seconds
from fairlead.flags import Kind, Setting, Values
from lb.fields import Fields, Invalid
from lb.middleware import Answer, Exchange, Link, Reply, line
from lb.middleware.auth import credentials
from lb.middleware.types import Type

_FRAMING: Final = frozenset(
    ("connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
)  # fmt: skip
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


# ---------------------------------------------------------------------- header


class _Edit:
    """What to do to a block of lines: `put`, then `add`, then `drop`."""

    __slots__ = ("_add", "_drop", "_put")

    def __init__(self, fields: Fields) -> None:
        self._put = tuple(_pairs(fields, "Set"))
        self._add = tuple(_pairs(fields, "Add"))
        self._drop = fields.texts("Remove")
        for name in self._drop:
            _allowed(name, "")

    def __call__(self, what: Exchange | Answer) -> None:
        for name, value in self._put:
            what.put(name, value)
        for name, value in self._add:
            what.add(name, value)
        for name in self._drop:
            what.drop(name)


def _pairs(fields: Fields, name: str) -> list[tuple[str, str]]:
    found = fields.get(name, dict, {})
    for field, value in found.items():
        if not isinstance(value, str):
            raise Invalid(f"{name}.{field}: a string is wanted")
        _allowed(field, value)
    return list(found.items())


def _allowed(name: str, value: str) -> None:
    if name.lower() in _FRAMING:
        raise Invalid(f'"{name}" belongs to the connection, not to the message')
    try:
        line(name, value)
    except ValueError as error:
        raise Invalid(str(error)) from error


class Header(Link):
    """Sets, adds and removes fields."""

    __slots__ = ("_request", "_response")

    def __init__(self, request: _Edit, response: _Edit) -> None:
        self._request = request
        self._response = response

    def on_request(self, exchange: Exchange) -> Reply | None:
        """Change what the server gets."""
        self._request(exchange)
        return None

    def on_response(self, exchange: Exchange, answer: Answer) -> None:
        """Change what the client gets."""
        self._response(answer)


def _header(fields: Fields) -> Link:
    return Header(_Edit(fields.object("Request")), _Edit(fields.object("Response")))


def _header_body(values: Values) -> dict[str, Any]:
    def side(prefix: str) -> dict[str, Any]:
        return {
            "Set": dict(_split(text) for text in values.many(f"{prefix}Set")),
            "Add": dict(_split(text) for text in values.many(f"{prefix}Add")),
            "Remove": list(values.many(f"{prefix}Remove")),
        }

    return {"Request": side("request"), "Response": side("response")}


def _split(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise Invalid(f'"{text}": NAME: VALUE is wanted')
    return name.strip(), value.strip()


HEADER: Final = Type(
    _header,
    tuple(
        Setting(f"{side}{verb}", Kind.REPEAT, help=f"{words} of the {side}; may be repeated.")
        for side in ("request", "response")
        for verb, words in (
            ("Set", "Replace a field (NAME: VALUE)"),
            ("Add", "Add a field (NAME: VALUE)"),
            ("Remove", "Remove a field (NAME)"),
        )
    ),
    _header_body,
)


# ---------------------------------------------------------------------- cors


class Cors(Link):
    """Answers preflights and marks answers for other origins (Fetch standard)."""

    __slots__ = ("_allow", "_any", "_credentials", "_expose", "_headers", "_origins")

    def __init__(self, fields: Fields) -> None:
        origins = fields.texts("Origins")
        if not origins:
            raise Invalid("Origins: at least one is wanted")
        self._origins = frozenset(origin.encode() for origin in origins)
        self._credentials = fields.flag("Credentials")
        self._any = "*" in origins
        if self._any and self._credentials:
            raise Invalid('Origins: "*" does not go with Credentials')
        methods = fields.texts("Methods") or ("GET", "HEAD", "POST")
        allow = line("Access-Control-Allow-Methods", ", ".join(methods))
        self._headers = fields.texts("Headers")
        if self._headers:
            allow += line("Access-Control-Allow-Headers", ", ".join(self._headers))
        age = fields.seconds("MaxAge")
        if age:
            allow += line("Access-Control-Max-Age", str(int(age)))
        self._allow = allow
        expose = fields.texts("Expose")
        self._expose = line("Access-Control-Expose-Headers", ", ".join(expose)) if expose else b""
        for origin in origins:
            line("Origin", origin)

    def _mark(self, origin: bytes) -> bytes:
        if not origin or not (self._any or origin in self._origins):
            return b""
        lines = line("Access-Control-Allow-Origin", "*" if self._any else origin.decode("latin-1"))
        if not self._any:
            lines += line("Vary", "Origin")
        if self._credentials:
            lines += line("Access-Control-Allow-Credentials", "true")
        return lines

    def on_request(self, exchange: Exchange) -> Reply | None:
        """Answer a preflight."""
        if exchange.method == b"OPTIONS" and exchange.header("Access-Control-Request-Method"):
            mark = self._mark(exchange.header("Origin"))
            return Reply(204, fields=mark + self._allow if mark else b"") if mark else Reply(403)
        return None

    def on_response(self, exchange: Exchange, answer: Answer) -> None:
        """Mark the answer."""
        mark = self._mark(exchange.header("Origin"))
        if mark:
            answer.drop("Access-Control-Allow-Origin")
            answer.fields += mark + self._expose


def _cors_body(values: Values) -> dict[str, Any]:
    return {
        "Origins": list(values.many("origin")),
        "Methods": list(values.many("method")),
        "Headers": list(values.many("header")),
        "Expose": list(values.many("expose")),
        "Credentials": values.flag("credentials"),
        "MaxAge": format_seconds(values.seconds("maxAge")),
    }


CORS: Final = Type(
    Cors,
    (
        Setting(
            "origin", Kind.REPEAT, help="An origin that may read answers, or *; may be repeated."
        ),
        Setting("method", Kind.REPEAT, help="A method it may use; may be repeated."),
        Setting("header", Kind.REPEAT, help="A request's header it may send; may be repeated."),
        Setting("expose", Kind.REPEAT, help="A response's header it may read; may be repeated."),
        Setting("credentials", Kind.BOOL, False, "Whether cookies may be sent."),
        Setting("maxAge", Kind.DURATION, 0.0, "How long a preflight may be remembered."),
    ),
    _cors_body,
)


# ---------------------------------------------------------------------- basicauth


class BasicAuth(Link):
    """401 without a known user and password."""

    __slots__ = ("_challenge", "_users")

    def __init__(self, fields: Fields) -> None:
        users = fields.get("Users", dict, {})
        if not users or not all(isinstance(secret, str) and secret for secret in users.values()):
            raise Invalid("Users: names and passwords are wanted")
        self._users = {name.encode(): _digest(secret) for name, secret in users.items()}
        realm = fields.text("Realm") or "restricted"
        self._challenge = line("WWW-Authenticate", f"Basic realm={json.dumps(realm)}")

    def on_request(self, exchange: Exchange) -> Reply | None:
        """Let known users pass."""
        user, password = credentials(exchange) or (b"", b"")
        good = hmac.compare_digest(
            hashlib.sha256(password).digest(), self._users.get(user, b"\0" * 32)
        )
        return (
            None
            if good and user in self._users
            else Reply(401, b"Unauthorized", fields=self._challenge)
        )


def _digest(secret: str) -> bytes:
    if not secret.startswith("sha256:"):
        return hashlib.sha256(secret.encode()).digest()
    try:
        digest = bytes.fromhex(secret.removeprefix("sha256:"))
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise Invalid("Users: sha256: wants 64 hexadecimal digits")
    return digest


BASICAUTH: Final = Type(
    BasicAuth,
    (
        Setting("realm", Kind.STR, "restricted", "What browsers show."),
        Setting("user", Kind.REPEAT, help="NAME:PASSWORD or NAME:sha256:HEX; may be repeated."),
    ),
    lambda values: {"Realm": values.text("realm"), "Users": dict(_split(u) for u in values.many("user"))},
    guards=True,
)  # fmt: skip


# ---------------------------------------------------------------------- ipallow


class IpAllow(Link):
    """403 for clients from elsewhere; who is denied is denied even where allowed."""

    __slots__ = ("_allow", "_deny", "_known")

    def __init__(self, fields: Fields) -> None:
        self._allow = _networks(fields.texts("Networks"))
        self._deny = _networks(fields.texts("Deny"))
        if not self._allow and not self._deny:
            raise Invalid("Networks: at least one is wanted")
        self._known: dict[bytes, bool] = {}

    def on_request(self, exchange: Exchange) -> Reply | None:
        """Look at the address of the connection, never at a header."""
        good = self._known.get(exchange.client)
        if good is None:
            if len(self._known) > 4096:
                self._known.clear()
            good = self._known[exchange.client] = self._judge(exchange.client)
        return None if good else Reply(403, b"Forbidden")

    def _judge(self, client: bytes) -> bool:
        try:
            address = ipaddress.ip_address(client.decode("latin-1"))
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        if any(address in network for network in self._deny):
            return False
        return not self._allow or any(address in network for network in self._allow)


def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(text, strict=False) for text in texts)
    except ValueError as error:
        raise Invalid(f"Networks: {error}") from error


IPALLOW: Final = Type(
    IpAllow,
    (
        Setting("network", Kind.REPEAT, help="A network whose clients may pass; may be repeated."),
        Setting("deny", Kind.REPEAT, help="A network whose clients may not; may be repeated."),
    ),
    lambda values: {"Networks": list(values.many("network")), "Deny": list(values.many("deny"))},
    guards=True,
)

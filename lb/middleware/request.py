# SPDX-License-Identifier: Apache-2.0
"""`.Request` as a rewrite's templates see it: Go's *http.Request (specs/vulcand.md §4.6)."""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import parse_qs, unquote

from fairlead.gotemplate import Func, Struct
from fairlead.gotemplate.values import ANY, STRING, Int64
from lb.middleware import Exchange


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


class Header(Struct):
    """http.Header: only asked by name."""

    __slots__ = ("_exchange",)
    GO_TYPE = "http.Header"

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def get(self, name: str) -> str:
        """Return the first value, "" when absent."""
        return _text(self._exchange.header(name))

    METHODS: ClassVar = {"Get": Func(get, (ANY, STRING))}


class Query(Struct):
    """url.Values."""

    __slots__ = ("_raw",)
    GO_TYPE = "url.Values"

    def __init__(self, raw: str) -> None:
        self._raw = raw

    def get(self, name: str) -> str:
        """Return the first value, "" when absent."""
        return parse_qs(self._raw, keep_blank_values=True).get(name, [""])[0]

    METHODS: ClassVar = {"Get": Func(get, (ANY, STRING))}


class Url(Struct):
    """*url.URL of a server's request: path and query."""

    __slots__ = ("Path", "RawQuery")
    GO_TYPE = "*url.URL"
    FIELDS = ("Path", "RawQuery")

    def __init__(self, target: str) -> None:
        path, _, self.RawQuery = target.partition("?")
        self.Path = unquote(path, errors="surrogateescape")

    def query(self) -> Query:
        """Return the parsed query."""
        return Query(self.RawQuery)

    METHODS: ClassVar = {"Query": Func(query, (ANY,))}


class Request(Struct):
    """*http.Request."""

    __slots__ = (
        "ContentLength",
        "Header",
        "Host",
        "Method",
        "Proto",
        "RemoteAddr",
        "RequestURI",
        "URL",
    )
    GO_TYPE = "*http.Request"
    FIELDS = (
        "Method",
        "URL",
        "Proto",
        "Header",
        "ContentLength",
        "Host",
        "RemoteAddr",
        "RequestURI",
    )

    def __init__(self, exchange: Exchange) -> None:
        self.Method = _text(exchange.method)
        self.RequestURI = _text(exchange.target)
        self.URL = Url(self.RequestURI)
        self.Proto = f"HTTP/1.{exchange.minor}"
        self.Header = Header(exchange)
        self.ContentLength = Int64(exchange.length)
        self.Host = _text(exchange.host)
        self.RemoteAddr = _text(exchange.client)

    def form_value(self, name: str) -> str:
        """Return a value of the query; bodies are not read here."""
        return self.URL.query().get(name)

    def user_agent(self) -> str:
        """Return the User-Agent."""
        return self.Header.get("User-Agent")

    def referer(self) -> str:
        """Return the Referer."""
        return self.Header.get("Referer")

    METHODS: ClassVar = {
        "FormValue": Func(form_value, (ANY, STRING)),
        "UserAgent": Func(user_agent, (ANY,)),
        "Referer": Func(referer, (ANY,)),
    }


class Data(Struct):
    """The dot of a rewrite's templates."""

    __slots__ = ("Request",)
    GO_TYPE = "*rewrite.data"
    FIELDS = ("Request",)

    def __init__(self, exchange: Exchange) -> None:
        self.Request = Request(exchange)

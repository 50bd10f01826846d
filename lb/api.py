# SPDX-License-Identifier: Apache-2.0
"""The admin API, v2, with vulcand's JSON (specs/vulcand.md §10).

Reads come from the catalog: the objects in force. A write (`lb.apiwriter`) goes to etcd and is
answered when our own mirror has seen it and the data plane has followed, so that who writes and
then asks, or sends a request, finds what it wrote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from fairlead.duration import parse_seconds
from fairlead.log import LEVELS as NUMBERS
from fairlead.runtime import Runtime
from lb import explain, openapi, reading, records, top, writing
from lb.apiserver import BODY_LIMIT, Refused, json, middlewares
from lb.apiwriter import Writer
from lb.catalog import Catalog
from lb.config import Access
from lb.explain import Verdict
from lb.keys import Kind, Ref
from lb.masking import Masking
from lb.pieces import pieces
from lb.records import Record
from lb.route.match import Query
from lb.sealing import Sealing
from lb.settings import LEVELS
from lb.stats import Stats
from lb.writing import Look

_EMPTY_ID: Final = {
    Kind.HOST: "Hostname can not be empty",
    Kind.LISTENER: "listener id can not be empty",
    Kind.BACKEND: "backend id can not be empty",
    Kind.FRONTEND: "frontend id can not be empty",
    Kind.SERVER: "backend id and server id can not be empty",
    Kind.MIDDLEWARE: "frontend id and middleware id can not be empty",
}
_NAMES: Final = {
    "hosts": (Kind.HOST, "Host"),
    "listeners": (Kind.LISTENER, "Listener"),
    "backends": (Kind.BACKEND, "Backend"),
    "frontends": (Kind.FRONTEND, "Frontend"),
    "servers": (Kind.SERVER, "Server"),
    "middlewares": (Kind.MIDDLEWARE, "Middleware"),
}
_AT_ONCE: Final = 128  # objects of a list written before others have their turn: 0.5 ms
_TTL: Final = (Kind.SERVER, Kind.FRONTEND, Kind.MIDDLEWARE)


class Api:
    """The calls; `app` is what serves them."""

    def __init__(
        self,
        runtime: Runtime,
        writer: Writer,
        catalog: Catalog,
        stats: Stats,
        sealing: Sealing,
        masking: Masking,
        access: Access,
        verdict: Callable[[Query], Verdict],
    ) -> None:
        self._runtime = runtime
        self._writer = writer
        self._catalog = catalog
        self._stats = stats
        self._sealing = sealing
        self._masking = masking
        self._access = access
        self._verdict = verdict

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application(middlewares=middlewares(self._access), client_max_size=BODY_LIMIT)
        for version in ("v1", "v2"):
            app.router.add_get(f"/{version}/status", self._status)
            app.router.add_get(f"/{version}/log/severity", self._get_severity)
            app.router.add_put(f"/{version}/log/severity", self._put_severity)
            app.router.add_get(f"/{version}/openapi.json", _as_handler(self._openapi))
            app.router.add_get(f"/{version}/top/frontends", _as_handler(self._top_frontends))
            app.router.add_get(f"/{version}/top/servers", _as_handler(self._top_servers))
            app.router.add_get(f"/{version}/route", _as_handler(self._route))
            for plural in ("hosts", "listeners", "backends", "frontends"):
                self._object(app, f"/{version}/{plural}", plural)
            self._object(app, f"/{version}/backends/{{parent}}/servers", "servers")
            self._object(app, f"/{version}/frontends/{{parent}}/middlewares", "middlewares")
        return app

    def _object(self, app: web.Application, path: str, plural: str) -> None:
        async def listed(request: web.Request) -> object:
            parent = request.match_info.get("parent", "")
            return await self._list(plural, parent, self._shown(request))

        async def shown(request: web.Request) -> object:
            return writing.tree(self._found(_ref(plural, request)), self._shown(request))

        async def written(request: web.Request) -> object:
            return await self._write(plural, request)

        async def deleted(request: web.Request) -> object:
            return await self._delete(_ref(plural, request))

        app.router.add_get(path, _as_handler(listed))
        app.router.add_post(path, _as_handler(written))
        app.router.add_get(f"{path}/{{id}}", _as_handler(shown))
        app.router.add_delete(f"{path}/{{id}}", _as_handler(deleted))

    # reading

    async def _status(self, request: web.Request) -> web.Response:
        return json({"Status": "ok"})

    async def _get_severity(self, request: web.Request) -> web.Response:
        return json({"severity": _severity_of(self._runtime)})

    async def _put_severity(self, request: web.Request) -> web.Response:
        form = await request.post()
        name = str(form.get("severity", "")).lower()
        if name not in LEVELS:
            raise Refused(400, f'not a valid logrus Level: "{name}"')  # the original's words
        name = "warning" if name == "warn" else name
        _set_severity(self._runtime, LEVELS[name])
        return json({"message": f"Severity has been updated to {name}"})

    def _shown(self, request: web.Request) -> Look:
        """Return how keys are shown: the private key only to a caller who may and asks for it."""
        asked = request.query.get("keys", "").lower()
        if asked not in ("", "0", "1", "true", "false"):
            raise Refused(400, "keys: true or false is wanted")
        if asked in ("", "0", "false"):
            return self._masking.masked
        if not self._access.guarded:
            raise Refused(
                403,
                "private keys are shown only where the API asks for a token or a client certificate",
            )
        return self._masking.whole

    async def _openapi(self, request: web.Request) -> object:
        return openapi.description()

    async def _top_frontends(self, request: web.Request) -> object:
        limit, backend = _limit(request), request.query.get("backendId", "")
        return top.frontends(self._stats, self._catalog, limit, backend)

    async def _top_servers(self, request: web.Request) -> object:
        limit, backend = _limit(request), request.query.get("backendId", "")
        return top.servers(self._stats, self._catalog, limit, backend)

    async def _route(self, request: web.Request) -> object:
        try:
            asked = explain.query(
                request.query.get("method") or "GET", request.query.get("url", ""), {}
            )
        except ValueError as error:
            raise Refused(400, str(error)) from error
        verdict = self._verdict(asked)
        return {
            "Frontend": verdict.winner.id if verdict.winner else None,
            "Route": verdict.winner.route if verdict.winner else None,
            "Backend": verdict.winner.pool if verdict.winner else None,
            "Why": verdict.why,
            "Shadowed": [{"Id": one.id, "Route": one.route} for one in verdict.shadowed],
        }

    async def _list(self, plural: str, parent: str, look: Look) -> object:
        kind, _ = _NAMES[plural]
        objects: Mapping[str, Record]
        catalog = self._catalog
        match kind:
            case Kind.HOST:
                objects = catalog.hosts
            case Kind.LISTENER:
                objects = catalog.listeners
            case Kind.BACKEND:
                objects = catalog.backends
            case Kind.FRONTEND:
                objects = catalog.frontends
            case Kind.SERVER:
                self._backend(parent)
                objects = catalog.servers.get(parent, {})
            case Kind.MIDDLEWARE:
                self._wanted(Kind.FRONTEND, parent)
                objects = catalog.middlewares.get(parent, {})
        trees: list[object] = []
        # 10,000 at once: 40 ms for requests to wait
        for names in pieces(sorted(objects), _AT_ONCE):
            trees += [writing.tree(objects[name], look) for name in names if name in objects]
            await asyncio.sleep(0)
        return {plural.capitalize(): trees}

    def _wanted(self, kind: Kind, name: str) -> None:
        """Refuse what belongs to an object that is not there."""
        self._found(Ref(kind, name), f"Key not found: {kind} '{name}'")

    def _found(self, ref: Ref, refusal: str = "Key not found") -> Record:
        record = self._catalog.get(ref)
        if record is None:
            raise Refused(404, refusal)
        return record

    def _backend(self, name: str) -> None:
        """Refuse a backend that neither has a key nor servers."""
        if name not in self._catalog.servers:
            self._wanted(Kind.BACKEND, name)

    # writing

    async def _write(self, plural: str, request: web.Request) -> object:
        kind, envelope = _NAMES[plural]
        body = _folded(_decode(await request.read()) or {})
        tree = body.get(envelope.lower())
        if tree is None:
            raise Refused(400, f"Missing mandatory parameter: {envelope}")
        parent = request.match_info.get("parent", "")
        name = _folded(tree).get("name" if kind is Kind.HOST else "id") or ""
        if not isinstance(name, str):
            raise Refused(400, f"{envelope}: the id is no string")
        if not name:
            raise Refused(400, _EMPTY_ID[kind])
        if "/" in name:
            raise Refused(400, f'{kind} id "{name}": no / may be in it')
        ref = Ref(kind, name, parent)
        old = self._catalog.get(ref)
        tree = self._masking.unmasked(kind, tree, old)
        record = self._sealing.sealed(reading.build(ref, tree), old)
        if isinstance(record, records.Frontend):
            self._backend(record.backend)
        elif kind is Kind.SERVER:
            self._wanted(Kind.BACKEND, parent)
        elif kind is Kind.MIDDLEWARE:
            self._wanted(Kind.FRONTEND, parent)
        await self._writer.put(record, _seconds(body.get("ttl")) if kind in _TTL else 0.0)
        return writing.tree(record, self._masking.masked)

    async def _delete(self, ref: Ref) -> object:
        self._found(ref, "object not found")
        await self._writer.delete(ref)
        if ref.kind is Kind.HOST:
            return {"message": f"Host '{ref.id}' deleted"}
        return {"message": f"{ref.kind.capitalize()} deleted"}


def _limit(request: web.Request) -> int | None:
    text = request.query.get("limit", "")
    if not text:
        return None
    try:
        limit = int(text)
    except ValueError as error:
        raise Refused(400, f"limit: {text!r} is no integer") from error
    return limit if limit > 0 else None


def _ref(plural: str, request: web.Request) -> Ref:
    return Ref(_NAMES[plural][0], request.match_info["id"], request.match_info.get("parent", ""))


def _decode(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"malformed JSON: {error}") from error


def _folded(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(400, "malformed JSON: an object is wanted")
    return {str(name).lower(): item for name, item in value.items()}


def _seconds(value: object) -> float:
    if value is None or value == "":
        return 0.0
    try:
        seconds = parse_seconds(value) if isinstance(value, str) else -1.0
    except ValueError as error:
        raise Refused(400, f"bad TTL: {error}") from error
    if seconds < 0:
        raise Refused(400, f"bad TTL: {value}")
    return seconds


def _as_handler(
    call: Callable[[web.Request], Awaitable[object]],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(request: web.Request) -> web.StreamResponse:
        return json(await call(request))

    return handler


def _severity_of(runtime: Runtime) -> str:
    level = runtime.log.sink.level
    return next(name for name, number in NUMBERS.items() if number == level)


def _set_severity(runtime: Runtime, level: str) -> None:
    runtime.log.sink.level = NUMBERS[level]

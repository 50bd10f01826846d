# SPDX-License-Identifier: Apache-2.0
"""The admin API, v2, with vulcand's JSON (specs/vulcand.md §10).

Reads come from the catalog: the objects in force. A write goes to etcd and is answered when our
own mirror has seen it and the data plane has followed, so that who writes and then asks, or sends
a request, finds what it wrote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import msgspec
from aiohttp import web

from fairlead.duration import parse_seconds
from fairlead.etcd.mirror import Mirror
from fairlead.etcd.types import NO_LEASE, Delete, KeyRange, Revision
from fairlead.log import LEVELS as NUMBERS
from fairlead.runtime import Runtime
from lb import desired, explain, keys, openapi, records, stats, writing
from lb.apiserver import BODY_LIMIT, Refused, json, middlewares
from lb.catalog import Catalog
from lb.certificates import fault
from lb.config import Access
from lb.explain import Verdict
from lb.fields import Invalid
from lb.keys import Kind, Ref
from lb.middleware import breaker
from lb.records import Record
from lb.route.match import Query
from lb.secret import Box, Pair, Sealed, opened
from lb.settings import LEVELS
from lb.stats import Stats

_SEEN: Final = 5.0  # seconds until a write is back through the mirror
_FOLLOWED: Final = 1.0  # seconds until the data plane has taken it over
_EMPTY_ID: Final = {
    Kind.HOST: "hostname can not be empty",
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
_TTL: Final = (Kind.SERVER, Kind.FRONTEND, Kind.MIDDLEWARE)


class Api:
    """The calls; `app` is what serves them."""

    def __init__(
        self,
        runtime: Runtime,
        mirrors: Mapping[str, Mirror],
        catalog: Catalog,
        followed: Callable[[], Awaitable[None]],
        stats: Stats,
        box: Box | None,
        access: Access,
        verdict: Callable[[Query], Verdict],
    ) -> None:
        self._runtime = runtime
        self._mirrors = mirrors
        self._catalog = catalog
        self._followed = followed
        self._stats = stats
        self._box = box
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
            return self._list(plural, request.match_info.get("parent", ""), self._shown(request))

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
            raise Refused(400, f'not a valid log level: "{name}"')
        name = "warning" if name == "warn" else name
        _set_severity(self._runtime, LEVELS[name])
        return json({"message": f"Severity has been updated to {name}"})

    def _shown(self, request: web.Request) -> Callable[[Pair], object]:
        """Return how key pairs are shown: the private key only to a caller who may and asks for it."""
        asked = request.query.get("keys", "").lower()
        if asked not in ("", "0", "1", "true", "false"):
            raise Refused(400, "keys: true or false is wanted")
        if asked in ("", "0", "false"):
            return self._masked
        if not self._access.guarded:
            raise Refused(
                403,
                "private keys are shown only where the API asks for a token or a client certificate",
            )
        return self._whole

    def _masked(self, pair: Pair) -> object:
        try:
            clear = opened(pair, self._box)
        except Invalid as error:
            return {"Key": "", "Cert": "", "Fault": str(error)}
        cert = clear.tree()["Cert"]
        return {"Key": "", "Cert": cert, "KeyFingerprint": clear.fingerprint}

    def _whole(self, pair: Pair) -> object:
        return opened(pair, self._box).tree()

    async def _openapi(self, request: web.Request) -> object:
        return openapi.description()

    async def _top_frontends(self, request: web.Request) -> object:
        limit, backend = _limit(request), request.query.get("backendId", "")
        now = self._stats.now()
        found = {
            name: figures
            for name, figures in self._stats.frontends.items()
            if (record := self._catalog.frontends.get(name)) is not None
            and (not backend or backend not in self._catalog.backends or record.backend == backend)
        }
        names = sorted(found, key=lambda name: (stats.rank(found[name], now), name))[:limit]
        return {
            "Frontends": [
                {
                    **writing.tree(self._catalog.frontends[name]),
                    "Stats": stats.tree(found[name], now),
                }
                for name in names
            ]
        }

    async def _top_servers(self, request: web.Request) -> object:
        limit, backend = _limit(request), request.query.get("backendId", "")
        one = backend if backend in self._catalog.servers else ""
        now = self._stats.now()
        found = {
            place: figures
            for place, figures in self._stats.servers.items()
            if place[1] in self._catalog.servers.get(place[0], {}) and (not one or place[0] == one)
        }
        group = {name: figures for (_, name), figures in found.items()} if one else {}
        odd = stats.anomalies(group, now)
        places = sorted(found, key=lambda place: (stats.rank(found[place], now), place))[:limit]
        return {
            "Servers": [
                {
                    **writing.tree(self._catalog.servers[place[0]][place[1]]),
                    "Stats": stats.tree(found[place], now, odd.get(place[1], ())),
                }
                for place in places
            ]
        }

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

    def _list(self, plural: str, parent: str, pair: Callable[[Pair], object]) -> object:
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
                self._found(Ref(Kind.FRONTEND, parent))
                objects = catalog.middlewares.get(parent, {})
        return {
            plural.capitalize(): [writing.tree(objects[name], pair) for name in sorted(objects)]
        }

    def _found(self, ref: Ref) -> Record:
        record = self._catalog.get(ref)
        if record is None:
            raise Refused(404, "Key not found")
        return record

    def _backend(self, name: str) -> None:
        """Refuse a backend that neither has a key nor servers."""
        if name not in self._catalog.servers:
            self._found(Ref(Kind.BACKEND, name))

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
        record = self._sealed(records.build(ref, tree))
        if isinstance(record, records.Middleware) and record.type == "cbreaker":
            for trap in breaker.ambiguous(record.body):
                self._runtime.log.warning("circuit breaker", middleware=str(ref), trap=trap)
        if isinstance(record, records.Frontend):
            self._backend(record.backend)
        elif kind is Kind.SERVER:
            self._found(Ref(Kind.BACKEND, parent))
        elif kind is Kind.MIDDLEWARE:
            self._found(Ref(Kind.FRONTEND, parent))
        lease = NO_LEASE
        ttl = _seconds(body.get("ttl")) if kind in _TTL else 0
        store = self._runtime.store
        if ttl:
            lease = (await store.grant(max(1, int(ttl)))).id
        key = self._key(ref)
        done = await store.put(key, writing.encode(record), lease=lease, repeatable=True)
        await self._seen(done.header.revision, {self._root_of(key)})
        return writing.tree(record, self._masked)

    def _sealed(self, record: Record) -> Record:
        """Return a record whose key pair is sealed; refuse one that does not load."""
        if isinstance(record, records.Host):
            auto = record.auto
            if auto is not None and auto.key is not None:
                auto = replace(auto, key=self._seal_account(auto.key))
            return replace(record, pair=self._seal(record.pair), auto=auto)
        if isinstance(record, records.Backend):
            return replace(record, client=self._seal(record.client))
        return record

    def _seal(self, pair: Pair | None) -> Pair | None:
        if pair is None:
            return None
        clear = opened(pair, self._box)
        why = fault(clear)
        if why:
            raise Refused(400, why)
        if isinstance(pair, Sealed):
            return pair
        return self._sealer().seal(clear)

    def _seal_account(self, key: Pair) -> Pair:
        return key if isinstance(key, Sealed) else self._sealer().seal(key)

    def _sealer(self) -> Box:
        if self._box is None:
            raise Refused(400, "this backend does not support encryption: -sealKey is not given")
        return self._box

    async def _delete(self, ref: Ref) -> object:
        self._found(ref)
        users = self._users(ref)
        if users:
            names = ", ".join(sorted(users))
            raise Refused(409, f"can not delete {ref.kind} '{ref.id}', it is in use by {names}")
        ranges = []
        spelt = self._catalog.spellings(ref)
        for key in spelt:
            ranges.append(KeyRange(key))
            ranges += keys.below(self._root_of(key), ref)
        once = _disjoint(ranges)
        done = await self._runtime.store.txn(
            success=[Delete(keys) for keys in once], repeatable=True
        )
        await self._seen(done.header.revision, {self._root_of(key) for key in spelt})
        what = ref.kind.capitalize()
        return {
            "message": f"Host '{ref.id}' deleted" if ref.kind is Kind.HOST else f"{what} deleted"
        }

    def _users(self, ref: Ref) -> set[str]:
        """Return the frontends that would lose what they name by a delete."""
        catalog = self._catalog
        match ref.kind:
            case Kind.BACKEND:
                return {
                    name
                    for name, frontend in catalog.frontends.items()
                    if ref.id in desired.used_by(frontend)
                }
            case Kind.MIDDLEWARE:
                return set(catalog.sharers(ref))
            case Kind.FRONTEND:
                own = (Ref(Kind.MIDDLEWARE, m, ref.id) for m in catalog.middlewares.get(ref.id, {}))
                return {name for one in own for name in catalog.sharers(one)}
        return set()

    async def _seen(self, revision: Revision, roots: Iterable[str]) -> None:
        try:
            async with asyncio.timeout(_SEEN):
                for root in roots:
                    await self._mirrors[root].at_least(revision)
        except TimeoutError:
            raise Refused(503, "written, but not seen back from etcd yet") from None
        with suppress(TimeoutError):  # in etcd it is, whatever keeps the data plane
            async with asyncio.timeout(_FOLLOWED):
                await self._followed()

    def _key(self, ref: Ref) -> bytes:
        """Return where to write: over the key in force, else under the root in use."""
        spelt = self._catalog.spellings(ref)
        if spelt:
            return spelt[0]
        used = (root for root, mirror in self._mirrors.items() if mirror.data)
        return keys.build(next(used, self._catalog.roots[0]), ref)

    def _root_of(self, key: bytes) -> str:
        return next(root for root in self._catalog.roots if _under(root, key))


def _under(root: str, key: bytes) -> bool:
    return key.startswith(root.rstrip("/").encode() + b"/")


def _limit(request: web.Request) -> int | None:
    text = request.query.get("limit", "")
    if not text:
        return None
    try:
        limit = int(text)
    except ValueError as error:
        raise Refused(400, f"limit: {text!r} is no integer") from error
    return limit if limit > 0 else None


def _disjoint(ranges: list[KeyRange]) -> list[KeyRange]:
    """Return the ranges less the single keys that another holds: etcd refuses a key twice."""
    wide = {r for r in ranges if r.end}
    return [*wide, *{r for r in ranges if not r.end and not any(w.holds(r.start) for w in wide)}]


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

# SPDX-License-Identifier: Apache-2.0
"""request → the frontend whose route wins; cost independent of how many Host/Path routes there are.

Theory of operation
-------------------
vulcand's rule (specs/vulcand.md §6.2, `-routeOrder=vulcand`): sort the expressions' texts in
descending byte order, the first that matches wins. `reference` says just that, one by one.

`Index` gives the same answer from a few dictionary probes. Every route is filed once, under

    host part:  the literal host | ".suffix" of a host pattern | None
    path part:  the literal path | "/static/prefix/" of a path pattern | None

    "a.example.org" ─► "/users/" ─► [Route "Path(`/users/<id>`)…", …]   best text first
                  └──► "/x"      ─► […]
    ".example.org"  ─► …
    None            ─► None     ─► [regexps, method and header routes]

A request probes its own host, the suffixes of it that are in use, and None; in each the path, its
prefixes of the depths in use, and None. Within a bucket the first match is the bucket's best;
the best text of all buckets wins, an explicit Priority before any text. Equal texts: the smallest id (§3.3, both stay filed).

A route is put and removed in O(its bucket), so one change among 10,000 frontends costs what it
costs among ten. Invariant: match(index of R, q) == reference(R, q) for all q (property-tested).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from lb.route.order import Order, by_text
from lb.route.parse import Matcher, Route, Subject, Test, compile_matcher

Target = TypeVar("Target")


@dataclass(slots=True)  # not frozen: that makes it 0.3 µs dearer, and there is one a request
class Query:
    """What of a request routes look at.

    Attributes:
        host: lower-cased, without port.
        path: raw, without query; not empty.
        header: lower-cased name → first value, b"" when absent.
    """

    method: bytes
    host: bytes
    path: bytes
    header: Callable[[str], bytes]


Check = Callable[[Query], object]


def check(matcher: Matcher) -> Check:
    """Return the test that a matcher makes of a request."""
    literal = matcher.literal
    if literal is not None:
        wanted = literal.encode()
        test: Test = wanted.__eq__
    else:
        test = compile_matcher(matcher)
    match matcher.subject:
        case Subject.HOST:
            return lambda query: test(query.host)
        case Subject.PATH:
            return lambda query: test(query.path)
        case Subject.METHOD:
            return lambda query: test(query.method)
        case Subject.HEADER:
            name = matcher.header
            return lambda query: test(query.header(name))


def reference(
    routes: Iterable[tuple[Route, str]], query: Query, order: Order = by_text
) -> str | None:
    """Return the id of the winning route by the rule's own words; slow, for tests."""
    by_rank = sorted(routes, key=lambda pair: (order(pair[0]), pair[1]))
    for route, name in by_rank:
        if all(check(matcher)(query) for matcher in route.matchers):
            return name
    return None


def host_subject(field: bytes) -> bytes:
    """Return what Host() looks at: the field's value lower-cased, without its port.

    An IPv6 literal keeps its brackets (§6: the original cuts it at its first colon).
    """
    host = field.lower()
    if host[:1] == b"[":
        return host[: host.find(b"]") + 1] or host
    return host.partition(b":")[0]


@dataclass(slots=True)
class _Entry(Generic[Target]):
    """A filed route. `order` sorts best first: priority, the order's bytes, then id."""

    order: tuple[int, bytes, str]
    host: bytes | None
    path: bytes | None
    checks: tuple[Check, ...]
    target: Target
    headers: bool

    def __lt__(self, other: _Entry[Target]) -> bool:
        return self.order < other.order


class Index(Generic[Target]):
    """The compiled routes; `put` and `remove` between two requests, `match` for each.

    Args:
        order: which of several that match wins.
    """

    def __init__(self, order: Order = by_text) -> None:
        self._order = order
        self._entries: dict[str, _Entry[Target]] = {}
        self._hosts: dict[bytes | None, dict[bytes | None, list[_Entry[Target]]]] = {}
        self._suffixes: dict[int, int] = {}  # labels in a suffix in use → how many routes use it
        self._prefixes: dict[int, int] = {}  # slashes in a prefix in use → how many routes use it
        self._headers = 0
        self.headers = (
            False  # whether any route looks at a header; an attribute: asked twice a request
        )
        self._suffix_depths: tuple[int, ...] = ()
        self._prefix_depths: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, name: str, route: Route, target: Target, priority: int = 0) -> None:
        """File a route under `name`, in place of what that name had; a higher priority wins."""
        self.remove(name)
        host, path, rest = _file_under(route)
        entry = _Entry(
            (-priority, self._order(route), name),
            host,
            path,
            rest,
            target,
            any(matcher.subject is Subject.HEADER for matcher in route.matchers),
        )
        self._entries[name] = entry
        insort(self._hosts.setdefault(host, {}).setdefault(path, []), entry)
        self._count(entry, 1)

    def remove(self, name: str) -> None:
        """Forget the route of `name`, if there is one."""
        entry = self._entries.pop(name, None)
        if entry is None:
            return
        paths = self._hosts[entry.host]
        bucket = paths[entry.path]
        bucket.remove(entry)
        if not bucket:
            del paths[entry.path]
        if not paths:
            del self._hosts[entry.host]
        self._count(entry, -1)

    def _count(self, entry: _Entry[Target], step: int) -> None:
        if entry.headers:
            self._headers += step
            self.headers = self._headers > 0
        if entry.host is not None and entry.host[:1] == b".":
            depth = entry.host.count(b".")
            self._suffixes[depth] = self._suffixes.get(depth, 0) + step
            self._suffix_depths = tuple(sorted(d for d, n in self._suffixes.items() if n))
        if entry.path is not None and entry.path[-1:] == b"\0":
            depth = entry.path.count(b"/")
            self._prefixes[depth] = self._prefixes.get(depth, 0) + step
            self._prefix_depths = tuple(sorted(d for d, n in self._prefixes.items() if n))

    def match(self, query: Query) -> Target | None:
        """Return the target of the winning route, or None."""
        hosts = self._hosts
        best: _Entry[Target] | None = None
        paths = hosts.get(query.host)
        if paths is not None:
            best = self._in_host(paths, query, best)
        if self._suffix_depths:
            labels = query.host.split(b".")
            for depth in self._suffix_depths:
                if depth <= len(labels):
                    paths = hosts.get(b"." + b".".join(labels[len(labels) - depth :]))
                    if paths is not None:
                        best = self._in_host(paths, query, best)
        paths = hosts.get(None)
        if paths is not None:
            best = self._in_host(paths, query, best)
        return None if best is None else best.target

    def _in_host(
        self,
        paths: Mapping[bytes | None, list[_Entry[Target]]],
        query: Query,
        best: _Entry[Target] | None,
    ) -> _Entry[Target] | None:
        path = query.path
        bucket = paths.get(path)
        if bucket is not None:
            best = _first(bucket, query, best)
        if self._prefix_depths:
            parts = path.split(b"/", self._prefix_depths[-1])
            for depth in self._prefix_depths:
                if depth >= len(parts):
                    break
                bucket = paths.get(b"/".join(parts[:depth]) + b"/\0")
                if bucket is not None:
                    best = _first(bucket, query, best)
        bucket = paths.get(None)
        if bucket is not None:
            best = _first(bucket, query, best)
        return best


def _first(
    bucket: list[_Entry[Target]], query: Query, best: _Entry[Target] | None
) -> _Entry[Target] | None:
    for entry in bucket:
        if best is not None and best.order < entry.order:
            return best
        for check in entry.checks:
            if not check(query):
                break
        else:
            return entry
    return best


def _file_under(route: Route) -> tuple[bytes | None, bytes | None, tuple[Check, ...]]:
    """Return a route's bucket and what is left to check there.

    A prefix key ends in NUL, which no literal path of a request can (the head parser refuses
    it), so it never collides with a literal.
    """
    host: bytes | None = None
    path: bytes | None = None
    rest = []
    for matcher in route.matchers:
        literal = matcher.literal
        if matcher.subject is Subject.HOST and host is None and not matcher.regexp:
            if literal is not None:
                if literal[:1] != ".":
                    host = literal.encode()
                    continue
            else:
                host = _suffix(matcher.pattern)
        elif matcher.subject is Subject.PATH and path is None and not matcher.regexp:
            if literal is not None:
                path = literal.encode()
                continue
            path = _prefix(matcher.pattern)
        rest.append(check(matcher))
    return host, path, tuple(rest)


def _suffix(pattern: str) -> bytes | None:
    """Return the static labels that close a host pattern: `<x>.example.org` → b".example.org"."""
    static = pattern.rpartition(">")[2]
    dot = static.find(".")
    return static[dot:].encode() if dot >= 0 and len(static) > dot + 1 else None


def _prefix(pattern: str) -> bytes | None:
    """Return the static segments that open a path pattern: `/users/<id>` → b"/users/" and NUL."""
    static = pattern.partition("<")[0]
    slash = static.rfind("/")
    return static[: slash + 1].encode() + b"\0" if slash >= 0 else None

# SPDX-License-Identifier: Apache-2.0
"""The objects in force: one record for each object, however many keys spell it. Pure.

::

    /vulcand/frontends/f1/frontend ─┐  keys.rank: the smallest is in force
    /vulcand/frontends/f1 ──────────┼─► Ref(frontend, f1) ─► Frontend
    vulcand/frontends/f1/frontend ──┘

Nothing here depends on the order in which keys came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fairlead.errors import RecordError
from lb import keys
from lb.acme import entries
from lb.acme.entries import AccountEntry, Challenge, Entry, Failure, Issued
from lb.keys import Kind, Ref
from lb.records import (
    Backend,
    Frontend,
    Host,
    Listener,
    Middleware,
    Record,
    Server,
    Stored,
    Unguarded,
)


class Catalog:
    """Kept in step with `Records.apply`: hand its changed keys to `update`."""

    def __init__(
        self,
        roots: tuple[str, ...],
        good: Mapping[bytes, Stored],
        rejected: Mapping[bytes, RecordError] | None = None,
    ) -> None:
        self.roots = roots
        self._good = good
        self._rejected = {} if rejected is None else rejected
        self._spelt: dict[Ref, set[bytes]] = {}
        self._known: dict[bytes, Ref] = {}
        self.hosts: dict[str, Host] = {}
        self.issued: dict[str, Issued] = {}  # by host; so the next
        self.failures: dict[str, Failure] = {}
        self.challenges: dict[str, Challenge] = {}  # by the entry's name
        self.accounts: dict[str, AccountEntry] = {}  # by name
        self.listeners: dict[str, Listener] = {}
        self.backends: dict[str, Backend] = {}
        # deleted while frontends use them: record and servers serve on, as vulcand has it (§2.2)
        self.orphans: dict[str, tuple[Backend, dict[str, Server]]] = {}
        self.frontends: dict[str, Frontend] = {}
        self.servers: dict[str, dict[str, Server]] = {}
        self.middlewares: dict[str, dict[str, Middleware]] = {}
        self.unguarded: dict[str, dict[bytes, str]] = {}  # frontend → key → what it lacks
        self._shared: dict[str, set[str]] = {}  # "frontend/id" of a middleware → who shares it

    def update(self, changed: Iterable[bytes], seen: Iterable[bytes] = ()) -> frozenset[Ref]:
        """Take in keys whose record changed; return the scope that a pass has to look at.

        A server's change is its backend's, a middleware's its frontend's.

        Args:
            seen: every key of the batch, those that were rejected too.
        """
        closed = {scope_of(ref) for key in seen if (ref := self._guarded(key)) is not None}
        return self._update(changed) | closed

    def sharers(self, middleware: Ref) -> frozenset[str]:
        """Return the other frontends whose requests pass a middleware."""
        return frozenset(self._shared.get(f"{middleware.parent}/{middleware.id}", ()))

    def _guarded(self, key: bytes) -> Ref | None:
        """Note whether a middleware that must not be left out is missing."""
        if b"/middlewares/" not in key:
            return None
        try:
            ref = keys.parse(key, self.roots)
        except RecordError:
            return None
        if ref is None or ref.kind is not Kind.MIDDLEWARE:
            return None
        lacks = self.unguarded.setdefault(ref.parent, {})
        before = lacks.pop(key, None)
        error = self._rejected.get(key)
        if isinstance(error, Unguarded) and key not in self._good:
            lacks[key] = error.reason
        if not lacks:
            del self.unguarded[ref.parent]
        return ref if lacks.get(key) != before else None

    def _update(self, changed: Iterable[bytes]) -> frozenset[Ref]:
        touched = set()
        for key in changed:
            record = self._good.get(key)
            ref = record.ref if record is not None else self._known.get(key)
            if ref is None:
                continue
            spelt = self._spelt.setdefault(ref, set())
            if record is None:
                spelt.discard(key)
                self._known.pop(key, None)
            else:
                spelt.add(key)
                self._known[key] = ref
            touched.add(ref)
        lost = [
            (ref.id, self.backends[ref.id], dict(self.servers.get(ref.id, {})))
            for ref in touched
            if ref.kind is Kind.BACKEND and not self._spelt[ref] and ref.id in self.backends
        ]
        for ref in touched:
            self._settle(ref)
        scope = {scope_of(ref) for ref in touched}
        for name, record, servers in lost:
            # servers that went with it, in one transaction, serve on; those that stay say for themselves
            self.orphans[name] = record, {} if name in self.servers else servers
        scope |= self._adopt()
        for ref in touched:
            if ref.kind is Kind.MIDDLEWARE:
                scope.update(Ref(Kind.FRONTEND, name) for name in self.sharers(ref))
        return frozenset(scope)

    def _adopt(self) -> set[Ref]:
        """Let go of orphans that are back, or that no frontend uses; return what changed."""
        if not self.orphans:
            return set()
        used = {name for frontend in self.frontends.values() for name in frontend.backends}
        over = [
            name
            for name, (_, servers) in self.orphans.items()
            if name in self.backends or name not in used or (servers and name in self.servers)
        ]
        for name in over:
            del self.orphans[name]
        return {Ref(Kind.BACKEND, name) for name in over}

    def _settle(self, ref: Ref) -> None:
        spelt = self._spelt[ref]
        if spelt:
            self._put(ref, self._good[self.key(ref)])
        else:
            del self._spelt[ref]
            self._drop(ref)

    def key(self, ref: Ref) -> bytes:
        """Return the key in force of an object that exists."""
        return min(self._spelt[ref], key=lambda key: keys.rank(key, self.roots))

    def spellings(self, ref: Ref) -> tuple[bytes, ...]:
        """Return every key that holds the object, the one in force first."""
        return tuple(sorted(self._spelt.get(ref, ()), key=lambda key: keys.rank(key, self.roots)))

    def doubled(self) -> tuple[Ref, ...]:
        """Return the objects that more than one key holds."""
        return tuple(sorted(ref for ref, spelt in self._spelt.items() if len(spelt) > 1))

    def get(self, ref: Ref) -> Record | None:
        """Return the record in force of an object."""
        found = self._good[self.key(ref)] if ref in self._spelt else None
        return None if isinstance(found, Entry) else found

    def _put(self, ref: Ref, record: Stored) -> None:
        match record:
            case Host():
                self.hosts[ref.id] = record
            case Listener():
                self.listeners[ref.id] = record
            case Backend():
                self.backends[ref.id] = record
            case Frontend():
                self._share(ref.id, record)
                self.frontends[ref.id] = record
            case Server():
                self.servers.setdefault(ref.parent, {})[ref.id] = record
            case Middleware():
                self.middlewares.setdefault(ref.parent, {})[ref.id] = record
            case Issued():
                self.issued[ref.id] = record
            case Failure():
                self.failures[ref.id.removesuffix(entries.FAILED)] = record
            case Challenge():
                self.challenges[ref.id] = record
            case AccountEntry():
                self.accounts[ref.id] = record

    def _share(self, name: str, record: Frontend | None) -> None:
        """Note whose middlewares a frontend shares."""
        before = self.frontends.get(name)
        for shared in before.policy.shared if before is not None else ():
            self._shared[shared].discard(name)
            if not self._shared[shared]:
                del self._shared[shared]
        for shared in record.policy.shared if record is not None else ():
            self._shared.setdefault(shared, set()).add(name)

    def _drop(self, ref: Ref) -> None:
        match ref.kind:
            case Kind.HOST:
                self.hosts.pop(ref.id, None)
            case Kind.LISTENER:
                self.listeners.pop(ref.id, None)
            case Kind.BACKEND:
                self.backends.pop(ref.id, None)
            case Kind.FRONTEND:
                self._share(ref.id, None)
                self.frontends.pop(ref.id, None)
            case Kind.SERVER:
                _drop_child(self.servers, ref)
            case Kind.MIDDLEWARE:
                _drop_child(self.middlewares, ref)
            case Kind.ACME:
                self.issued.pop(ref.id, None)
                self.failures.pop(ref.id.removesuffix(entries.FAILED), None)
                self.challenges.pop(ref.id, None)
                self.accounts.pop(ref.id, None)


def _drop_child(
    children: dict[str, dict[str, Server]] | dict[str, dict[str, Middleware]], ref: Ref
) -> None:
    siblings = children.get(ref.parent)
    if siblings is not None:
        siblings.pop(ref.id, None)
        if not siblings:
            del children[ref.parent]


def scope_of(ref: Ref) -> Ref:
    """Return the object whose running counterpart a change of `ref` may change."""
    match ref.kind:
        case Kind.SERVER:
            return Ref(Kind.BACKEND, ref.parent)
        case Kind.MIDDLEWARE:
            return Ref(Kind.FRONTEND, ref.parent)
        case Kind.ACME if "+" not in ref.id:
            return Ref(Kind.HOST, ref.id)
        case _:
            return ref

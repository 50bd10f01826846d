# SPDX-License-Identifier: Apache-2.0
"""The keys a template reads: names to values, and who has read what. Pure.

`Tree.apply` takes a mirror's batches and says which names changed; `Reads` notes what one render
looked at, so that a change wakes only the resources it concerns.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from confd.keys import store_name
from confd.paths import BadPattern, base, clean, directory, literal_prefix, matcher
from fairlead.etcd.types import KeyValue
from fairlead.gotemplate.errors import CallError
from fairlead.gotemplate.values import Slice, Strings, Struct, Type, from_bytes, to_bytes


class KVPair(Struct):
    """A key and its value, as `get` and `gets` give them."""

    __slots__ = ("Key", "Value")
    GO_TYPE: ClassVar[str] = "memkv.KVPair"
    FIELDS: ClassVar[tuple[str, ...]] = ("Key", "Value")

    def __init__(self, key: str, value: str) -> None:
        self.Key = key
        self.Value = value


class KVPairs(Slice):
    """What `gets` gives: a named type, so `reverse` leaves it alone."""

    GO_TYPE = "memkv.KVPairs"
    ELEM = "memkv.KVPair"
    TEXT = frozenset(("Key", "Value"))


class KVList(Slice):
    """What `sortKVByLength` gives: a plain slice of pairs."""

    GO_TYPE = "[]memkv.KVPair"
    ELEM = "memkv.KVPair"
    TEXT = KVPairs.TEXT


KVPAIRS = Type("[]memkv.KVPair", frozenset((KVPairs, KVList)), zero=KVList)


@dataclass(slots=True)
class Reads:
    """What a render looked at.

    Attributes:
        names: exact names, present or not.
        prefixes: beginnings of names that a listing or pattern ran over.
        files: included files as they were, path → what tells a changed one.
        fleeting: it asked for something that no event tells of (time, name service, files).
    """

    names: set[str] = field(default_factory=set)
    prefixes: set[str] = field(default_factory=set)
    files: dict[str, object] = field(default_factory=dict)
    fleeting: bool = False

    def touched_by(self, changed: Iterable[str]) -> bool:
        """Say whether a change of these names could change what was rendered."""
        prefixes = tuple(self.prefixes)
        return any(name in self.names or name.startswith(prefixes) for name in changed)


@dataclass(frozen=True, slots=True)
class Fetch:
    """What a tree holds of one source.

    Attributes:
        source: the source's name, "" for the daemon's own.
        keys: each with all below it.
        label: what stands before the names a template uses: "" or "NAME:".
        loose: a key takes all names that begin with it, as environment variables do.
    """

    source: str
    keys: tuple[str, ...]
    label: str = ""
    loose: bool = False


class Tree:
    """The keys under a set of fetch keys, by the names templates use.

    Args:
        prefix: what the names lack of the keys of a source without label.
        fetches: fetch keys of the daemon's own source, or one `Fetch` for each source.
    """

    def __init__(self, prefix: str, fetches: Iterable[Fetch | str]) -> None:
        self.prefix = prefix
        self.reads = Reads()
        given = list(fetches)
        plain = tuple(key for key in given if isinstance(key, str))
        self.fetches = [fetch for fetch in given if isinstance(fetch, Fetch)]
        if plain:
            self.fetches.append(Fetch("", plain))
        self._holds = {fetch.source: _Holds(fetch) for fetch in self.fetches}
        self._values: dict[str, str] = {}
        self._spelt: dict[str, bytes] = {}  # name → the key it came from
        self._sorted: list[str] | None = []
        self._matched: dict[str, list[KVPair]] = {}  # pattern → pairs, until something changes

    def __len__(self) -> int:
        return len(self._values)

    def apply(self, changes: Iterable[tuple[bytes, KeyValue | None]], source: str = "") -> set[str]:
        """Take in a source's changed keys (None: deleted); return the names whose value changed."""
        holds = self._holds.get(source)
        changed: set[str] = set()
        if holds is None:
            return changed
        exact, under, label = holds.exact, holds.under, holds.fetch.label
        values, spelt = self._values, self._spelt
        prefix = "/" if label else self.prefix
        for key, kv in changes:
            if key not in exact and not key.startswith(under):
                continue
            name = label + store_name(prefix, key)
            if kv is None:
                if spelt.get(name) == key:  # `/u/v` may stand where `/u//v` went
                    del spelt[name], values[name]
                    self._sorted = None
                    changed.add(name)
                continue
            value = from_bytes(kv.value)
            if values.get(name) != value:
                if name not in values:
                    self._sorted = None
                values[name] = value
                changed.add(name)
            spelt[name] = key
        if changed and self._matched:
            self._forget(changed)
        return changed

    def _forget(self, changed: set[str]) -> None:
        """Drop the answers to patterns that a changed name may fit."""
        for pattern in tuple(self._matched):
            prefix = literal_prefix(pattern)
            if any(name.startswith(prefix) for name in changed):
                del self._matched[pattern]

    def pairs(self) -> Iterable[tuple[str, str]]:
        """Give every name and its value."""
        return self._values.items()

    def names(self) -> list[str]:
        """Return all names, sorted."""
        if self._sorted is None:
            self._sorted = sorted(self._values)
        return self._sorted

    def _below(self, prefix: str) -> list[str]:
        """Return the names that begin with `prefix`, sorted."""
        names = self.names()
        begun = bisect.bisect_left(names, prefix)
        if not prefix:
            return names
        past = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        return names[begun : bisect.bisect_left(names, past)]

    def find(self, name: str) -> str | None:
        """Return the value under exactly this name."""
        self.reads.names.add(name)
        return self._values.get(name)

    def match(self, pattern: str) -> list[KVPair]:
        """Return the pairs whose names match, sorted by name.

        Raises:
            CallError: the pattern is malformed (never on an empty store, as the original).
        """
        prefix = literal_prefix(pattern)
        self.reads.prefixes.add(prefix)
        if not self._values:
            self.reads.prefixes.add("")  # the first key may turn this into an error
        found = self._matched.get(pattern)
        if found is not None:  # many resources over the same keys ask the same: 10 ms for 10k keys
            return list(found)
        try:
            fits = matcher(pattern)
        except BadPattern:
            if self._values:
                raise CallError("syntax error in pattern") from None
            return []
        values = self._values
        found = [KVPair(name, values[name]) for name in self._below(prefix) if fits(name)]
        if len(self._matched) < 256:
            self._matched[pattern] = found
        return list(found)

    def listing(self, path: str, *, directories: bool = False) -> Strings:
        """Return the next elements below `path`, sorted; only those with children if asked.

        The root lists its leaves alone, a leaf lists itself: the original's ways.
        """
        source, colon, below = path.partition(":/")
        label = f"{source}:" if colon and not path.startswith("/") else ""
        path = f"/{below}" if label else path
        under = clean(path)
        self.reads.prefixes.add(label + ("/" if under == "." else under))
        if not path.startswith("/"):
            return Strings()
        found: set[str] = set()
        for full in self._below(label + under):
            name = full.removeprefix(label)
            if name == path:
                if not directories:
                    found.add(base(name))
                continue
            parent = directory(name)
            if parent != under and (under == "/" or not parent.startswith(under + "/")):
                continue
            rest = name.removeprefix(path).removeprefix("/").split("/")
            if not directories or len(rest) > 1:
                found.add(rest[0])
        return Strings(sorted(found))

    def parts(self, pattern: str) -> list[str]:
        """Return the names and directories that match, each once, sorted: what `for_each` runs over."""
        prefix = literal_prefix(pattern)
        self.reads.prefixes.add(prefix)
        try:
            fits = matcher(pattern)
        except BadPattern:
            raise CallError("syntax error in pattern") from None
        depth = pattern.count("/") + 1
        found = {"/".join(name.split("/", depth)[:depth]) for name in self._below(prefix)}
        return sorted(name for name in found if fits(name))


class _Holds:
    """Which keys of a source a tree takes."""

    __slots__ = ("exact", "fetch", "under")

    def __init__(self, fetch: Fetch) -> None:
        self.fetch = fetch
        self.exact: frozenset[bytes] = frozenset()
        if fetch.loose:  # the environment: no boundary, and `_` is `/`
            plain = [f"/{key.strip('/').lower().replace('_', '/')}" for key in fetch.keys]
            self.under = tuple(map(to_bytes, plain))
            return
        texts = [(key, to_bytes(key)) for key in fetch.keys]
        self.exact = frozenset(text for _, text in texts)
        self.under = tuple(b"/" if key == "/" else text + b"/" for key, text in texts)

# SPDX-License-Identifier: Apache-2.0
"""The trees that resources read, shared by those that fetch the same keys. Pure.

::

    mirror's batch ─► Views.apply ─► each Tree that holds the key ─► names changed
                                                                        │ Reads.touched_by
                                                                        ▼
                                                           resources to render again
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from confd.records import TemplateResource
from confd.values import Fetch, Reads, Tree
from fairlead.etcd.types import KeyValue
from fairlead.gotemplate.values import to_bytes

Pair = tuple[bytes, KeyValue | None]
"""A key and what it holds now; None: it is gone."""

_Kind = tuple[str, str, frozenset[str]]


class Views:
    """Trees by what they fetch, and what each template read of its own at its last render.

    Args:
        loose: names of the sources whose keys are environment variables.
    """

    def __init__(self, loose: Collection[str] = ()) -> None:
        self.loose = loose
        self._trees: dict[_Kind, Tree] = {}
        self._users: dict[str, _Kind] = {}
        self._reads: dict[str, Reads] = {}
        self._routes: dict[str, _Routes] = {}

    def assign(self, resources: Iterable[TemplateResource]) -> list[Tree]:
        """Give each template its tree; return the trees that are new, still empty."""
        new: list[Tree] = []
        users: dict[str, _Kind] = {}
        for template in (t for resource in resources for t in resource.templates):
            kind = (template.backend, template.prefix, frozenset(template.keys))
            if kind not in self._trees:
                self._trees[kind] = self._tree(template)
                new.append(self._trees[kind])
            users[template.file] = kind
        self._users = users
        for kind in self._trees.keys() - set(users.values()):
            del self._trees[kind]
        for file in self._reads.keys() - users.keys():
            del self._reads[file]
        self._routes = {}
        for kind, tree in self._trees.items():
            for fetch in tree.fetches:
                self._routes.setdefault(fetch.source, _Routes()).add(kind, fetch)
        return new

    def _tree(self, template: TemplateResource) -> Tree:
        fetches = [
            Fetch(
                source,
                keys,
                "" if source == template.backend else f"{source}:",
                source in self.loose,
            )
            for source, keys in template.fetches.items()
        ]
        return Tree(template.prefix, fetches)

    def tree(self, template: TemplateResource) -> Tree:
        """Return the tree a template reads."""
        return self._trees[self._users[template.file]]

    def start_reads(self, template: TemplateResource) -> Tree:
        """Return the template's tree, noting from now on what is read."""
        tree = self.tree(template)
        tree.reads = self._reads[template.file] = Reads()
        return tree

    def apply(self, changes: Sequence[Pair], source: str = "") -> set[str]:
        """Take in a source's batch; return the templates' files whose last render it touches."""
        routes = self._routes.get(source)
        if routes is None:
            return set()
        changed = {
            kind: names
            for kind, part in routes.split(changes).items()
            if (names := self._trees[kind].apply(part, source))
        }
        if not changed:
            return set()
        return {
            file
            for file, kind in self._users.items()
            if kind in changed
            and (file not in self._reads or self._reads[file].touched_by(changed[kind]))
        }

    def sizes(self) -> dict[str, int]:
        """Return how many keys each template sees, for /debug/state."""
        return {file: len(self._trees[kind]) for file, kind in self._users.items()}


class _Routes:
    """Which trees a key of one source may concern, found without asking every tree.

    With 100 resources of 100 keys each that is 10,000 look-ups instead of a million.
    """

    def __init__(self) -> None:
        self._by_part: dict[bytes, list[_Kind]] = {}  # a key, or a beginning that ends in "/"
        self._loose: list[_Kind] = []

    def add(self, kind: _Kind, fetch: Fetch) -> None:
        """Route a fetch's keys to a tree."""
        if fetch.loose:
            self._loose.append(kind)
            return
        for key in fetch.keys:
            text = to_bytes(key)
            for part in (text, text.rstrip(b"/") + b"/"):
                kinds = self._by_part.setdefault(part, [])
                if kind not in kinds:
                    kinds.append(kind)

    def split(self, pairs: Sequence[Pair]) -> dict[_Kind, list[Pair]]:
        """Return tree → the pairs that may concern it, in order."""
        found: dict[_Kind, list[Pair]] = {kind: list(pairs) for kind in self._loose}
        above: dict[bytes, tuple[_Kind, ...]] = {}  # keys of one directory have the same trees
        exact = self._by_part.get
        for pair in pairs:
            key = pair[0]
            directory = key[: key.rfind(b"/") + 1]
            kinds = above.get(directory)
            if kinds is None:
                kinds = above[directory] = self._above(directory)
            own = exact(key)
            if own is not None:
                kinds = tuple(dict.fromkeys((*own, *kinds)))
            for kind in kinds:
                if kind in found:
                    found[kind].append(pair)
                else:
                    found[kind] = [pair]
        return found

    def _above(self, directory: bytes) -> tuple[_Kind, ...]:
        """Return the trees that take a whole directory or one above it."""
        kinds: list[_Kind] = []
        at = directory.find(b"/")
        while at >= 0:
            kinds += self._by_part.get(directory[: at + 1], ())
            at = directory.find(b"/", at + 1)
        return tuple(dict.fromkeys(kinds))

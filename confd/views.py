# SPDX-License-Identifier: Apache-2.0
"""The trees that resources read, shared by those that fetch the same keys. Pure.

::

    mirror's batch ─► Views.apply ─► each Tree that holds the key ─► names changed
                                                                        │ Reads.touched_by
                                                                        ▼
                                                           resources to render again
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from confd.records import TemplateResource
from confd.values import Reads, Tree
from fairlead.etcd.types import KeyValue

_Kind = tuple[str, frozenset[str]]


class Views:
    """Trees by what they fetch, and what each resource read of its own at its last render."""

    def __init__(self) -> None:
        self._trees: dict[_Kind, Tree] = {}
        self._users: dict[str, _Kind] = {}
        self._reads: dict[str, Reads] = {}

    def assign(self, resources: Iterable[TemplateResource]) -> list[Tree]:
        """Give each resource its tree; return the trees that are new, still empty."""
        new: list[Tree] = []
        users: dict[str, _Kind] = {}
        for resource in resources:
            kind = (resource.prefix, frozenset(resource.keys))
            if kind not in self._trees:
                self._trees[kind] = Tree(resource.prefix, resource.keys)
                new.append(self._trees[kind])
            users[resource.file] = kind
        self._users = users
        for kind in self._trees.keys() - set(users.values()):
            del self._trees[kind]
        for file in self._reads.keys() - users.keys():
            del self._reads[file]
        return new

    def tree(self, resource: TemplateResource) -> Tree:
        """Return the tree a resource reads."""
        return self._trees[self._users[resource.file]]

    def start_reads(self, resource: TemplateResource) -> Tree:
        """Return the resource's tree, noting from now on what is read."""
        tree = self.tree(resource)
        tree.reads = self._reads[resource.file] = Reads()
        return tree

    def apply(self, changes: Sequence[tuple[bytes, KeyValue | None]]) -> set[str]:
        """Take in a batch; return the resource files whose last render it touches."""
        changed = {kind: names for kind, t in self._trees.items() if (names := t.apply(changes))}
        return {
            file
            for file, kind in self._users.items()
            if kind in changed
            and (file not in self._reads or self._reads[file].touched_by(changed[kind]))
        }

    def sizes(self) -> dict[str, int]:
        """Return how many keys each resource sees, for /debug/state."""
        return {file: len(self._trees[kind]) for file, kind in self._users.items()}

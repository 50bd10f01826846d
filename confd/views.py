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
        changed = {
            kind: names for kind, t in self._trees.items() if (names := t.apply(changes, source))
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

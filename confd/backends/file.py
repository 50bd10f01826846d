# SPDX-License-Identifier: Apache-2.0
"""`file`: YAML and JSON files as trees of keys, watched.

Keys of maps and positions in lists become path elements; later files win over earlier ones.
"""

from __future__ import annotations

import asyncio
import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from watchfiles import awatch

from confd.backends import BackendConfig, BackendError, below
from fairlead.gotemplate.scalars import go_float

_SUFFIXES: Final = frozenset(("", ".json", ".yml", ".yaml"))
_SETTLE_MILLISECONDS: Final = 50


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as the original's library reads it: dates stay text, `1e10` is a number."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if not tag.endswith((":timestamp", ":float"))]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"),
    list("-+0123456789."),
)  # fmt: skip


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[str, Any]:
    """Build a map whose keys are as they are written: `yes:` is "yes"."""
    loader.flatten_mapping(node)
    return {
        str(key.value): loader.construct_object(value, deep=True)
        for key, value in node.value
        if isinstance(key, yaml.ScalarNode)
    }


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    match value:
        case dict():
            for key, item in value.items():
                yield from _leaves(f"{path}/{key}", item)
        case list():
            for at, item in enumerate(value):
                yield from _leaves(f"{path}/{at}", item)
        case bool():
            yield path, "true" if value else "false"
        case int() if -(1 << 63) <= value < 1 << 64:
            yield path, str(value)
        case float():
            yield path, go_float(value, "f", -1)
        case str():
            yield path, value
        case bytes():
            yield path, value.decode("utf-8", "surrogateescape")


class Files:
    """The files and directories given with `-file`."""

    def __init__(self, config: BackendConfig) -> None:
        self._paths = [Path(path) for path in config.many("file")]
        self._filter = config.text("filter", "*")
        self._seen = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None

    def _files(self) -> list[Path]:
        found: list[Path] = []
        for path in self._paths:
            if path.is_dir():
                inside = sorted(p for p in path.rglob("*") if p.is_file())
                found += [p for p in inside if fnmatch.fnmatchcase(p.name, self._filter)]
            else:
                found.append(path)
        return [path for path in found if path.suffix in _SUFFIXES]

    def _all(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for path in self._files():
            try:
                document = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506
            except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
                reason = " ".join(str(error).split())
                raise BackendError(f'file "{path}" cannot be read: {reason}') from error
            for name, value in _leaves("", document):
                found[name or "/"] = value.encode("utf-8", "surrogateescape")
        return found

    async def read(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Return what the files hold at or below `keys`."""
        if not self._paths:
            raise BackendError("no file: give -file, a file or a directory")
        self._seen.clear()  # what changes while we read makes one more
        found = await asyncio.to_thread(self._all)
        return {name: found[name] for name in below(found, keys)}

    async def changed(self, keys: Sequence[str]) -> None:
        """Return when one of the files, or a directory of theirs, changed."""
        if self._watch is None:
            self._watch = asyncio.create_task(self._follow(), name="watch files")
            return  # what changed before the watch stood is seen by reading once more
        await self._seen.wait()

    async def _follow(self) -> None:
        # directories, for an editor or a ConfigMap replaces the file, and a watch on it is lost
        places = {path if path.is_dir() else path.parent for path in self._paths}
        while True:
            try:
                async for _ in awatch(
                    *places, step=_SETTLE_MILLISECONDS, debounce=4 * _SETTLE_MILLISECONDS
                ):
                    self._seen.set()
            except OSError:  # a directory is not there (yet)
                await asyncio.sleep(1)
                self._seen.set()

    async def aclose(self) -> None:
        """End the watch."""
        if self._watch is not None:
            self._watch.cancel()

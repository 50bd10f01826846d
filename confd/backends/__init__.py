# SPDX-License-Identifier: Apache-2.0
"""Where keys come from, besides etcd: one small interface, by level and not by edge.

A backend reads whole (`read`) and says when to read again (`changed`); what differs is found by
comparing, so a lost or doubled notice does no harm. Others are added by the entry point group
`fairlead.confd.backends`: NAME = "module:Class", with a class that takes a `BackendConfig`.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from fairlead.errors import ConfigError, FairleadError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "fairlead.confd.backends"
BUILT_IN: Final[Mapping[str, tuple[str, str, str]]] = {
    # name: module, class, extra of pyproject that brings its library
    "env": ("confd.backends.env", "Environment", ""),
    "file": ("confd.backends.file", "Files", ""),
    "consul": ("confd.backends.consul", "Consul", ""),
    "redis": ("confd.backends.redis", "Redis", "redis"),
    "vault": ("confd.backends.vault", "Vault", "vault"),
    "zookeeper": ("confd.backends.zookeeper", "ZooKeeper", "zookeeper"),
}


class BackendError(FairleadError):
    """A backend could not be read now; tried again later."""


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """How to reach a backend: the keys of `[backend]`, or the flags.

    Attributes:
        name: of the kind, e.g. "redis".
        nodes: addresses; empty for the kind's default.
        options: the other keys, by their names in confd.toml.
    """

    name: str
    nodes: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)  # passwords among them

    def text(self, key: str, default: str = "") -> str:
        """Return a text option."""
        return str(self.options.get(key) or default)

    def flag(self, key: str) -> bool:
        """Return a yes-or-no option."""
        return self.options.get(key) is True

    def many(self, key: str) -> tuple[str, ...]:
        """Return a list option."""
        value = self.options.get(key) or ()
        return (value,) if isinstance(value, str) else tuple(map(str, value))

    def real(self, key: str, default: float) -> float:
        """Return a number of seconds."""
        value = self.options.get(key)
        return float(value) if isinstance(value, (int, float)) and value else default


class Backend(Protocol):
    """One source of keys."""

    async def read(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Return every key at or below `keys`, with its value.

        Raises:
            BackendError: it does not answer; try later.
        """
        ...

    async def changed(self, keys: Sequence[str]) -> None:
        """Return when something may have changed since the last `read`; raises as `read`."""
        ...

    async def aclose(self) -> None:
        """Give back what is open."""
        ...


def known() -> frozenset[str]:
    """Return the names of the backends, entry points among them."""
    return frozenset(BUILT_IN) | {point.name for point in _plug_ins()}


def _plug_ins() -> Collection[EntryPoint]:
    from importlib.metadata import entry_points  # 10 ms, and most use what is built in

    return entry_points(group=GROUP)


def open_backend(config: BackendConfig) -> Backend:
    """Return a backend, not connected yet.

    Raises:
        ConfigError: there is none of that name, or it cannot be loaded.
    """
    if config.name in BUILT_IN:
        module, name, extra = BUILT_IN[config.name]
        try:
            made: Backend = getattr(importlib.import_module(module), name)(config)
        except ImportError as error:
            reason = f'needs a library: pip install "fairlead[{extra}]" ({error})'
            raise ConfigError("backend", config.name, "start", reason) from error
        return made
    for point in _plug_ins():
        if point.name != config.name:
            continue
        try:
            kind = point.load()
        except (ImportError, AttributeError) as error:
            reason = f"its plug-in cannot be loaded: {error}"
            raise ConfigError("backend", config.name, point.value, reason) from error
        found: Backend = kind(config)
        return found
    raise ConfigError("backend", config.name, "start", "Invalid backend")


def below(names: Collection[str], keys: Sequence[str]) -> list[str]:
    """Return the names that stand at or below one of `keys`."""
    exact = frozenset(keys)
    under = tuple("/" if key == "/" else f"{key}/" for key in keys)
    return [name for name in names if name in exact or name.startswith(under)]

# SPDX-License-Identifier: Apache-2.0
"""The middlewares of frontends → their chains, and the links in use.

::

    f1 ─ rl ──┐                       a link for each middleware, whoever passes it: what it counts
              ├─► Links "f1/rl"       survives every change but one of its own settings (V15), and
    f2 ─ f1/rl┘                       frontends that share it are counted together
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from lb.ledger import Ledger
from lb.middleware import Chain, Link, types
from lb.state import ALIAS, Middleware


class _Live:
    """A link in use: the settings it was made of, and the frontends it stands in."""

    __slots__ = ("link", "spec", "users")

    def __init__(self, key: str, spec: Middleware, users: set[str], ledger: Ledger | None) -> None:
        self.spec = spec
        self.users = users
        self.link: Link = types.make(spec.type, spec.body)
        if ledger is not None:
            settings = blake2b(msgspec.json.encode([spec.type, spec.body]), digest_size=8)
            self.link.share(ledger, key.encode() + settings.digest())


def _key(frontend: str, spec: Middleware) -> str:
    """Return whose link it is, "frontend/id"; a frontend's twin under an alias has its links."""
    shared = "/" in spec.id[1:]
    return spec.id if shared else f"{frontend.removesuffix(ALIAS)}/{spec.id}"


class Links:
    """Every link in use.

    Args:
        ledger: what links of several processes count in; None: this process is alone.
    """

    def __init__(self, ledger: Ledger | None = None) -> None:
        self._ledger = ledger
        self._live: dict[str, _Live] = {}
        self._of: dict[str, tuple[str, ...]] = {}  # frontend → the keys of its links

    def take(self, frontend: str, wanted: Sequence[Middleware]) -> Chain | None:
        """Return the chain of a frontend from now on; None for no links.

        Links stay where type and settings agree. What nobody passes any more is retired, and so
        is a link whose settings changed. Settings were checked when the record was read.
        """
        chain: list[Link] = []
        keys = tuple(dict.fromkeys(_key(frontend, spec) for spec in wanted))
        for spec in wanted:
            key = _key(frontend, spec)
            live = self._live.get(key)
            if live is None or (live.spec.type, live.spec.body) != (spec.type, spec.body):
                if live is not None:
                    live.link.retire()
                users = live.users if live is not None else set()
                live = self._live[key] = _Live(key, spec, users, self._ledger)
            live.users.add(frontend)
            chain.append(live.link)
        for key in set(self._of.get(frontend, ())).difference(keys):
            self._leave(frontend, key)
        self._of[frontend] = keys
        if not keys:
            del self._of[frontend]
        return Chain(chain) if chain else None

    def _leave(self, frontend: str, key: str) -> None:
        live = self._live[key]
        live.users.discard(frontend)
        if not live.users:
            del self._live[key]
            live.link.retire()

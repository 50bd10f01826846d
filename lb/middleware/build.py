# SPDX-License-Identifier: Apache-2.0
"""The middlewares of a frontend → its chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lb.middleware import Chain, Link, types
from lb.state import Middleware

Links = Mapping[str, tuple[Middleware, Link]]
"""A frontend's links by the middleware's id, with the settings each was made of."""


def build(frontend: str, wanted: Sequence[Middleware], before: Links) -> tuple[Chain | None, Links]:
    """Return the chain of a frontend and its links; those of `before` are kept where they agree.

    A change of the priority alone keeps what a link has counted (V15). The links that are not
    kept have been retired. Settings were checked when the record was read.
    """
    links: dict[str, tuple[Middleware, Link]] = {}
    for spec in wanted:
        old = before.get(spec.id)
        if old is not None and (old[0].type, old[0].body) == (spec.type, spec.body):
            links[spec.id] = spec, old[1]
        else:
            links[spec.id] = spec, types.make(spec.type, spec.body)
    for name, (_, link) in before.items():
        if name not in links or links[name][1] is not link:
            link.retire()
    return (Chain([link for _, link in links.values()]) if links else None), links

# SPDX-License-Identifier: Apache-2.0
"""The middlewares of a frontend → its chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lb.middleware import Chain, Link
from lb.state import Middleware

Links = Mapping[str, tuple[Middleware, Link]]
"""A frontend's links by the middleware's id, with the settings each was made of."""


def build(frontend: str, wanted: Sequence[Middleware], before: Links) -> tuple[Chain | None, Links]:
    """Return the chain of a frontend and its links; those of `before` are kept where they agree.

    The links that are not kept have been retired.
    """
    links: dict[str, tuple[Middleware, Link]] = {}
    for name, (_, link) in before.items():
        if name not in links:
            link.retire()
    return (Chain([link for _, link in links.values()]) if links else None), links

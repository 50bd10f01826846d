# SPDX-License-Identifier: Apache-2.0
"""Of several routes that match, which wins (specs/vulcand.md §6.2, `-routeOrder`). Pure.

* `vulcand`: the one whose text is greatest in byte order.
* `specific`: the one that says most: a literal Host before one with parameters, that before a
  HostRegexp, that before none; then the same of Path; then the longer fixed text of the path, of
  the host; then more matchers; then as `vulcand`.

An order gives bytes: the route whose bytes are smallest wins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from lb.route.parse import Matcher, Route, Subject

Order = Callable[[Route], bytes]
_INVERT: Final = bytes(255 - byte for byte in range(256))


def by_text(route: Route) -> bytes:
    """Return bytes that sort ascending as texts sort descending; the 0xff closes a prefix last."""
    return route.text.encode().translate(_INVERT) + b"\xff"


def specific(route: Route) -> bytes:
    """Return bytes that sort ascending from what says most to what says least."""
    host, path = (_of(route.matchers, subject) for subject in (Subject.HOST, Subject.PATH))
    said = (host[0], path[0], path[1], host[1], len(route.matchers))
    return b"".join((0xFFFF - min(n, 0xFFFF)).to_bytes(2, "big") for n in said) + by_text(route)


def _of(matchers: Iterable[Matcher], subject: Subject) -> tuple[int, int]:
    """Return how exactly a subject is asked for (3 to 0), and how many fixed characters that has."""
    best = (0, 0)
    for matcher in matchers:
        if matcher.subject is subject:
            kind = 3 if matcher.literal is not None else 1 if matcher.regexp else 2
            fixed = 0 if matcher.regexp else len(re.sub(r"<[^>]*>", "", matcher.pattern))
            best = max(best, (kind, fixed))
    return best


ORDERS: Final[dict[str, Order]] = {"vulcand": by_text, "specific": specific}
WHY: Final = {
    "vulcand": "its route is greatest in byte order",
    "specific": "its route is the most specific",
}

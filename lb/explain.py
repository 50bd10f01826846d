# SPDX-License-Identifier: Apache-2.0
"""Which frontend a request goes to, why, and which others would have taken it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from lb.route.match import Query, check, host_subject
from lb.route.order import ORDERS, WHY
from lb.route.parse import parse
from lb.state import Frontend


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a request.

    Attributes:
        winner: the frontend, None for 404.
        why: in words.
        shadowed: frontends that match too, in the order in which they would follow.
    """

    winner: Frontend | None
    why: str
    shadowed: tuple[Frontend, ...] = ()


def query(method: str, url: str, headers: Mapping[str, str]) -> Query:
    """Return what routes look at of a request.

    Raises:
        ValueError: no URL.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if not parts.netloc:
        raise ValueError(f'"{url}" names no host')
    if any(character.isspace() for character in url):
        raise ValueError(f'"{url}" is no URL: it has a space in it')
    given = {name.lower(): value.encode() for name, value in headers.items()}
    host = given.get("host") or parts.netloc.rpartition("@")[2].encode()
    path = parts.path or "/"
    return Query(
        method.encode(),
        host_subject(host),
        path.encode(),
        lambda name: host if name == "host" else given.get(name, b""),
    )


def explain(frontends: Iterable[Frontend], asked: Query, order: str = "vulcand") -> Verdict:
    """Return the verdict by the rule's own words (specs/vulcand.md §6.2).

    Args:
        order: of `-routeOrder`.
    """
    matching = [
        one
        for one in frontends
        if all(check(matcher)(asked) for matcher in parse(one.route).matchers)
    ]
    if not matching:
        return Verdict(None, "no route matches: 404")
    rank = ORDERS[order]
    matching.sort(key=lambda one: (-one.policy.priority, rank(parse(one.route)), one.id))
    winner, *others = matching
    return Verdict(winner, _why(winner, others, order), tuple(others))


def _why(winner: Frontend, others: list[Frontend], order: str) -> str:
    if not others:
        return "no other route matches"
    second = others[0]
    if winner.policy.priority != second.policy.priority:
        return f"priority {winner.policy.priority} is above {second.policy.priority}"
    if winner.route != second.route:
        return WHY[order]
    return "of equal routes the smallest id wins"

# SPDX-License-Identifier: Apache-2.0
"""lb/passage.py: a link's fault costs one request and is reported; collected bodies."""

from __future__ import annotations

from collections.abc import Callable

from lb.middleware import Answer, Chain, Exchange, Link, Reply
from lb.passage import COLLECT, Collected, Passage


class Broken(Link):
    """Raises at one of the three calls."""

    def __init__(self, where: str) -> None:
        self.where = where

    def _maybe(self, where: str) -> None:
        if where == self.where:
            raise ZeroDivisionError(where)

    def on_request(self, exchange: Exchange) -> Reply | None:
        self._maybe("request")
        return None

    def on_response(self, exchange: Exchange, answer: Answer) -> None:
        self._maybe("response")

    def released(self, exchange: Exchange) -> None:
        self._maybe("released")


def passed(where: str) -> tuple[Reply | None, list[str]]:
    faults: list[str] = []

    def fault(what: str, error: Exception) -> None:
        faults.append(f"{what}: {error}")

    exchange = Exchange("f", b"GET", b"/", 1, b"a", b"", b"", b"", None, 0, 0.0, 0.0, 1)
    passage = Passage(Chain([Broken(where)]), exchange, fault)
    reply = passage.enter()
    passage.answered(Answer(200, b""), 2.0)
    passage.over(3.0, 5, 7)
    return reply, faults


def test_faults_are_reported_and_answered() -> None:
    reply, faults = passed("request")
    assert reply is not None
    assert reply.status == 500
    assert faults == ['a middleware of frontend "f": request']
    for where in ("response", "released"):
        reply, faults = passed(where)
        assert reply is None
        assert faults == [f'a middleware of frontend "f": {where}']


def collected(change: Callable[[bytes], bytes]) -> tuple[bytes, list[str]]:
    faults: list[str] = []
    found = Collected(
        Answer(200, b"", -1, change), b"HTTP/1.1 200 OK", "f", lambda what, _: faults.append(what)
    )
    assert found.add(b"ab")
    assert found.add(b"c")
    return found.whole(), faults


def test_a_collected_body_is_changed_and_measured() -> None:
    assert collected(bytes.upper) == (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nABC", [])


def test_a_filter_that_fails_leaves_the_body() -> None:
    whole, faults = collected(lambda _: (_ for _ in ()).throw(KeyError("x")))
    assert whole.endswith(b"\r\n\r\nabc")
    assert faults == ['a middleware of frontend "f"']


def test_a_collected_body_has_a_limit() -> None:
    found = Collected(Answer(200, b""), b"", "f", lambda *_: None)
    assert found.add(bytes(COLLECT))
    assert not found.add(b"x")

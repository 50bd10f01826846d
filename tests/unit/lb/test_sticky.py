# SPDX-License-Identifier: Apache-2.0
"""lb/sticky.py: the cookie that names a server."""

from __future__ import annotations

from lb.liveserver import LiveServer
from lb.policy import Sticky
from lb.pool import LivePool
from lb.state import Server
from lb.sticky import Binding


def servers() -> list[LiveServer]:
    pool = LivePool("b")
    return [LiveServer(Server(name, name, 80, f"{name}:80"), pool) for name in ("one", "two")]


def test_who_got_the_cookie_is_known_again() -> None:
    one, two = servers()
    binding = Binding(Sticky("lb"), [one, two])
    line = binding.line(two)
    assert line.startswith(b"\r\nSet-Cookie: lb=")
    assert line.endswith(b"; Path=/; HttpOnly; SameSite=Lax")
    pair = line.partition(b": ")[2].partition(b";")[0]
    assert binding.named(lambda _: b"a=b; " + pair + b" ;c=d") is two
    assert Binding(Sticky("other"), [one, two]).named(lambda _: pair) is None
    assert Binding(Sticky("lb"), [one]).named(lambda _: pair) is None  # it is gone
    for cookie in (b"", b"lb", b"lb=", b"lb=0", b"xlb=" + pair):
        assert binding.named(lambda _, cookie=cookie: cookie) is None  # type: ignore[misc]


def test_the_cookies_attributes() -> None:
    one, _ = servers()
    line = Binding(Sticky("lb", "/a", 3600, secure=True), [one]).line(one)
    assert line.endswith(b"; Path=/a; Max-Age=3600; HttpOnly; SameSite=Lax; Secure")

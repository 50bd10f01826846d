# SPDX-License-Identifier: Apache-2.0
"""What limits count by: `client.ip`, `request.host`, `request.header.<Name>` (specs/vulcand.md §4.7)."""

from __future__ import annotations

from collections.abc import Callable

from lb.fields import Invalid
from lb.middleware import Exchange

Variable = Callable[[Exchange], bytes | None]
"""Returns a request's value; None where it cannot be told, which is answered 500."""


def variable(text: str) -> Variable:
    """Return how to read a variable; raises Invalid."""
    if text == "client.ip":  # the real address, of IPv6 too (V7); never X-Forwarded-For
        return lambda exchange: exchange.client or None
    if text == "request.host":
        return lambda exchange: exchange.host
    if text.startswith("request.header."):
        name = header(text)
        return lambda exchange: exchange.header(name)
    raise Invalid(f"unsupported limiting variable: '{text}'")


def header(text: str) -> str:
    """Return the name in `request.header.<Name>`; raises Invalid."""
    name = text.removeprefix("request.header.")
    if not name:
        raise Invalid("wrong header: ")
    return name

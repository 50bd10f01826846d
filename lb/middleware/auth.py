# SPDX-License-Identifier: Apache-2.0
"""auth: one user's name and password, else 403; the original's example plug-in (specs/vulcand.md §4.8)."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final

from fairlead.flags import Setting
from lb.fields import Fields, Invalid
from lb.middleware import Exchange, Link, Reply
from lb.middleware.types import Type


def credentials(exchange: Exchange) -> tuple[bytes, bytes] | None:
    """Return user and password of a request's Basic authorization."""
    scheme, _, text = exchange.header("Authorization").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(text.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None


class Auth(Link):
    """Compares in constant time."""

    __slots__ = ("_password", "_user")

    def __init__(self, user: bytes, password: bytes) -> None:
        self._user = user
        self._password = password

    def on_request(self, exchange: Exchange) -> Reply | None:
        """Let only the user pass."""
        user, password = credentials(exchange) or (b"", b"")
        good = hmac.compare_digest(user, self._user) & hmac.compare_digest(password, self._password)
        return None if good else Reply(403, b"Forbidden")


def _make(fields: Fields) -> Link:
    user, password = fields.text("Username"), fields.text("Password")
    if not user or not password:
        raise Invalid("Username and Password can not be empty")
    return Auth(user.encode(), password.encode())


TYPE: Final = Type(
    _make,
    (
        Setting("user", help="The user's name.", aliases=("u",)),
        Setting("pass", help="The password.", aliases=("p",), secret=True),
    ),
    lambda values: {"Username": values.text("user"), "Password": values.text("pass")},
    guards=True,
    zeros={"Username": "", "Password": ""},
)

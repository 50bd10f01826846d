# SPDX-License-Identifier: Apache-2.0
"""Who may use the embedded store: one list of users and passwords, and their tokens.

Tokens are etcd's simple ones: opaque, good for 300 s after their last use, forgotten by a restart.
Whoever is on the list may do everything; roles are a real etcd's business.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping

from fairlead.clock import Clock
from fairlead.embedded.refusals import Refusal

TOKEN_SECONDS = 300.0  # --auth-token-ttl's default


class Logins:
    """Passwords and tokens; without users everybody is let in."""

    def __init__(self, users: Mapping[str, str], clock: Clock) -> None:
        self._passwords = {name: _digest(password) for name, password in users.items()}
        self._tokens: dict[str, float] = {}  # token → until when
        self._clock = clock

    def __bool__(self) -> bool:
        return bool(self._passwords)

    def login(self, name: str, password: str) -> str:
        """Return a token.

        Raises:
            Invalid: there are no users: "authentication is not enabled".
            BadLogin: name or password is wrong.
        """
        if not self:
            raise Refusal.AUTH_OFF.error()
        # an unknown name costs the same comparison, so that time tells nothing
        known = self._passwords.get(name, b"\x00" * 32)
        if not hmac.compare_digest(known, _digest(password)):
            raise Refusal.BAD_LOGIN.error()
        now = self._clock.monotonic()
        self._tokens = {token: until for token, until in self._tokens.items() if until > now}
        token = secrets.token_hex(16)
        self._tokens[token] = now + TOKEN_SECONDS
        return token

    def check(self, token: str | None) -> None:
        """Let the owner of `token` in, and keep it good for another 300 s.

        Raises:
            TokenExpired: there is none, or it is not known (any more).
        """
        if not self:
            return
        if not token:
            raise Refusal.USER_EMPTY.error()
        now = self._clock.monotonic()
        if self._tokens.get(token, 0.0) <= now:
            raise Refusal.BAD_TOKEN.error()
        self._tokens[token] = now + TOKEN_SECONDS


def _digest(password: str) -> bytes:
    return hashlib.sha256(password.encode()).digest()

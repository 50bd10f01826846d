# SPDX-License-Identifier: Apache-2.0
"""The machine as a render sees it, without ever waiting for the name service.

A look-up that is not answered yet gives the empty answer and is noted; `resolve` asks for all
that was noted, in threads, and the render is made again. So a silent name server delays the
resource that asks it, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from typing import Any, Final

from confd.lookups import World
from fairlead.gotemplate.gotime import Time

ROUNDS: Final = 8  # a look-up whose name comes from another's answer needs one more
_FRESH_SECONDS: Final = 5.0
_WAIT_SECONDS: Final = 15.0
_Question = tuple[str, ...]


class Names:
    """A World whose look-ups are answered from what `resolve` found.

    Attributes:
        missing: questions of the last renders without an answer.
        fleeting: something was asked that no event tells of.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._answers: dict[_Question, tuple[float, Any]] = {}
        self.missing: set[_Question] = set()
        self.fleeting = False

    def getenv(self, name: str) -> str:
        """Return an environment variable, "" when unset."""
        return self._world.getenv(name)

    def now(self) -> Time:
        """Return the time now."""
        self.fleeting = True
        return self._world.now()

    def file_exists(self, path: str) -> bool:
        """Say whether something stands at `path`."""
        self.fleeting = True
        return self._world.file_exists(path)

    def hostname(self) -> str:
        """Return the kernel's host name."""
        return self._world.hostname()

    def addresses(self, host: str) -> list[str]:
        """Return a host's addresses, [] until they are known."""
        with contextlib.suppress(ValueError):
            return [str(ipaddress.ip_address(host))]
        found: list[str] = self._answer(("ip", host)) or []
        return found

    def services(self, name: str) -> list[tuple[str, int, int, int]]:
        """Return SRV answers, [] until they are known."""
        found: list[tuple[str, int, int, int]] = self._answer(("srv", name)) or []
        return found

    def interface(self, name: str, version: int) -> str:
        """Return an interface's address, "" until it is known."""
        return str(self._answer(("interface", name, str(version))) or "")

    def _answer(self, question: _Question) -> Any:
        self.fleeting = True
        if question not in self._answers:
            self.missing.add(question)
            return None
        return self._answers[question][1]

    def age(self) -> None:
        """Forget the answers that are old."""
        now = asyncio.get_running_loop().time()
        self._answers = {q: a for q, a in self._answers.items() if now - a[0] < _FRESH_SECONDS}

    async def resolve(self) -> bool:
        """Answer what is missing; say whether there was anything."""
        asked, self.missing = tuple(self.missing), set()
        if not asked:
            return False
        for question, answer in zip(
            asked, await asyncio.gather(*map(self._ask, asked)), strict=True
        ):
            self._answers[question] = (asyncio.get_running_loop().time(), answer)
        return True

    def resolve_now(self) -> bool:
        """As `resolve`, without an event loop."""
        asked, self.missing = tuple(self.missing), set()
        for question in asked:
            self._answers[question] = (0.0, self._look_up(question))
        return bool(asked)

    async def _ask(self, question: _Question) -> Any:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_SECONDS):
                return await asyncio.to_thread(self._look_up, question)
        return None

    def _look_up(self, question: _Question) -> Any:
        match question:
            case ("ip", host):
                return self._world.addresses(host)
            case ("srv", name):
                return self._world.services(name)
            case (_, name, version):
                return self._world.interface(name, int(version))
        return None

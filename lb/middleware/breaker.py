# SPDX-License-Identifier: Apache-2.0
"""cbreaker: a fallback instead of a service that fails (specs/vulcand.md §4.4).

::

    STANDBY ─ condition ─► TRIPPED ─ FallbackDuration ─► RECOVERING ─ RecoveryDuration ─► STANDBY
                              ▲                               │
                              └────────── condition ──────────┘

Transitions are made by requests, not by timers. While recovering, the share let through grows
from nothing to a half.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec

from fairlead.flags import Kind, Setting, Values
from lb import condition
from lb.condition import Condition
from lb.expr import ExpressionError
from lb.fields import Fields, Invalid
from lb.middleware import Answer, Exchange, Link, Reply, line
from lb.middleware.types import Type
from lb.window import Figures, bucket

STANDBY, TRIPPED, RECOVERING = "standby", "tripped", "recovering"
_FALLBACK: Final = 10.0  # seconds; also where 0 is stored (V9)
_CHECK: Final = 0.1

Fallback = Callable[[Exchange], Reply]


@dataclass(frozen=True, slots=True)
class Webhook:
    """What is called at a transition."""

    url: str
    method: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    async def call(self) -> None:
        """Make the call; whatever comes of it changes nothing here."""
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=30)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.request(
                    self.method, self.url, data=self.body or None, headers=self.headers
                ) as answer,
            ):
                await answer.read()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"circuit breaker: webhook {self.url} failed: {error}"}
            )


_RUNNING: Final[set[asyncio.Task[None]]] = set()


def _start(hook: Webhook | None) -> None:
    if hook is not None:
        task = asyncio.get_running_loop().create_task(hook.call())
        _RUNNING.add(task)
        task.add_done_callback(_RUNNING.discard)


@dataclass(frozen=True, slots=True)
class Plan:
    """A breaker's settings; seconds."""

    condition: Condition
    fallback: Fallback
    on_tripped: Webhook | None = None
    on_standby: Webhook | None = None
    fallback_seconds: float = _FALLBACK
    recovery_seconds: float = _FALLBACK
    check_seconds: float = _CHECK


class Breaker(Link):
    """See the module's words."""

    __slots__ = ("_allowed", "_checked", "_denied", "_figures", "_plan", "_since", "state")

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.state = STANDBY
        self._figures = Figures()
        self._since = 0.0
        self._checked = 0.0
        self._allowed = self._denied = 0

    def on_request(self, exchange: Exchange) -> Reply | None:
        """Let it pass, or give the fallback."""
        if self.state == STANDBY:
            return None
        now, plan = exchange.now, self._plan
        if self.state == TRIPPED:
            if now - self._since < plan.fallback_seconds:
                return plan.fallback(exchange)
            self.state, self._since = RECOVERING, now
            self._allowed = self._denied = 0
        if now - self._since >= plan.recovery_seconds:
            self.state = STANDBY
            _start(plan.on_standby)
            return None
        share = 0.5 * (now - self._since) / plan.recovery_seconds
        if self._allowed + 1 <= share * (self._allowed + self._denied + 1):
            self._allowed += 1
            return None
        self._denied += 1
        return plan.fallback(exchange)

    def on_response(self, exchange: Exchange, answer: Answer) -> None:
        """Count; trip when the condition holds."""
        now, plan = exchange.now, self._plan
        self._figures.add(now, answer.status, bucket(now - exchange.begun))
        if self.state == TRIPPED or now - self._checked < plan.check_seconds:
            return
        self._checked = now
        if plan.condition(self._figures, now):
            self.state, self._since = TRIPPED, now
            self._figures = Figures()
            _start(plan.on_tripped)


# ---------------------------------------------------------------------- the stored object


def _body_of(value: object) -> bytes:
    """Return a body by the original's order: base64, plain string, an object as it is (§4.4)."""
    if value is None:
        return b""
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return value.encode()
    if isinstance(value, msgspec.Raw):
        return bytes(value).strip()
    return msgspec.json.encode(value)


def ambiguous(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the bodies that are plain words and valid base64 both: a trap that is kept."""
    found = []
    for name in ("Fallback", "OnTripped", "OnStandby"):
        action = _embedded(Fields(body), name)
        text = None if action is None else action.object("Action").any("Body")
        if isinstance(text, str) and text and _body_of(text) != text.encode():
            found.append(f'{name}.Action.Body "{text}" is taken for base64')
    return tuple(found)


def _embedded(fields: Fields, name: str) -> Fields | None:
    """Return an object, or one in a string of JSON (so the CLI stores it); None for none."""
    value = fields.any(name)
    if isinstance(value, str) and value:
        try:
            value = _verbatim(value)
        except ValueError as error:
            raise Invalid(f"{name}: no JSON: {error}") from error
    return Fields(value, f"{name}.") if value not in (None, "") else None


def _verbatim(text: str) -> object:
    """Return what an action's JSON says, its Body as it is spelt (§4.4); raises ValueError."""
    tree = json.loads(text)
    if not isinstance(tree, dict):
        return tree
    spelt = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    for name, action in tree.items():
        if name.lower() == "action" and isinstance(action, dict):
            fields = msgspec.json.decode(spelt[name], type=dict[str, msgspec.Raw])
            for field, value in action.items():
                if field.lower() == "body" and not isinstance(value, str | None):
                    action[field] = fields[field]
    return tree


def _fallback(fields: Fields | None) -> Fallback:
    if fields is None:
        raise Invalid("Fallback: an action is wanted")
    kind, action = fields.text("Type"), fields.object("Action")
    if kind == "response":
        status, body = action.number("StatusCode"), _body_of(action.any("Body"))
        if not 200 <= status <= 999:
            raise Invalid(f"Fallback.Action.StatusCode: {status} is no final status")
        content = action.text("ContentType")
        line("Content-Type", content)
        return lambda _: Reply(status, body, content.encode("latin-1"))
    if kind == "redirect":
        url = action.text("URL")
        parts = urlsplit(url)
        if not parts.scheme or not parts.netloc:
            raise Invalid(f"Fallback.Action.URL: '{url}' is not absolute")
        keep = action.flag("PreservePath")
        line("Location", url)

        def redirect(exchange: Exchange) -> Reply:
            path = exchange.target.partition(b"?")[0].decode("latin-1") if keep else ""
            return Reply(302, b"Found", fields=line("Location", url.rstrip("/" * keep) + path))

        return redirect
    raise Invalid(f"unsupported action: '{kind}'")


def _hook(fields: Fields | None, name: str) -> Webhook | None:
    if fields is None:
        return None
    kind, action = fields.text("Type"), fields.object("Action")
    if kind != "webhook":
        raise Invalid(f"unsupported action: '{kind}'")
    url, method = action.text("URL"), action.text("Method")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or not method:
        raise Invalid(f"{name}.Action: URL and Method are wanted")
    headers = [(n, v) for n, found in _lists(action, "Headers").items() for v in found]
    form = _lists(action, "Form")
    if form:
        headers = [(n, v) for n, v in headers if n.lower() != "content-type"]
        headers.append(("Content-Type", "application/x-www-form-urlencoded"))
        return Webhook(url, method, tuple(headers), urlencode(form, doseq=True).encode())
    return Webhook(url, method, tuple(headers), _body_of(action.any("Body")))


def _lists(action: Fields, name: str) -> dict[str, list[str]]:
    found: dict[str, Any] = action.get(name, dict, {})
    for value in found.values():
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise Invalid(f"{name}: lists of strings are wanted")
    return found


def _make(fields: Fields) -> Link:
    text = fields.text("Condition")
    try:
        test = condition.parse(text)
    except ExpressionError as error:
        raise Invalid(f"invalid condition: {text}: {error}") from error
    times = [
        fields.seconds(name) for name in ("FallbackDuration", "RecoveryDuration", "CheckPeriod")
    ]
    if min(times) < 0:
        raise Invalid("a duration must not be negative")
    return Breaker(
        Plan(
            test,
            _fallback(_embedded(fields, "Fallback")),
            _hook(_embedded(fields, "OnTripped"), "OnTripped"),
            _hook(_embedded(fields, "OnStandby"), "OnStandby"),
            times[0] or _FALLBACK,
            times[1] or _FALLBACK,
            times[2] or _CHECK,
        )
    )


def _body(values: Values) -> dict[str, Any]:
    body: dict[str, Any] = {
        "Condition": values.text("condition"),
        "Fallback": values.text("fallback"),
        "OnTripped": values.text("onTripped"),
        "OnStandby": values.text("onStandby"),
    }
    for name, flag in (
        ("FallbackDuration", "fallbackDuration"),
        ("RecoveryDuration", "recoveryDuration"),
        ("CheckPeriod", "checkPeriod"),
    ):
        body[name] = round(values.seconds(flag) * 1e9)
    return body


TYPE: Final = Type(
    _make,
    (
        Setting("condition", help="When to trip, e.g. NetworkErrorRatio() > 0.5."),
        Setting("fallback", help="What to answer then: JSON of an action."),
        Setting("onTripped", help="What to call when it trips: JSON of a webhook."),
        Setting("onStandby", help="What to call when it is back: JSON of a webhook."),
        Setting("fallbackDuration", Kind.DURATION, 10.0, "How long the fallback is given."),
        Setting("recoveryDuration", Kind.DURATION, 10.0, "How long traffic grows again after."),
        Setting("checkPeriod", Kind.DURATION, 0.1, "How often the condition is looked at."),
    ),
    _body,
    zeros={
        "Condition": "",
        "Fallback": None,
        "OnTripped": None,
        "OnStandby": None,
        "FallbackDuration": 0,
        "RecoveryDuration": 0,
        "CheckPeriod": 0,
    },
)

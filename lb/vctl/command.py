# SPDX-License-Identifier: Apache-2.0
"""What a command of vctl is, and the usual ways to make one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fairlead.duration import format_seconds
from fairlead.flags import Kind, Setting, Values
from lb.vctl import views
from lb.vctl.client import JSON, ApiError, Client


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command leaves: a verdict, or tables (`text`); `raw` for --json.

    Attributes:
        done: it was written elsewhere: nothing is printed.
        good: whether the exit status is 0.
    """

    raw: object
    message: str = ""
    text: str = ""
    done: bool = False
    good: bool = True


@dataclass(frozen=True, slots=True)
class Command:
    """One verb of a noun; `words`: it takes words after its flags."""

    help: str
    run: Callable[[Client, Values], Outcome]
    flags: tuple[Setting, ...] = ()
    words: bool = False


SETTINGS: Final = Setting("settings", help="JSON merged into Settings: fields that have no flag.")
TTL: Final = Setting("ttl", Kind.DURATION, 0.0, "Time to live; 0: for ever.")
FORGIVE: Final = Setting("ignore-missing", Kind.BOOL, False, "Nothing to remove is no error.")
TLS: Final = (
    Setting("tlsSkipVerify", Kind.BOOL, False, "Do not verify servers' certificates."),
    Setting("tlsPreferServerCS", Kind.BOOL, False, "Prefer our order of cipher suites."),
    Setting("tlsSessionTicketsOff", Kind.BOOL, False, "Give no session tickets."),
    Setting("tlsMinV", help="Oldest version: VersionTLS12."),
    Setting("tlsMaxV", help="Newest version: VersionTLS13."),
    Setting("tlsSessionCache", help="Type of session cache: LRU."),
    Setting("tlsSessionCacheCapacity", Kind.INT, 0, "Its capacity."),
    Setting("tlsCS", Kind.REPEAT, help="A cipher suite; may be repeated."),
)


def settings(values: Values, known: JSON) -> JSON:
    """Return Settings with what -settings says beside, or instead of, what the flags say."""
    text = values.text("settings")
    try:
        more = json.loads(text) if text else {}
    except ValueError as error:
        raise ApiError(f"-settings: {error}") from error
    if not isinstance(more, dict):
        raise ApiError("-settings: a JSON object is wanted")
    return {**known, **more}


def tls(values: Values) -> JSON:
    """Return the TLS settings that the flags say, as the original sends them."""
    kind = values.text("tlsSessionCache")
    capacity = values.number("tlsSessionCacheCapacity")
    return {
        "PreferServerCipherSuites": values.flag("tlsPreferServerCS"),
        "InsecureSkipVerify": values.flag("tlsSkipVerify"),
        "SessionTicketsDisabled": values.flag("tlsSessionTicketsOff"),
        "SessionCache": {"Type": kind, "Settings": {"Capacity": capacity} if kind else None},
        "CipherSuites": list(values.many("tlsCS")),
        "MinVersion": values.text("tlsMinV"),
        "MaxVersion": values.text("tlsMaxV"),
    }


def tell(
    call: Callable[[Client, Values], JSON], message: Callable[[Values], str]
) -> Callable[[Client, Values], Outcome]:
    """Return how to run a call whose verdict is a message."""

    def run(client: Client, values: Values) -> Outcome:
        answer = call(client, values)
        return Outcome(answer, message=message(values) or str(answer.get("message", "")))

    return run


def ttl(values: Values) -> str:
    """Return -ttl as the API takes it."""
    return format_seconds(values.seconds("ttl"))


def listed(title: str, *path: str, of: str = "") -> Callable[[Client, Values], Outcome]:
    """Return how to list objects."""

    def run(client: Client, values: Values) -> Outcome:
        where = (path[0], values.text(of), path[1]) if of else path
        answer = client.call("GET", *where)
        return Outcome(answer, text=views.section(title, answer.get(title)))

    return run


def said(text: str) -> Callable[[Values], str]:
    """Return a message that does not depend on the flags; "" for the API's own."""
    return lambda values: text

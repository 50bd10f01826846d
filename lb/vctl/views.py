# SPDX-License-Identifier: Apache-2.0
"""Tables as the original prints them: a title in brackets, columns at least 5 spaces apart. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from fairlead.duration import format_ns

JSON = dict[str, Any]
_GAP: Final = 5

COLUMNS: Final[dict[str, dict[str, Callable[[JSON], object]]]] = {
    "Hosts": {"Name": lambda o: o.get("Name"), "Default": lambda o: _of(o, "Settings", "Default")},
    "Listeners": {
        "Id": lambda o: o.get("Id"),
        "Protocol": lambda o: o.get("Protocol"),
        "Network": lambda o: _of(o, "Address", "Network"),
        "Address": lambda o: _of(o, "Address", "Address"),
        "Scope": lambda o: o.get("Scope"),
        "ProxyProtocol": lambda o: o.get("ProxyProtocol"),
    },
    "Frontends": {
        "Id": lambda o: o.get("Id"),
        "Route": lambda o: o.get("Route"),
        "Backend": lambda o: o.get("BackendId"),
        "Type": lambda o: o.get("Type"),
    },
    "Backends": {"Id": lambda o: o.get("Id"), "Type": lambda o: o.get("Type")},
    "Servers": {"Id": lambda o: o.get("Id"), "URL": lambda o: o.get("URL")},
    "Middlewares": {
        "Id": lambda o: o.get("Id"),
        "Priority": lambda o: o.get("Priority"),
        "Type": lambda o: o.get("Type"),
        "Settings": lambda o: _settings(str(o.get("Type")), o.get("Middleware") or {}),
    },
}


def _of(obj: JSON, outer: str, inner: str) -> object:
    value = obj.get(outer)
    return value.get(inner) if isinstance(value, dict) else None


_SHOWN: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "connlimit": (("connections", "Connections"), ("variable", "Variable")),
    "rewrite": (("regexp", "Regexp"), ("replacement", "Replacement"), ("rewriteBody", "RewriteBody"), ("redirect", "Redirect")),
    "trace": (("addr", "Addr"), ("reqHeaders", "ReqHeaders"), ("respHeaders", "RespHeaders")),
    "cbreaker": (("condition", "Condition"), ("fallback", "FallbackDuration"), ("recovery", "RecoveryDuration"), ("period", "CheckPeriod")),
}  # fmt: skip


def _settings(kind: str, body: JSON) -> str:
    """Return a middleware's settings in the original's words; of ours, name=value for each."""
    if kind == "ratelimit":
        rest = (("burst", "Burst"), ("var", "Variable"), ("rateVar", "RateVar"))
        first = f"reqs/{body.get('PeriodSeconds')}s={body.get('Requests')}"
        return ", ".join((first, *(f"{name}={_word(body.get(field))}" for name, field in rest)))
    shown = _SHOWN.get(kind) or tuple((name, name) for name in body if kind not in ("auth", "basicauth"))  # fmt: skip
    words = {name: _word(body.get(field)) for name, field in shown}
    if kind == "cbreaker":
        words |= {n: _duration(body.get(field)) for n, field in shown if n != "condition"}
    if kind == "trace":
        words |= {n: f"[{' '.join(body.get(field) or ())}]" for n, field in shown if n != "addr"}
    return ", ".join(f"{name}={word}" for name, word in words.items())


def _duration(value: object) -> str:
    return format_ns(value) if isinstance(value, int) else str(value or "0s")


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{' '.join(map(_word, value))}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{name}:{_word(one)}' for name, one in value.items())}]"
    return "" if value is None else str(value)


def section(title: str, objects: Iterable[JSON] | None) -> str:
    """Return a titled table of objects, in the columns of their kind."""
    columns = COLUMNS.get(title) or COLUMNS[f"{title}s"]
    rows = [[_cell(look(obj)) for look in columns.values()] for obj in objects or ()]
    return f"\n[{title}]\n{table([list(columns), *rows])}\n"


def top(frontends: Sequence[JSON], servers: Sequence[JSON]) -> str:
    """Return the two tables of `vctl top`."""
    figures = ["50ile[ms]", "95ile[ms]", "99ile[ms]", "Status codes %", "Net. errors %"]
    fronts = [["Id", "Route", "R/sec", *figures]]
    fronts += [[_cell(one.get("Id")), _cell(one.get("Route")), *_figures(one)] for one in frontends]
    rows = [["Id", "URL", "Reqs/sec", *figures, "Messages"]]
    rows += [
        [_cell(one.get("Id")), _cell(one.get("URL")), *_figures(one), _messages(one)]
        for one in servers
    ]
    return f"\n[Frontend]\n{table(fronts)}\n\n[Servers]\n{table(rows)}\n"


def _figures(one: JSON) -> list[str]:
    counters = one["Stats"]["Counters"]
    total = counters["Total"]
    brackets = {b["Quantile"]: b["Value"] / 1e6 for b in one["Stats"]["LatencyBrackets"] or ()}
    codes = ", ".join(
        f"{c['Code']}: {100 * c['Count'] / total:.2f}"
        for c in counters["StatusCodes"] or ()
        if total
    )
    errors = 100 * counters["NetErrors"] / total if total else 0.0
    rate = total * 1e9 / counters["Period"] if counters["Period"] else 0.0
    times = [f"{brackets.get(quantile, 0.0):.2f}" for quantile in (50, 95, 99)]
    return [f"{rate:.1f}", *times, codes, f"{errors:.2f}"]


def _messages(one: JSON) -> str:
    found = one["Stats"]["Verdict"]["Anomalies"] or ()
    words = " ".join(f"({anomaly['Code']}) {anomaly['Message']}" for anomaly in found)
    return _cell(f"[{words}]") if words else ""


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as padded columns; no space at a line's end."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = (
        "".join(cell.ljust(width + _GAP) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(lines)


def _cell(value: object) -> str:
    """Return a value as text that cannot steer a terminal."""
    text = (
        {True: "true", False: "false", None: ""}.get(value, str(value))
        if isinstance(value, bool | None)
        else str(value)
    )
    return "".join(c if unicodedata.category(c)[0] != "C" else f"\\x{ord(c):02x}" for c in text)


def verdict(text: str, *, good: bool, colour: bool) -> str:
    """Return the closing line: green OK, red ERROR."""
    word = "OK" if good else "ERROR"
    if colour:
        word = f"\x1b[{32 if good else 31}m{word}\x1b[0m"
    return f"{word}: {text}"

# SPDX-License-Identifier: Apache-2.0
"""Tables as the original prints them: a title in brackets, columns at least 5 spaces apart. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

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
        "Settings": lambda o: o.get("Middleware"),
    },
}


def _of(obj: JSON, outer: str, inner: str) -> object:
    value = obj.get(outer)
    return value.get(inner) if isinstance(value, dict) else None


def section(title: str, objects: Iterable[JSON] | None) -> str:
    """Return a titled table of objects, in the columns of their kind."""
    columns = COLUMNS[title]
    rows = [[_cell(look(obj)) for look in columns.values()] for obj in objects or ()]
    return f"\n[{title}]\n\n{table([list(columns), *rows])}\n"


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

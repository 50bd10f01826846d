# SPDX-License-Identifier: Apache-2.0
"""The log: a constant message plus fields, logfmt or JSON, on stderr.

Our own, not `structlog`: importing that costs 50-100 ms at each start and 5 MiB in each daemon,
a third of what issue-size budgets leave (docs/design.md has the figures).

* error = someone must act; warning = degraded, mending itself; info = the world changed;
  debug = every decision; fatal = why the program ends.
* A secret is never written: fields with telling names are masked, and so is every text given
  to `hide`, wherever it turns up.
* The same warning or error (message and fields) is written once in 30 s; the next one then
  says how many were left out (`repeated=`).
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from fairlead.clock import SYSTEM, Clock

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "fatal": 50}
SECRET_FIELDS: Final = frozenset(
    ("password", "passwd", "token", "auth_token", "secret", "secret_id", "seal_key", "private_key")
)
REPEAT_SECONDS: Final = 30.0
_MASK: Final = "********"
_MOST_REMEMBERED: Final = 1000


@dataclass(frozen=True, slots=True)
class Line:
    """One line before it is rendered."""

    wall: float
    level: str
    message: str
    fields: Mapping[str, object]


Render = Callable[[Line], str]


def stamp(wall: float) -> str:
    """Return an RFC 3339 time in UTC with milliseconds."""
    moment = datetime.fromtimestamp(wall, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def logfmt(line: Line) -> str:
    """Render as `time=… level=… msg="…" key=value`."""
    parts = [f"time={stamp(line.wall)}", f"level={line.level}", f"msg={_word(line.message)}"]
    parts += [f"{name}={_word(value)}" for name, value in line.fields.items()]
    return " ".join(parts)


def as_json(line: Line) -> str:
    """Render as one JSON object; values that JSON lacks are written as text."""
    head = {"time": stamp(line.wall), "level": line.level, "msg": line.message}
    return json.dumps({**head, **line.fields}, default=_text, ensure_ascii=False)


def _text(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


_PLAIN: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@+,%*&[]()~^<>|;!?#$'"
)


def _word(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = _text(value)
    return text if text and _PLAIN.issuperset(text) else json.dumps(text, ensure_ascii=False)


RENDERERS: Final[dict[str, Render]] = {
    "auto": logfmt,
    "text": logfmt,  # a fork of confd calls it so
    "logfmt": logfmt,
    "json": as_json,
}


def _stderr(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@dataclass(slots=True)
class Sink:
    """Where lines go; shared by all loggers of a process."""

    level: int = 20
    render: Render = logfmt
    write: Callable[[str], None] = _stderr
    clock: Clock = SYSTEM
    secrets: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)  # lines written, by level
    _seen: dict[object, tuple[float, int]] = field(default_factory=dict)

    def put(self, level: str, message: str, fields: dict[str, object]) -> None:
        """Write a line, unless its level is off or it was just written."""
        if LEVELS[level] < self.level:
            return
        if LEVELS[level] >= 30:
            left_out = self._repeats((message, *map(str, fields.values())))
            if left_out is None:
                return
            if left_out:
                fields["repeated"] = left_out
        for name in fields.keys() & SECRET_FIELDS:
            fields[name] = _MASK
        text = self.render(Line(self.clock.wall(), level, message, fields))
        for secret in self.secrets:
            text = text.replace(secret, _MASK)
        self.counts[level] = self.counts.get(level, 0) + 1
        self.write(text)

    def _repeats(self, what: object) -> int | None:
        """Return how many equal lines were left out since the last; None: leave this out too."""
        now = self.clock.monotonic()
        last, left_out = self._seen.get(what, (-REPEAT_SECONDS, 0))
        if now - last < REPEAT_SECONDS:
            self._seen[what] = (last, left_out + 1)
            return None
        if len(self._seen) >= _MOST_REMEMBERED:
            self._seen.clear()
        self._seen[what] = (now, 0)
        return left_out


class Log:
    """Writes lines with bound fields."""

    __slots__ = ("_fields", "sink")

    def __init__(self, sink: Sink, fields: Mapping[str, object] | None = None) -> None:
        self.sink = sink
        self._fields = dict(fields or {})

    def bind(self, **fields: object) -> Log:
        """Return a logger that adds `fields` to every line."""
        return Log(self.sink, {**self._fields, **fields})

    def debug(self, message: str, /, **fields: object) -> None:
        """Log a decision."""
        self.sink.put("debug", message, {**self._fields, **fields})

    def info(self, message: str, /, **fields: object) -> None:
        """Log a change of the world."""
        self.sink.put("info", message, {**self._fields, **fields})

    def warning(self, message: str, /, **fields: object) -> None:
        """Log that something is degraded and mends itself."""
        self.sink.put("warning", message, {**self._fields, **fields})

    def error(self, message: str, /, **fields: object) -> None:
        """Log that someone must act."""
        self.sink.put("error", message, {**self._fields, **fields})

    def fatal(self, message: str, /, **fields: object) -> None:
        """Log why the program ends now."""
        self.sink.put("fatal", message, {**self._fields, **fields})

    def fault(self, message: str, error: BaseException, /, **fields: object) -> None:
        """Log a fault of ours with its traceback."""
        trace = "".join(traceback.format_exception(error))
        shown = {"error": f"{type(error).__name__}: {error}", "traceback": trace}
        self.sink.put("error", message, {**self._fields, **fields, **shown})

    def hide(self, *secrets: str) -> None:
        """Mask these texts in every line from now on; texts under 4 characters are left."""
        self.sink.secrets.update(secret for secret in secrets if len(secret) > 3)


class FromLogging(logging.Handler):
    """Brings what libraries write with `logging` into our log."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record of a library."""
        level = "error" if record.levelno >= logging.ERROR else "warning"
        fields: dict[str, object] = {"logger": record.name}
        if record.exc_info and record.exc_info[1]:
            fields["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        self._log.sink.put(level, record.getMessage(), fields)


def take_over(log: Log) -> None:
    """Send the root logger's warnings and errors to `log`."""
    logging.basicConfig(handlers=[FromLogging(log)], level=logging.WARNING, force=True)

# SPDX-License-Identifier: Apache-2.0
"""vulcand's log formats (specs/vulcand.md §14): console, json, logstash on stdout; syslog."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache
from typing import Final

from fairlead.log import RENDERERS, Line, Render, stamp
from lb.syslog import FACILITIES, SEVERITIES, Syslog

FORMATS: Final = ("console", "json", "syslog", "logstash")
_SEVERITY: Final = {"error": "ERR", "warning": "WARNING", "info": "INFO", "debug": "DEBUG"}


def logstash(line: Line) -> str:
    """Render as logstash's own event."""
    head = {
        "@timestamp": stamp(line.wall),
        "@version": "1",
        "level": line.level,
        "message": line.message,
        "type": "logs",
    }
    return json.dumps({**head, **line.fields}, default=str, ensure_ascii=False)


class ToSyslog:
    """Lines to UDP 127.0.0.1:514, facility mail, tag vulcand; each with its level's severity."""

    def __init__(self, port: int = 514) -> None:
        self._to = Syslog("127.0.0.1", port, "", FACILITIES["MAIL"] * 8, "vulcand")
        self._severity = SEVERITIES["INFO"]

    def render(self, line: Line) -> str:
        """Render, and note the severity for the write that follows at once."""
        self._severity = SEVERITIES[_SEVERITY[line.level]]
        return RENDERERS["logfmt"](line)

    def write(self, text: str) -> None:
        """Send."""
        self._to.send(text, self._severity)

    def close(self) -> None:
        """Close the socket; the next line opens it anew."""
        self._to.close()


@cache
def _syslog() -> ToSyslog:
    return ToSyslog()


def render(name: str) -> Render:
    """Return how a format's lines look; a name unknown counts as console."""
    if name == "syslog":
        return _syslog().render
    return {"json": RENDERERS["json"], "logstash": logstash}.get(name, RENDERERS["logfmt"])


def write(name: str) -> Callable[[str], None]:
    """Return where a format's lines go."""
    return _syslog().write if name == "syslog" else _stdout


def _stdout(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()

# SPDX-License-Identifier: Apache-2.0
"""vulcand's log formats (specs/vulcand.md §14): console, json, logstash, syslog."""

from __future__ import annotations

import json
from typing import Final

from fairlead.log import RENDERERS, Line, Render, Sink, stamp
from lb.syslog import FACILITIES, SEVERITIES, Syslog

FORMATS: Final = ("console", "json", "syslog", "logstash")


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


def render(name: str) -> Render:
    """Return how a format's lines look; a name unknown counts as console."""
    return {"json": RENDERERS["json"], "logstash": logstash}.get(name, RENDERERS["logfmt"])


def to_syslog(sink: Sink) -> None:
    """Send every line from now on to UDP 127.0.0.1:514, facility mail, tag vulcand."""
    to = Syslog("127.0.0.1", 514, "", FACILITIES["MAIL"] * 8 + SEVERITIES["INFO"], "vulcand")
    sink.write = to.send

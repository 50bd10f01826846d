# SPDX-License-Identifier: Apache-2.0
"""vulcand's log formats (§14)."""

from __future__ import annotations

import json
import socket

import pytest

from fairlead.log import Line, Sink
from lb import logs

LINE = Line(1_700_000_000.5, "warning", "server upserted", {"backend": "b 1"})


def test_14_console() -> None:
    assert logs.render("console")(LINE) == (
        'time=2023-11-14T22:13:20.500Z level=warning msg="server upserted" backend="b 1"'
    )
    assert logs.render("zap")(LINE) == logs.render("console")(LINE)  # an unknown word


def test_14_json() -> None:
    assert json.loads(logs.render("json")(LINE)) == {
        "time": "2023-11-14T22:13:20.500Z",
        "level": "warning",
        "msg": "server upserted",
        "backend": "b 1",
    }


def test_14_logstash() -> None:
    assert json.loads(logs.render("logstash")(LINE)) == {
        "@timestamp": "2023-11-14T22:13:20.500Z",
        "@version": "1",
        "level": "warning",
        "message": "server upserted",
        "type": "logs",
        "backend": "b 1",
    }


def test_14_syslog() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        to = logs.ToSyslog(receiver.getsockname()[1])
        sink = Sink(level=10, render=to.render, write=to.write)
        for level in ("error", "warning", "info", "debug"):
            sink.put(level, "server upserted", {"level_is": level})
            text = receiver.recv(2000).decode()
            severity = {"error": 3, "warning": 4, "info": 6, "debug": 7}[level]
            assert text.startswith(f"<{2 * 8 + severity}>")  # facility mail
            assert " vulcand: time=" in text
            assert text.endswith(f"level_is={level}\n")
        to.close()


def test_14_lines_go_to_stdout_as_the_originals(capsys: pytest.CaptureFixture[str]) -> None:
    logs.write("json")("{}")
    assert capsys.readouterr().out == "{}\n"

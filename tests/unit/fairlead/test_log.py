# SPDX-License-Identifier: Apache-2.0
import json
import logging

import pytest

from fairlead import log
from fairlead.testing.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def logger(clock: ManualClock, lines: list[str]) -> log.Log:
    return log.Log(log.Sink(write=lines.append, clock=clock))


def test_logfmt(logger: log.Log, lines: list[str]) -> None:
    logger.info("route put", dst="10.5.2.0/24", via=None, n=3, ok=True, s=0.25, words="a b", q='"')
    assert lines == [
        'time=2023-11-14T22:13:20.000Z level=info msg="route put" dst=10.5.2.0/24 via= n=3 ok=true '
        's=0.25 words="a b" q="\\""'
    ]


def test_a_line_is_one_line(logger: log.Log, lines: list[str]) -> None:
    logger.info("x", key=b"/a\nlevel=error", text="a\nb")
    assert "\n" not in lines[0]
    assert 'key="/a\\nlevel=error"' in lines[0]


def test_json(lines: list[str], clock: ManualClock) -> None:
    logger = log.Log(log.Sink(render=log.as_json, write=lines.append, clock=clock))
    logger.bind(a=1).warning("m", key=b"\xff", e=ValueError("x"))
    assert json.loads(lines[0]) == {
        "time": "2023-11-14T22:13:20.000Z",
        "level": "warning",
        "msg": "m",
        "a": 1,
        "key": "\\xff",
        "e": "x",
    }


def test_levels(logger: log.Log, lines: list[str]) -> None:
    logger.debug("no")
    logger.sink.level = log.LEVELS["error"]
    logger.warning("no")
    logger.error("yes")
    assert len(lines) == 1


def test_secrets_never(logger: log.Log, lines: list[str]) -> None:
    logger.hide("hunter2", "")
    logger.info("login", password="abc", url="http://u:hunter2@h/")
    assert "abc" not in lines[0]
    assert "hunter2" not in lines[0]
    assert lines[0].count("********") == 2


async def test_repeated_faults_are_left_out_and_counted(
    logger: log.Log, lines: list[str], clock: ManualClock
) -> None:
    for _ in range(5):
        logger.warning("refused", endpoint="a")
    logger.warning("refused", endpoint="b")
    assert len(lines) == 2
    await clock.advance(30)
    logger.warning("refused", endpoint="a")
    assert lines[2].endswith("endpoint=a repeated=4")


def test_changes_of_the_world_are_never_left_out(logger: log.Log, lines: list[str]) -> None:
    for _ in range(5):
        logger.info("route put", dst="a")
    assert len(lines) == 5


def test_libraries_log_through_ours(logger: log.Log, lines: list[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        log.take_over(logger)
        logging.getLogger("asyncio").warning("slow %s", "callback")
        logging.getLogger("asyncio").info("not this")
    finally:
        root.handlers[:], root.level = before
    assert [line.split(" ", 1)[1] for line in lines] == [
        'level=warning msg="slow callback" logger=asyncio'
    ]


def test_fault_has_the_traceback(logger: log.Log, lines: list[str]) -> None:
    try:
        {}["x"]
    except KeyError as error:
        logger.fault("fatal", error)
    assert "Traceback" in lines[0]
    assert "test_log.py" in lines[0]

# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from fairlead import __version__, cli, doctor


def invoke(*argv: str) -> Any:
    return CliRunner().invoke(cli.fairlead, argv)


def test_version() -> None:
    assert invoke("version").output == f"fairlead {__version__}\n"


def test_help_lists_every_verb() -> None:
    output = invoke("--help").output
    for verb in ("demo", "doctor", "etcd", "plan", "register", "status", "version", "watch"):
        assert f"\n  {verb} " in output


def test_an_unknown_verb_is_refused_by_name() -> None:
    done = invoke("statsu")
    assert done.exit_code == 2
    assert 'no such verb: "statsu"; did you mean "status"?' in done.output


def test_a_verb_that_is_not_built_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli._ELSEWHERE, "soon", ("fairlead.soon", "main", "Later."))
    done = invoke("soon", "-x")
    assert done.exit_code == 1
    assert f"soon: not built yet in version {__version__}" in done.output


def test_nouns_of_the_packages_are_mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def noun() -> None:
        click.echo("names")

    class Point:
        name = "dns"

        def load(self) -> click.Command:
            return noun

    monkeypatch.setattr(cli, "_nouns", lambda: {"dns": Point()})
    assert invoke("dns").output == "names\n"


def test_no_daemon_is_an_error(tmp_path: Path) -> None:
    done = invoke("status", "--socket", f"{tmp_path}/skydns.sock", "-o", "json")
    assert done.exit_code == 1
    (told,) = json.loads(done.output)
    assert told["program"] == "skydns"
    assert "cannot be asked" in told["error"]


def test_status_row() -> None:
    daemon = {
        "program": "skydns",
        "pid": 7,
        "ready": True,
        "conditions": [{"name": "etcd-connected", "holds": False, "why": "reset"}],
        "mirrors": [
            {"revision": 9, "stale_seconds": 0.0},
            {"revision": 5, "stale_seconds": 61.25},
        ],
        "records": [{"good": 3, "rejected_total": 1}, {"good": 2, "rejected_total": 0}],
    }
    assert cli.status_row(daemon) == (
        *("skydns", "7", "yes", "5", "61.2 s", "5", "1"),
        "etcd-connected: reset",
    )
    assert cli.status_row({"program": "confd", "ready": False, "error": "gone"})[-1] == "gone"


@pytest.mark.parametrize(
    ("wall", "synced", "level"),
    [(2e9, True, "ok"), (2e9, False, "warning"), (2e9, None, "warning"), (0.0, True, "error")],
)
def test_clock(wall: float, synced: bool | None, level: str) -> None:
    assert doctor.clock(wall, synced).level == level


def test_the_kernel_is_asked_about_its_clock() -> None:
    assert doctor.synchronised() in (True, False, None)


@pytest.mark.slow
def test_help_loads_nothing_heavy() -> None:
    """What keeps `fairlead --help` under 200 ms (`bench/idle.py` measures it)."""
    code = (
        "import runpy, sys; sys.argv = ['fairlead', '--help']\n"
        "try: runpy.run_module('fairlead', run_name='__main__')\n"
        "finally: print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert {"click", "skydns", "lb", "confd", "flannelpy"} <= loaded  # the nouns are there
    heavy = {"asyncio", "ssl", "grpclib", "google", "msgspec", "aiohttp", "prometheus_client", "rich", "cryptography", "pyroute2"}  # fmt: skip
    assert not loaded & heavy

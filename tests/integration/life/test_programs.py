# SPDX-License-Identifier: Apache-2.0
"""What every daemon promises of its command line: -check-config, -print-config, bad flags."""

import importlib.util
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PROGRAMS = {
    "flanneld": "flannelpy.cli",
    "skydns": "skydns.cli",
    "confd": "confd.cli",
    "vulcand": "lb.cli",
}
BAD_FLAG_EXIT = {"flanneld": 2, "skydns": 2, "confd": 2, "vulcand": 2}  # flanneld: trap T21

AUDITED = """
import os, sys
def hook(event, args):
    if event == "open":
        path, mode, flags = args
        if isinstance(path, str) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and path != "/dev/null":
            sys.stderr.write(f"WROTE {path}\\n")
    elif event in ("socket.__new__", "os.mkdir", "os.rename", "os.remove", "subprocess.Popen"):
        sys.stderr.write(f"DID {event} {args}\\n")
sys.dont_write_bytecode = True
sys.addaudithook(hook)
from importlib import import_module
sys.exit(import_module(sys.argv[1]).main(sys.argv[2:]))
"""


@pytest.fixture(params=PROGRAMS, ids=str)
def program(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    package = PROGRAMS[name].partition(".")[0]
    if importlib.util.find_spec(PROGRAMS[name]) is None:
        pytest.skip(f"{name}: {package} has no command line yet")
    return name


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *argv], capture_output=True, text=True, timeout=30, check=False
    )


def test_check_config_opens_no_socket_and_writes_nothing(program: str) -> None:
    done = run("-c", AUDITED, PROGRAMS[program], "-check-config")
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if line.startswith(("WROTE", "DID"))]


def test_check_config_loads_nothing_heavy(program: str) -> None:
    """What keeps `-check-config` under 300 ms (`bench/idle.py` measures it)."""
    code = (
        "import runpy, sys; sys.argv = [sys.argv[1], '-check-config']\n"
        "try: runpy.run_module(sys.argv[0], run_name='__main__')\n"
        "finally: print(*sys.modules)"
    )
    done = run("-c", code, PROGRAMS[program].partition(".")[0])
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert not loaded & {"grpclib", "google", "aiohttp", "rich", "uvloop"}


def test_check_config_prints_all_faults_of_a_command_line(program: str) -> None:
    done = run(
        "-m", PROGRAMS[program].partition(".")[0], "-check-config", "-nonsense=1", "-nonsuch=2"
    )
    assert done.returncode == 1
    assert "flag provided but not defined: -nonsense" in done.stderr
    assert "flag provided but not defined: -nonsuch" in done.stderr


def test_print_config_names_sources(program: str) -> None:
    done = run("-m", PROGRAMS[program].partition(".")[0], "-print-config", "-state-dir=/x")
    assert done.returncode == 0, done.stderr
    rows = {tuple(part.strip() for part in line.split("  # ")) for line in done.stdout.splitlines()}
    assert ('state-dir = "/x"', "command line") in rows


def test_a_bad_flag_has_the_originals_exit_status(program: str) -> None:
    done = run("-m", PROGRAMS[program].partition(".")[0], "-nonsense=1")
    assert "flag provided but not defined: -nonsense" in done.stderr
    assert done.returncode == BAD_FLAG_EXIT[program]

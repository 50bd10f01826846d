# SPDX-License-Identifier: Apache-2.0
"""The systemd units: systemd has nothing to say, and each daemon has only the rights it needs."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGING = Path(__file__).parents[3] / "packaging"
UNITS = sorted((PACKAGING / "systemd").glob("*.service"))
CAPABILITIES = {
    "flanneld": "CAP_NET_ADMIN CAP_NET_RAW",
    "skydns": "CAP_NET_BIND_SERVICE",
    "confd": "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL",
    "vulcand": "CAP_NET_BIND_SERVICE",
}

analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def service(unit: Path) -> dict[str, str]:
    """Return the [Service] section; the last of a key that is given twice."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    return dict(parser["Service"])


@pytest.fixture
def installed(tmp_path: Path) -> list[str]:
    """The units as on a machine where the programs lie in our virtual environment."""
    copies = []
    for unit in UNITS:
        copy = tmp_path / unit.name
        copy.write_text(
            unit.read_text().replace("/opt/fairlead/bin", str(Path(sys.prefix) / "bin"))
        )
        copies.append(str(copy))
    return copies


def test_there_is_one_for_each_daemon() -> None:
    assert {unit.stem for unit in UNITS} == set(CAPABILITIES)


@analyze
def test_systemd_has_nothing_to_say(installed: list[str]) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *installed],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@analyze
def test_systemd_would_have_spoken(tmp_path: Path) -> None:
    """The test above can fail: an unknown setting and an absent program are told."""
    unit = tmp_path / "bad.service"
    unit.write_text("[Service]\nExecStart=/no/such/program\nNoSuchSetting=1\n")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert "NoSuchSetting" in done.stderr
    assert "/no/such/program" in done.stderr


@analyze
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_exposure_is_low(unit: Path) -> None:
    """systemd's own figure, 0 (safe) to 10; an unconfined service has 9.6."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=35", str(unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_notifies_and_has_least_capabilities(unit: Path) -> None:
    settings = service(unit)
    assert settings["Type"] == "notify"
    assert settings["CapabilityBoundingSet"] == CAPABILITIES[unit.stem]
    assert (
        settings.get("AmbientCapabilities", settings["CapabilityBoundingSet"])
        == (settings["CapabilityBoundingSet"])
    )
    assert settings["NoNewPrivileges"] == "yes"
    assert settings["StateDirectory"] == f"fairlead/{unit.stem}"
    # a user of its own has no default place for the admin socket that `fairlead status` looks in
    assert ("User" in settings) == ("-admin-socket=/run/fairlead/" in settings["ExecStart"])
    assert "Requires" not in unit.read_text().replace("no Requires=", "")


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_flags_of_the_unit_are_accepted(unit: Path, tmp_path: Path) -> None:
    words = service(unit)["ExecStart"].replace("%S", str(tmp_path)).split()
    program = Path(sys.prefix) / "bin" / Path(words[0]).name
    flags = [word for word in words[1:] if word != "$OPTIONS"]
    done = subprocess.run(
        [program, *flags, "-check-config"], capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("systemd-sysusers", ["sysusers.d/fairlead.conf"]),
        ("systemd-tmpfiles", ["--create", "tmpfiles.d/fairlead.conf"]),
    ],
)
def test_user_and_directory_are_made(tool: str, arguments: list[str], tmp_path: Path) -> None:
    if shutil.which(tool) is None or os.geteuid() != 0:
        pytest.skip(f"needs root and {tool}")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (tmp_path / "etc" / "group").write_text("root:x:0:\nfairlead:x:990:\n")
    *flags, file = arguments
    done = subprocess.run(
        [tool, f"--root={tmp_path}", *flags, str(PACKAGING / file)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if tool == "systemd-tmpfiles":
        made = (tmp_path / "run" / "fairlead").stat()
        assert oct(made.st_mode) == "0o41770"
        assert made.st_gid == 990
    else:
        assert "fairlead:" in (tmp_path / "etc" / "passwd").read_text()

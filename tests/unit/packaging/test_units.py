# SPDX-License-Identifier: Apache-2.0
"""The systemd units: systemd has nothing to say, and each daemon has only the rights it needs."""

from __future__ import annotations

import configparser
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

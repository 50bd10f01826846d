"""The wheel holds all packages and programs, and installs where there is no network."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAMS = {
    "flanneld",
    "mk-docker-opts",
    "flannel",
    "skydns",
    "confd",
    "vulcand",
    "vctl",
    "fairlead",
}


@pytest.mark.slow
def test_the_wheel_builds_and_holds_everything(tmp_path: Path) -> None:
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "--disable-pip-version-check",
            "-w",
            str(tmp_path),
            str(ROOT),
        ],
        check=True,
        timeout=100,
    )
    (wheel,) = tmp_path.glob("fairlead-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for package in ("fairlead", "flannelpy", "skydns", "confd", "lb"):
        there = {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")}
        assert there <= set(names)
        assert f"{package}/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "bench/"))]
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    text = zipfile.ZipFile(wheel).read(entry_points).decode()
    assert {line.split(" =")[0] for line in text.splitlines() if " = " in line} >= PROGRAMS

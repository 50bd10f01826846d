# SPDX-License-Identifier: Apache-2.0
"""The image and the quadlets: they name what exists, and have the rights of the systemd units."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from fairlead.flags import Settings

ROOT = Path(__file__).parents[3]
QUADLETS = sorted((ROOT / "packaging/quadlet").glob("*.container"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PLACES = os.pathsep.join(
    (os.environ.get("PATH", ""), os.environ.get("FAIRLEAD_PEERS", ""), "/usr/libexec/podman")
)
GENERATOR = shutil.which("quadlet", path=PLACES)


def sections(file: Path) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(file)
    return {name: dict(parser[name]) for name in parser.sections()}


def test_the_image_has_every_package() -> None:
    copied = re.findall(r"^COPY (\w+) /src/\1$", (ROOT / "packaging/Containerfile").read_text(), re.MULTILINE)  # fmt: skip
    assert copied == PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


@pytest.mark.parametrize("file", QUADLETS, ids=lambda file: file.stem)
def test_program_and_flags_exist(file: Path) -> None:
    from flannelpy.settings import SETTINGS as FLANNELD
    from lb.settings import SETTINGS as VULCAND
    from skydns.settings import SETTINGS as SKYDNS

    programs: dict[str, Settings] = {"flanneld": FLANNELD, "skydns": SKYDNS, "vulcand": VULCAND}
    name, *words = shlex.split(sections(file)["Container"]["Exec"])
    assert name == file.stem
    assert name in PROJECT["project"]["scripts"]
    programs[name].parse(words, {})


@pytest.mark.parametrize("file", QUADLETS, ids=lambda file: file.stem)
def test_rights_are_those_of_the_unit(file: Path) -> None:
    container = sections(file)["Container"]
    unit = sections(ROOT / f"packaging/systemd/{file.stem}.service")["Service"]
    bounds = unit["CapabilityBoundingSet"].split()
    assert [f"CAP_{word}" for word in container["AddCapability"].split()] == bounds
    assert (container["DropCapability"], container["ReadOnly"]) == ("all", "true")


@pytest.mark.skipif(GENERATOR is None, reason="podman's quadlet (4.4 and newer) is not installed")
def test_podman_makes_units_of_them() -> None:
    assert GENERATOR is not None
    done = subprocess.run(
        [GENERATOR, "-dryrun"],
        env={"QUADLET_UNIT_DIRS": str(QUADLETS[0].parent)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    made = re.findall(r"^ExecStart=\S*podman run --name (\S+) .* --network host .*$", done.stdout, re.MULTILINE)  # fmt: skip
    assert made == [file.stem for file in QUADLETS]
    assert "unsupported" not in done.stderr

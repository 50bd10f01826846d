# SPDX-License-Identifier: Apache-2.0
"""docs/lb.md says what the program does: flags, verbs, metrics, routes."""

from __future__ import annotations

import re
from pathlib import Path

from lb import predicate, settings
from lb.route.parse import parse
from lb.vctl.commands import COMMANDS

TEXT = (Path(__file__).parents[3] / "docs" / "lb.md").read_text()
OPTIONS = TEXT.partition("## Options")[2].partition("## Commands")[0]


def test_every_flag_of_the_original_is_described_and_no_other() -> None:
    described = set(re.findall(r"`-([A-Za-z-]+)`", OPTIONS))
    known = {s.name for s in settings.SETTINGS.all} | {
        a for s in settings.SETTINGS.all for a in s.aliases
    }
    assert described <= known
    assert {s.name for s in settings.SETTINGS.all if not s.ours} <= described


def test_defaults_are_the_programs() -> None:
    rows = dict(re.findall(r"^\| `-(\w+)`[^|]*\| ([^|]*?) \|", OPTIONS, re.MULTILINE))
    assert rows["endpointDialTimeout"] == "5s"
    assert settings.SETTINGS.by_name["endpointDialTimeout"].default == 5.0
    assert (
        int(rows["serverMaxHeaderBytes"])
        == settings.SETTINGS.by_name["serverMaxHeaderBytes"].default
    )


def test_verbs_and_their_flags() -> None:
    section = TEXT.partition("## Commands of vctl")[2].partition("## API")[0]
    for noun, verbs in COMMANDS.items():
        (row,) = re.findall(rf"^\| `{noun}` \|(.*)\|$", section, re.MULTILINE)
        for verb, command in verbs.items():
            assert verb in row
            for flag in command.flags:
                names = (flag.name, *flag.aliases)
                assert any(f"-{name}" in section for name in names), (noun, verb, flag.name)


def test_routes_and_predicates_in_the_text_parse() -> None:
    for route in re.findall(r"^    (Host\(.*)$", TEXT, re.MULTILINE):
        parse(route)
    predicate.parse(re.findall(r"Default: `(IsNetwork.*?)`", TEXT)[0])


def test_metric_names() -> None:
    source = (Path(__file__).parents[3] / "lb" / "metrics.py").read_text()
    for name in set(re.findall(r"`(lb_\w+)", TEXT)):
        assert f'"{name.removesuffix("_total")}"' in source

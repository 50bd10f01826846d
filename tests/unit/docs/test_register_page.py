# SPDX-License-Identifier: Apache-2.0
"""docs/fairlead-register.md has the options that the program has, with their defaults."""

from __future__ import annotations

import re
from pathlib import Path

import click

from fairlead.register.cli import command

PAGE = (Path(__file__).parents[3] / "docs" / "fairlead-register.md").read_text()


def test_options() -> None:
    wanted = []
    for option in command.params:
        if isinstance(option, click.Option):
            default = str(option.default) if option.show_default else ""
            envvar = str(option.envvar) if option.envvar else ""
            help_text = (option.help or "").split("  [default")[0]
            wanted.append((option.opts[0], default, envvar, help_text))
    rows = re.findall(r"^\| `(--[a-z-]+)` \| (.*) \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
    told = [(name, d.strip("`–"), e.strip("`–"), text) for name, d, e, text in rows]
    assert told == wanted

# SPDX-License-Identifier: Apache-2.0
"""What is printed of settings: `-help`, the table in docs/, `-print-config`."""

from __future__ import annotations

from fairlead.flags.convert import literal, show
from fairlead.flags.setting import MANY, Kind, Setting
from fairlead.flags.settings import Settings
from fairlead.flags.values import Values


def usage(settings: Settings) -> str:
    """Return the text of `-help`, as Go's flag package prints it."""
    lines = [f"Usage of {settings.program}:"]
    if settings.summary:
        lines[:0] = [settings.summary, ""]
    for setting in sorted(settings.all, key=lambda s: s.name):
        if setting.refused or setting.ignored:
            continue
        word = f" {setting.kind.value}" if setting.kind.value else ""
        lines.append(f"  -{setting.name}{word}")
        lines.append(f"    \t{setting.help}{_default_note(settings, setting)}")
    return "\n".join(lines) + "\n"


def _default_note(settings: Settings, setting: Setting) -> str:
    notes = []
    if setting.initial() not in ("", False, (), None):
        text = show(setting, setting.initial())
        quoted = f'"{text}"' if setting.kind in (Kind.STR, *MANY) else text
        notes.append(f"default {quoted}{' ' + setting.unit if setting.unit else ''}")
    elif setting.unit:
        notes.append(setting.unit)
    if setting.choices:
        notes.append("one of " + ", ".join(setting.choices))
    variables = settings.variables(setting)
    if variables:
        notes.append("env " + " or ".join(variables))
    return f" ({'; '.join(notes)})" if notes else ""


def table(settings: Settings) -> str:
    """Return the Markdown table of the program's page in docs/."""
    lines = [
        "| Flag | Default | Environment | File key | Meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    for setting in settings.all:
        if setting.refused:
            meaning = f"*Refused*: {setting.refused}"
        elif setting.ignored:
            meaning = f"*Without effect*: {setting.ignored}"
        else:
            meaning = setting.help
        default = show(setting, setting.initial())
        shown = f"`{default}`{' ' + setting.unit if setting.unit else ''}" if default else "–"
        variables = ", ".join(f"`{name}`" for name in settings.variables(setting)) or "–"
        key = f"`{setting.file_key}`" if setting.file_key else "–"
        names = ", ".join(f"`-{name}`" for name in (setting.name, *setting.aliases))
        cells = (names, shown, variables, key, meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def print_config(values: Values) -> str:
    """Return `name = value  # source` for every setting: `-print-config`."""
    rows = [
        (f"{s.name} = {literal(s, values[s.name])}", str(values.source(s.name)))
        for s in values.settings.values()
        if not s.refused and not s.ignored
    ]
    width = min(48, max((len(left) for left, _ in rows), default=0))
    return "".join(f"{left:<{width}}  # {right}\n" for left, right in rows)

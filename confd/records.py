# SPDX-License-Identifier: Apache-2.0
"""conf.d/*.toml → TemplateResource (specs/confd.md §3). Pure.

A fault costs its own resource only; all faults of a file are told at once.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from confd.keys import effective_prefix, fetch_key
from fairlead.duration import parse_seconds
from fairlead.errors import ConfigError, ConfigErrors
from fairlead.flags import nearest

CHECK_SECONDS: Final = 30.0  # the fork's defaults; the original had no limit
RELOAD_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class TemplateResource:
    """One resource file.

    Attributes:
        file: the resource file; its name in logs, plans and scopes.
        src: template, relative to the template directory.
        dest: file to keep; relative to the daemon's directory.
        keys: etcd keys to fetch, each with all below it, prefix included.
        prefix: what template names lack of the etcd keys.
        mode: permission bits; None: the present file's, or 0644.
        uid, gid: numeric owner; None: the daemon's.
        owner, group: names; a number wins.
        check_cmd, reload_cmd: shell commands, "" for none.
        check_seconds, reload_seconds: how long they may take.
        warnings: what the operator should hear about this file.
    """

    file: str
    src: str
    dest: str
    keys: tuple[str, ...] = ()
    prefix: str = "/"
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    owner: str = ""
    group: str = ""
    check_cmd: str = ""
    reload_cmd: str = ""
    check_seconds: float = CHECK_SECONDS
    reload_seconds: float = RELOAD_SECONDS
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.file


_STRINGS: Final = (
    "src",
    "dest",
    "prefix",
    "mode",
    "owner",
    "group",
    "check_cmd",
    "reload_cmd",
    "check_cmd_timeout",
    "reload_cmd_timeout",
)
_NUMBERS: Final = ("uid", "gid")
_REFUSED: Final = ("output_format", "min_reload_interval", "debounce")
_KNOWN: Final = (*_STRINGS, *_NUMBERS, "keys", *_REFUSED)


@dataclass(slots=True)
class _Reader:
    file: str
    table: Mapping[str, Any]
    errors: list[ConfigError]

    def fault(self, name: str, value: object, reason: str) -> None:
        shown = "" if value is None else str(value)
        self.errors.append(ConfigError(f'key "{name}"', shown, self.file, reason))

    def get(self, name: str) -> Any:
        """Return a key's value, its exact name preferred, any letter case taken."""
        if name in self.table:
            return self.table[name]
        return next((v for key, v in self.table.items() if key.lower() == name), None)

    def text(self, name: str) -> str:
        value = self.get(name)
        if value is None or isinstance(value, str):
            return value or ""
        self.fault(name, value, "must be a string")
        return ""

    def number(self, name: str) -> int | None:
        value = self.get(name)
        if value is None or (type(value) is int and value >= 0):
            return value
        self.fault(name, value, "must be a whole number, not negative")
        return None

    def strings(self, name: str) -> tuple[str, ...]:
        value = self.get(name)
        if value is None:
            return ()
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        self.fault(name, value, "must be a list of strings")
        return ()

    def seconds(self, name: str, default: float) -> float:
        text = self.text(name)
        if not text:
            return default
        try:
            return parse_seconds(text)
        except ValueError as error:
            self.fault(name, text, str(error))
            return default


def decode_resource(
    file: str, text: str, *, prefix: str = "", prefix_mode: str = "override"
) -> TemplateResource:
    """Return the resource a file describes.

    Args:
        file: its path, for messages.
        text: its TOML.
        prefix: the common prefix (`-prefix`).
        prefix_mode: how it meets the resource's own: "override" or "join".

    Raises:
        ConfigErrors: all that is wrong with it.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigErrors((ConfigError("resource", file, file, f"not TOML: {error}"),)) from error
    table = next((v for key, v in document.items() if key.lower() == "template"), None)
    if not isinstance(table, dict):
        fault = ConfigError("table", "template", file, "missing")
        raise ConfigErrors((fault,))
    reader = _Reader(file, table, [])
    if any(key.lower() == "backend" for key in document):
        reader.fault("backend", None, "a backend for one resource is not built yet")
    for name in _REFUSED:
        if reader.get(name) is not None:
            reader.fault(name, reader.get(name), "not built yet")
    found = _resource(reader, prefix, prefix_mode)
    if reader.errors:
        raise ConfigErrors(tuple(reader.errors))
    return found


def _resource(reader: _Reader, prefix: str, prefix_mode: str) -> TemplateResource:
    src, dest = reader.text("src"), reader.text("dest")
    if not src:
        reader.fault("src", "", "empty src template")
    if not dest or dest.endswith("/"):
        reader.fault("dest", dest, "must name a file")
    warnings: list[str] = []
    mode = _mode(reader, warnings)
    effective = effective_prefix(prefix, reader.text("prefix"), prefix_mode)
    keys = reader.strings("keys")
    for key in keys:
        if not key.strip():
            reader.fault("keys", key, "a key is blank")
    for key in reader.table:
        if key.lower() not in _KNOWN:
            close = nearest(key, _KNOWN)
            hint = f'; did you mean "{close}"?' if close else ""
            warnings.append(f'key "{key}" is unknown and ignored{hint}')
    return TemplateResource(
        file=reader.file,
        src=src,
        dest=dest,
        keys=tuple(dict.fromkeys(fetch_key(effective, key) for key in keys)),
        prefix=effective,
        mode=mode,
        uid=reader.number("uid"),
        gid=reader.number("gid"),
        owner=reader.text("owner"),
        group=reader.text("group"),
        check_cmd=reader.text("check_cmd"),
        reload_cmd=reader.text("reload_cmd"),
        check_seconds=reader.seconds("check_cmd_timeout", CHECK_SECONDS),
        reload_seconds=reader.seconds("reload_cmd_timeout", RELOAD_SECONDS),
        warnings=tuple(warnings),
    )


def _mode(reader: _Reader, warnings: list[str]) -> int | None:
    text = reader.text("mode")
    if not text:
        return None
    plain = text.replace("_", "") if "_" in text else text
    try:
        octal = plain[:1] == "0" and plain[1:].isdigit()
        value = int(plain, 8 if octal else 0)
    except ValueError:
        reader.fault("mode", text, 'not a number; octal is written "0644"')
        return None
    if value < 0 or value >= 1 << 32:
        reader.fault("mode", text, "out of range")
        return None
    if plain.isdigit() and plain[0] != "0" and set(plain) <= set("01234567"):
        # the original reads it as decimal, and so do we (trap 3)
        warnings.append(f'mode "{text}" is decimal, so {value & 0o777:04o}; octal is "0{text}"')
    return value & 0o777

# SPDX-License-Identifier: Apache-2.0
"""conf.d/*.toml → TemplateResource (specs/confd.md §3). Pure.

A fault costs its own resource only; all faults of a file are told at once.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from confd.keys import effective_prefix, fetch_key
from confd.reader import Reader, read_mode
from fairlead.errors import ConfigError, ConfigErrors
from fairlead.flags import nearest

CHECK_SECONDS: Final = 30.0  # the fork's defaults; the original had no limit
RELOAD_SECONDS: Final = 60.0
FORMATS: Final = ("json", "yaml", "yml", "toml", "xml")


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the daemon's own settings say where a resource says nothing.

    Attributes:
        sources: names of the sources that keys may name.
        debounce: quiet time before a change is rendered.
        octal_mode: `mode = "644"` is octal too.
    """

    prefix: str = ""
    prefix_mode: str = "override"
    sources: frozenset[str] = frozenset()
    check_seconds: float = CHECK_SECONDS
    reload_seconds: float = RELOAD_SECONDS
    debounce: float = 0.0
    octal_mode: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """When a change is rendered.

    Attributes:
        quiet: seconds without another change.
        most: seconds after which it is rendered anyway.
        splay: a random part of this is added, so that a fleet does not reload at once.
    """

    quiet: float = 0.0
    most: float = 0.0
    splay: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.quiet or self.splay)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a template is read.

    Attributes:
        left, right: delimiters.
        strict: a map's absent key, and a pattern or listing that finds nothing, is an error.
        exact: JSON's whole numbers stay whole.
        sprig: the common functions of sprig are there too.
    """

    left: str = "{{"
    right: str = "}}"
    strict: bool = False
    exact: bool = False
    sprig: bool = False


@dataclass(frozen=True, slots=True)
class Placing:
    """How a file is put in place.

    Attributes:
        follow_symlink: what a link at the destination leads to is replaced, not the link.
        make_directory: a directory that is missing is made.
        fsync: content and name are on the disk before the reload.
    """

    follow_symlink: bool = False
    make_directory: bool = False
    fsync: bool = False


PLAIN: Final = Placing()


@dataclass(frozen=True, slots=True)
class TemplateResource:
    """One resource file, or one `[[template]]` of a group.

    Attributes:
        file: the resource file; its name in logs, plans and scopes (`FILE#2` for a member).
        src: template, relative to the template directory.
        dest: file to keep; relative to the daemon's directory. With `for_each`: a template.
        keys: keys to fetch, each with all below it, prefix included; `NAME:/key` is of a
            named source.
        prefix: what template names lack of the keys.
        mode: permission bits; None: the present file's, or 0644.
        uid, gid: numeric owner; None: the daemon's.
        owner, group: names; a number wins.
        check_cmd, reload_cmd: shell commands, "" for none.
        check_seconds, reload_seconds: how long they may take.
        warnings: what the operator should hear about this file.
        output_format: what the content must parse as, "" for anything.
        reload_interval: least time between two reloads.
        for_each: a pattern; each match is one file.
        placing: how its file is put in place.
        backend: the table `[backend]`, as JSON; "" for the daemon's.
        members: of a group; it has no `src` and `dest` of its own.
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
    output_format: str = ""
    reload_interval: float = 0.0
    wait: Wait = Wait()
    dialect: Dialect = Dialect()
    for_each: str = ""
    placing: Placing = PLAIN
    backend: str = ""
    members: tuple[TemplateResource, ...] = ()

    def __str__(self) -> str:
        return self.file

    @property
    def templates(self) -> tuple[TemplateResource, ...]:
        """What is rendered: the members of a group, else the resource itself."""
        return self.members or (self,)

    @property
    def fetches(self) -> Mapping[str, tuple[str, ...]]:
        """Source → keys; the resource's own source is named by `backend`."""
        found: dict[str, list[str]] = {}
        for template in self.templates:
            for key in template.keys:
                name, colon, rest = key.partition(":/")
                named = bool(colon) and not key.startswith("/")
                source, key = (name, f"/{rest}") if named else (template.backend, key)
                found.setdefault(source, []).append(key)
        return {source: tuple(dict.fromkeys(keys)) for source, keys in found.items()}


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
    "output_format",
    "min_reload_interval",
    "debounce",
    "splay",
    "left_delimiter",
    "right_delimiter",
    "for_each",
)
_NUMBERS: Final = ("uid", "gid")
_BOOLS: Final = (
    "strict", "exact_integers", "sprig", "follow_symlink", "make_directory", "fsync",
)  # fmt: skip
_COMMANDS: Final = (
    "check_cmd", "reload_cmd", "check_cmd_timeout", "reload_cmd_timeout",
    "min_reload_interval", "debounce", "splay", "wait",
)  # fmt: skip
_KNOWN: Final = (*_STRINGS, *_NUMBERS, *_BOOLS, "keys", "wait")


def decode_resource(file: str, text: str, defaults: Defaults = Defaults()) -> TemplateResource:
    """Return the resource a file describes.

    Args:
        file: its path, for messages.
        text: its TOML.
        defaults: what counts where the file says nothing.

    Raises:
        ConfigErrors: all that is wrong with it.
    """
    found, errors = read_resource(file, text, defaults)
    if found is None or errors:
        raise ConfigErrors(errors)
    return found


def read_resource(
    file: str, text: str, defaults: Defaults
) -> tuple[TemplateResource | None, tuple[ConfigError, ...]]:
    """Return what can be understood of a resource, None for nothing, and all its faults."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return None, (ConfigError("resource", file, file, f"not TOML: {error}"),)
    tables = {key.lower(): value for key, value in reversed(document.items())}
    table = tables.get("template")
    errors: list[ConfigError] = []
    backend = _backend(file, tables.get("backend"), errors)
    if isinstance(table, list) and all(isinstance(item, dict) for item in table):
        found = _group(file, tables.get("group"), table, backend, defaults, errors)
    elif isinstance(table, dict):
        reader = Reader(file, table, errors)
        found = _resource(reader, file, _KNOWN, backend, defaults)
        if "group" in tables:
            reader.fault("group", None, "a group is made of [[template]] tables")
    else:
        return None, (*errors, ConfigError("table", "template", file, "missing"))
    return found, tuple(errors)


def _backend(file: str, table: object, errors: list[ConfigError]) -> str:
    """Return the table `[backend]` as a text that equal tables share."""
    if table is None:
        return ""
    if not isinstance(table, dict) or not isinstance(table.get("backend"), str):
        errors.append(ConfigError("table", "backend", file, 'needs a key "backend"'))
        return ""
    return json.dumps(table, sort_keys=True, default=str)


def _group(
    file: str,
    table: object,
    members: Sequence[Mapping[str, Any]],
    backend: str,
    defaults: Defaults,
    errors: list[ConfigError],
) -> TemplateResource:
    """Return a resource of several templates that are installed together."""
    own = table if isinstance(table, dict) else {}
    reader = Reader(file, own, errors)
    warnings = _unknown(reader, (*_COMMANDS, "name"))
    found: list[TemplateResource] = []
    for number, member in enumerate(members, 1):
        part = Reader(f"{file}#{number}", member, errors)
        known = tuple(name for name in _KNOWN if name not in _COMMANDS)
        for name in _COMMANDS:
            if part.get(name) is not None:
                part.fault(name, part.get(name), "belongs into the table [group]")
        found.append(_resource(part, part.file, known, backend, defaults))
    if not found:
        reader.fault("template", None, "a group needs at least one")
    dests = [member.dest for member in found]
    for dest in {dest for dest in dests if dests.count(dest) > 1}:
        reader.fault("dest", dest, "stands twice in the group")
    more = tuple(f"{member.file}: {text}" for member in found for text in member.warnings)
    name = reader.text("name") or f"group of {len(found)} files"
    return replace(
        _commands(reader, defaults, TemplateResource(file, "", name)),
        members=tuple(found),
        backend=backend,
        warnings=(*warnings, *more),
    )


def _commands(reader: Reader, defaults: Defaults, resource: TemplateResource) -> TemplateResource:
    """Return a resource with what it runs, and when."""
    return replace(
        resource,
        check_cmd=reader.text("check_cmd"),
        reload_cmd=reader.text("reload_cmd"),
        check_seconds=reader.seconds("check_cmd_timeout", defaults.check_seconds),
        reload_seconds=reader.seconds("reload_cmd_timeout", defaults.reload_seconds),
        reload_interval=reader.seconds("min_reload_interval", 0.0),
        wait=_wait(reader, defaults),
    )


def _wait(reader: Reader, defaults: Defaults) -> Wait:
    """Return `wait = {min = "2s", max = "10s"}`, or the fork's `debounce`, and `splay`."""
    quiet = reader.seconds("debounce", defaults.debounce)
    most = quiet
    table = reader.get("wait")
    if isinstance(table, dict) and table.keys() <= {"min", "max"}:
        inner = Reader(reader.file, table, reader.errors)
        quiet = inner.seconds("min", quiet)
        most = inner.seconds("max", 4 * quiet)
        if most < quiet:
            reader.fault("wait", table, "max must not be less than min")
    elif table is not None:
        reader.fault("wait", table, 'must be like {min = "2s", max = "10s"}')
    return Wait(quiet, most, reader.seconds("splay", 0.0))


def _unknown(reader: Reader, known: Sequence[str]) -> tuple[str, ...]:
    """Return a warning for each key that is not known."""
    warnings: list[str] = []
    for key in reader.table:
        if key.lower() not in known and key.lower() not in _COMMANDS:
            close = nearest(key, known)
            hint = f'; did you mean "{close}"?' if close else ""
            warnings.append(f'key "{key}" is unknown and ignored{hint}')
    return tuple(warnings)


def _resource(
    reader: Reader, file: str, known: Sequence[str], backend: str, defaults: Defaults
) -> TemplateResource:
    src, dest = reader.text("src"), reader.text("dest")
    if not src:
        reader.fault("src", "", "empty src template")
    if not dest or dest.endswith("/"):
        reader.fault("dest", dest, "must name a file")
    warnings: list[str] = []
    mode = read_mode(reader, warnings, octal=defaults.octal_mode)
    effective = effective_prefix(defaults.prefix, reader.text("prefix"), defaults.prefix_mode)
    keys = reader.strings("keys")
    for key in keys:
        if not key.strip():
            reader.fault("keys", key, "a key is blank")
    output_format = reader.text("output_format").lower()
    if output_format and output_format not in FORMATS:
        reader.fault("output_format", output_format, f"not one of {', '.join(FORMATS)}")
    dialect = Dialect(
        reader.text("left_delimiter") or "{{",
        reader.text("right_delimiter") or "}}",
        reader.flag("strict"),
        reader.flag("exact_integers"),
        reader.flag("sprig"),
    )
    for_each = reader.text("for_each")
    if for_each and "{{" not in dest:
        reader.fault("dest", dest, "with for_each it must be a template, or all files are one")
    resource = TemplateResource(
        file=file,
        src=src,
        dest=dest,
        keys=tuple(dict.fromkeys(_key(effective, key, defaults.sources) for key in keys)),
        prefix=effective,
        mode=mode,
        uid=reader.number("uid"),
        gid=reader.number("gid"),
        owner=reader.text("owner"),
        group=reader.text("group"),
        warnings=(*warnings, *_unknown(reader, known)),
        output_format=output_format,
        dialect=dialect,
        for_each=for_each,
        placing=Placing(
            reader.flag("follow_symlink"), reader.flag("make_directory"), reader.flag("fsync")
        ),
        backend=backend,
    )
    return _commands(reader, defaults, resource)


def _key(prefix: str, key: str, sources: Collection[str]) -> str:
    """Return the key to fetch; `NAME:/key` of a named source knows no prefix."""
    name, colon, rest = key.partition(":/")
    if colon and name in sources:
        return f"{name}:{fetch_key('/', rest)}"
    return fetch_key(prefix, key)

# SPDX-License-Identifier: Apache-2.0
"""Settings in Go's flag syntax: declared once; each value knows where it came from. Pure.

::

    command line ─┐
    environment ──┼─► Settings.parse ─► Values (value + Source of each setting, warnings)
    file ─────────┘                └──► UsageError (bad flags) | ConfigErrors (the rest), all at once

A `Setting` has its names, type, default, unit and sentence; the parser, `-help`, the table in
docs/, `-print-config` and the error texts all come from it. Precedence: command line over
environment over file over default.

Go's syntax (flannel spec §2, confd spec §6.1): `-x`, `--x`, `-x=v`, `-x v`; a boolean takes no
separate word, only `-b` or `-b=false`; parsing stops at `--` or the first word that is no flag;
integers as Go literals (0x, 0o, 0b, a leading 0 is octal, `_`); the last occurrence wins, except
for repeatable ones.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from fairlead.configfile import FileKey
from fairlead.duration import format_seconds, parse_seconds
from fairlead.errors import ConfigError, ConfigErrors, FairleadError

if TYPE_CHECKING:
    from fairlead.etcd.options import Options


class Kind(Enum):
    """A setting's type; the value is Go's word for it in `-help`."""

    STR = "string"
    BOOL = ""
    INT = "int"
    FLOAT = "float"
    DURATION = "duration"  # float seconds inside
    COMMA = "list"  # one value, split at commas; the last occurrence wins
    REPEAT = "value"  # each occurrence adds one element; nothing is split
    LIST = "values"  # each occurrence is split at commas and added


_MANY: Final = (Kind.COMMA, Kind.REPEAT, Kind.LIST)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        name: the flag without its dash, spelt as the original spells it.
        default: of the kind's type: str, bool, int, float seconds, tuple of str.
        help: one sentence; ends with a full stop.
        env: the variable; None: the program's prefix + name, if it has a prefix; "": none.
        file_key: the key in the program's configuration file; None: none. `-` and `_` are one.
        unit: printed after the default, e.g. "minutes".
        aliases: other spellings of the flag.
        secret: never printed.
        ours: not a flag of the original.
        choices: the words it takes, compared without case.
        check: says what is wrong with a value, or None.
        refused: not empty: the flag is known, not built or gone; using it is an error, with
            this hint.
        ignored: not empty: accepted with this warning, without effect.
        empty: for DURATION: what the empty text means, in seconds; None: an error.
    """

    name: str
    kind: Kind = Kind.STR
    default: Any = None
    help: str = ""
    env: str | None = None
    file_key: str | None = None
    unit: str = ""
    aliases: tuple[str, ...] = ()
    secret: bool = False
    ours: bool = False
    choices: tuple[str, ...] = ()
    check: Callable[[Any], str | None] | None = None
    refused: str = ""
    ignored: str = ""
    empty: float | None = None

    def initial(self) -> Any:
        """Return the default, or the kind's zero value."""
        if self.default is not None:
            return self.default
        return _ZERO[self.kind]


_ZERO: Final[dict[Kind, Any]] = {
    Kind.STR: "",
    Kind.BOOL: False,
    Kind.INT: 0,
    Kind.FLOAT: 0.0,
    Kind.DURATION: 0.0,
    Kind.COMMA: (),
    Kind.REPEAT: (),
    Kind.LIST: (),
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value came from; `str` reads "default", "command line", "environment X", "file:3"."""

    kind: str
    detail: str = ""
    key: str = ""  # the key as written in the file

    def __str__(self) -> str:
        if self.kind == "file":
            return self.detail
        return f"{self.kind} {self.detail}".strip()


DEFAULT: Final = Source("default")
COMMAND_LINE: Final = Source("command line")


class UsageError(FairleadError):
    """The command line is wrong; `faults` has a line for each, `help` is true for -h."""

    def __init__(self, faults: tuple[str, ...], *, help_asked: bool = False) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
        self.help_asked = help_asked


class Typed:
    """Reads settings by name as what they are; who knows the values gives `__getitem__`."""

    __slots__ = ()

    def __getitem__(self, name: str) -> Any:
        raise NotImplementedError

    def text(self, name: str) -> str:
        """Return a STR."""
        return str(self[name])

    def flag(self, name: str) -> bool:
        """Return a BOOL."""
        return bool(self[name])

    def number(self, name: str) -> int:
        """Return an INT."""
        return int(self[name])

    def real(self, name: str) -> float:
        """Return a FLOAT."""
        return float(self[name])

    def seconds(self, name: str) -> float:
        """Return a DURATION."""
        return float(self[name])

    def many(self, name: str) -> tuple[str, ...]:
        """Return a COMMA, REPEAT or LIST."""
        return tuple(self[name])


@dataclass(slots=True)
class Values(Typed):
    """The value and source of every setting of a program.

    Attributes:
        args: what followed the flags on the command line.
        warnings: what the operator should hear: unknown keys, overridden file values, flags
            without effect.
    """

    settings: Settings
    _values: dict[str, tuple[Any, Source]]
    args: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Any:
        return self._values[name][0]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def source(self, name: str) -> Source:
        """Say where the value came from."""
        return self._values[name][1]

    def given(self, name: str) -> bool:
        """Say whether somebody set it: anything but the default."""
        return self._values[name][1] is not DEFAULT

    def error(self, name: str, reason: str) -> ConfigError:
        """Make the ConfigError of a value that a check across settings refuses."""
        setting = self.settings.by_name[name]
        return _fault(setting, show(setting, self[name]), self.source(name), reason)

    def fingerprint(self) -> dict[str, Any]:
        """Return name → value, for comparing two configurations at a reload."""
        return {name: value for name, (value, _) in self._values.items()}


def _fault(setting: Setting, shown: str, source: Source, reason: str) -> ConfigError:
    if source.kind == "file":
        return ConfigError(f'key "{source.key}"', shown, source.detail, reason)
    return ConfigError(f"-{setting.name}", shown, str(source), reason)


class Settings:
    """The settings of one program.

    Args:
        program: its name, as in `ps`.
        settings: all of them; names are unique.
        env_prefix: e.g. "FLANNELD_"; then every setting has a variable.
        config_file: the name of the setting that names a configuration file, "" for none.
        own_file: the file's format is ours, so an unknown key is an error; in an original's
            file it is a warning.
        bad_env_fatal: a variable that does not parse is an error; else a warning, and the next
            source counts (flannel spec §1, SkyDNS spec §13.3).
        summary: one sentence for `-help`.
    """

    def __init__(
        self,
        program: str,
        settings: Iterable[Setting],
        *,
        env_prefix: str = "",
        config_file: str = "",
        own_file: bool = False,
        bad_env_fatal: bool = True,
        summary: str = "",
    ) -> None:
        self.program = program
        self.all = tuple(settings)
        self.env_prefix = env_prefix
        self.config_file = config_file
        self.own_file = own_file
        self.bad_env_fatal = bad_env_fatal
        self.summary = summary
        self.by_name = {setting.name: setting for setting in self.all}
        self._spelt = dict(self.by_name)
        for setting in self.all:
            for alias in setting.aliases:
                self._spelt[alias] = setting
        spellings = len(self.all) + sum(len(setting.aliases) for setting in self.all)
        if len(self._spelt) != spellings:
            names = [name for s in self.all for name in (s.name, *s.aliases)]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"{program}: settings declared twice: {', '.join(twice)}")

    # ------------------------------------------------------------------ reading

    def parse(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        file: Sequence[FileKey] = (),
    ) -> Values:
        """Read all sources.

        Args:
            argv: without the program's name.
            file: what `fairlead.configfile.read` gave.

        Raises:
            UsageError: the command line is wrong, or asks for help.
            ConfigErrors: a variable or a key of the file is wrong; all of them.
        """
        values, errors = self.read(argv, environ, file)
        if errors:
            raise ConfigErrors(errors)
        return values

    def read(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        file: Sequence[FileKey] = (),
    ) -> tuple[Values, tuple[ConfigError, ...]]:
        """As `parse`, but return the faults beside the values; a faulty one has its default."""
        line, args, warnings = self._command_line(argv)
        errors: list[ConfigError] = []
        values: dict[str, tuple[Any, Source]] = {}
        keys = self._file(file, errors, warnings)
        for setting in self.all:
            found = line.get(setting.name)
            if found is None:
                found = self._environment(setting, environ, errors, warnings)
            elif setting.name in keys and keys[setting.name][0] != found[0]:
                _, source = keys[setting.name]
                warnings.append(f'{source}: key "{source.key}" is overridden by -{setting.name}')
            found = found or keys.get(setting.name) or (setting.initial(), DEFAULT)
            faults = _judge(setting, *found)
            errors.extend(faults)
            values[setting.name] = (setting.initial(), DEFAULT) if faults else found
            if setting.ignored and found[1] is not DEFAULT:
                warnings.append(f"{found[1]}: -{setting.name} has no effect: {setting.ignored}")
        return Values(self, values, args, tuple(warnings)), tuple(errors)

    def _command_line(
        self, argv: Sequence[str]
    ) -> tuple[dict[str, tuple[Any, Source]], tuple[str, ...], list[str]]:
        """Return what the flags say, the words after them, and an empty list of warnings."""
        found: dict[str, tuple[Any, Source]] = {}
        faults: list[str] = []
        rest = list(argv)
        while rest:
            word = rest[0]
            if len(word) < 2 or word[0] != "-":
                break
            rest.pop(0)
            if word == "--":
                break
            bare = word[2:] if word.startswith("--") else word[1:]
            name, equals, value = bare.partition("=")
            if not name or name[0] in "-=":
                faults.append(f"bad flag syntax: {word}")
                continue
            setting = self._spelt.get(name)
            if setting is None:
                if name in ("h", "help"):
                    raise UsageError((), help_asked=True)
                faults.append(f"flag provided but not defined: -{name}{self._meant(name)}")
                if not equals and rest and not rest[0].startswith("-"):
                    break  # whether the next word was its value cannot be known
                continue
            if not equals and setting.kind is not Kind.BOOL:
                if not rest:
                    faults.append(f"flag needs an argument: -{name}")
                    break
                value = rest.pop(0)
            elif not equals:
                value = "true"
            if setting.refused:
                faults.append(f"flag -{name} is not supported: {setting.refused}")
                continue
            try:
                new = convert(setting, value)
            except ValueError as error:
                shown = "********" if setting.secret else value
                reason = "not valid" if setting.secret else error
                which = "boolean value" if setting.kind is Kind.BOOL else "value"
                flag = f"-{name}" if setting.kind is Kind.BOOL else f"flag -{name}"
                faults.append(f'invalid {which} "{shown}" for {flag}: {reason}')
                continue
            if setting.kind in (Kind.REPEAT, Kind.LIST) and setting.name in found:
                new = found[setting.name][0] + new
            found[setting.name] = (new, COMMAND_LINE)
        if faults:
            raise UsageError(tuple(faults))
        return found, tuple(rest), []

    def _meant(self, name: str) -> str:
        close = nearest(name, self._spelt)
        return f"; did you mean -{close}?" if close else ""

    def variables(self, setting: Setting) -> tuple[str, ...]:
        """Return the environment variables of a setting, the first that is set counts."""
        names = []
        if setting.env:
            names.append(setting.env)
        if self.env_prefix and setting.env is None:
            names.append(self.env_prefix + _upper(setting.name))
        if setting.ours and setting.env is None:
            names.append("FAIRLEAD_" + _upper(setting.name))
        return tuple(names)

    def _environment(
        self,
        setting: Setting,
        environ: Mapping[str, str],
        errors: list[ConfigError],
        warnings: list[str],
    ) -> tuple[Any, Source] | None:
        for variable in self.variables(setting):
            text = environ.get(variable, "")
            if not text:
                continue
            source = Source("environment", variable)
            shown = "********" if setting.secret else text
            if setting.refused:
                errors.append(_fault(setting, shown, source, f"not supported: {setting.refused}"))
                return None
            try:
                return convert(setting, text), source
            except ValueError as error:
                reason = "not valid" if setting.secret else str(error)
                fault = _fault(setting, shown, source, reason)
                if self.bad_env_fatal:
                    errors.append(fault)
                else:
                    warnings.append(f"{fault}; ignored")
        return None

    def _file(
        self, file: Sequence[FileKey], errors: list[ConfigError], warnings: list[str]
    ) -> dict[str, tuple[Any, Source]]:
        known = {_plain(s.file_key): s for s in self.all if s.file_key is not None}
        found: dict[str, tuple[Any, Source]] = {}
        for item in file:
            source = Source("file", item.where, item.key)
            setting = known.get(_plain(item.key))
            if setting is None:
                close = nearest(item.key, [s.file_key for s in self.all if s.file_key])
                hint = f'; did you mean "{close}"?' if close else ""
                fault = ConfigError(f'key "{item.key}"', "", item.where, f"unknown{hint}")
                if self.own_file:
                    errors.append(fault)
                else:
                    warnings.append(str(fault))
                continue
            if setting.refused:
                reason = f"not supported: {setting.refused}"
                errors.append(ConfigError(f'key "{item.key}"', "", item.where, reason))
                continue
            try:
                found[setting.name] = (from_file(setting, item.value), source)
            except ValueError as error:
                reason = "not valid" if setting.secret else str(error)
                errors.append(ConfigError(f'key "{item.key}"', "", item.where, reason))
        return found

    # ------------------------------------------------------------------ telling

    def usage(self) -> str:
        """Return the text of `-help`, as Go's flag package prints it."""
        lines = [f"Usage of {self.program}:"]
        if self.summary:
            lines[:0] = [self.summary, ""]
        for setting in sorted(self.all, key=lambda s: s.name):
            if setting.refused or setting.ignored:
                continue
            word = f" {setting.kind.value}" if setting.kind.value else ""
            lines.append(f"  -{setting.name}{word}")
            lines.append(f"    \t{setting.help}{self._default_note(setting)}")
        return "\n".join(lines) + "\n"

    def _default_note(self, setting: Setting) -> str:
        notes = []
        if setting.initial() not in ("", False, (), None):
            text = show(setting, setting.initial())
            quoted = f'"{text}"' if setting.kind in (Kind.STR, *_MANY) else text
            notes.append(f"default {quoted}{' ' + setting.unit if setting.unit else ''}")
        elif setting.unit:
            notes.append(setting.unit)
        if setting.choices:
            notes.append("one of " + ", ".join(setting.choices))
        variables = self.variables(setting)
        if variables:
            notes.append("env " + " or ".join(variables))
        return f" ({'; '.join(notes)})" if notes else ""

    def table(self) -> str:
        """Return the Markdown table of the program's page in docs/."""
        lines = [
            "| Flag | Default | Environment | File key | Meaning |",
            "| --- | --- | --- | --- | --- |",
        ]
        for setting in self.all:
            if setting.refused:
                meaning = f"*Refused*: {setting.refused}"
            elif setting.ignored:
                meaning = f"*Without effect*: {setting.ignored}"
            else:
                meaning = setting.help
            default = show(setting, setting.initial())
            shown = f"`{default}`{' ' + setting.unit if setting.unit else ''}" if default else "–"
            variables = ", ".join(f"`{name}`" for name in self.variables(setting)) or "–"
            key = f"`{setting.file_key}`" if setting.file_key else "–"
            names = ", ".join(f"`-{name}`" for name in (setting.name, *setting.aliases))
            cells = (names, shown, variables, key, meaning)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        return "\n".join(lines) + "\n"

    def print_config(self, values: Values) -> str:
        """Return `name = value  # source` for every setting: `-print-config`."""
        rows = [
            (f"{s.name} = {_literal(s, values[s.name])}", str(values.source(s.name)))
            for s in self.all
            if not s.refused and not s.ignored
        ]
        width = min(48, max((len(left) for left, _ in rows), default=0))
        return "".join(f"{left:<{width}}  # {right}\n" for left, right in rows)


# ---------------------------------------------------------------------- values

_TRUE: Final = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "false", "FALSE", "False"))


def convert(setting: Setting, text: str) -> Any:
    """Read one word as Go's flag package does.

    Raises:
        ValueError: says what is wrong, in lower case.
    """
    match setting.kind:
        case Kind.STR:
            return text
        case Kind.BOOL:
            if text in _TRUE:
                return True
            if text in _FALSE:
                return False
            raise ValueError("neither true nor false")
        case Kind.INT:
            return parse_int(text)
        case Kind.FLOAT:
            try:
                return float(text)
            except ValueError:
                raise ValueError("not a number") from None
        case Kind.DURATION:
            if not text and setting.empty is not None:
                return setting.empty
            return parse_seconds(text)
        case Kind.REPEAT:
            return (text,)
        case Kind.COMMA | Kind.LIST:
            return tuple(part for part in (part.strip() for part in text.split(",")) if part)


_DIGITS: Final = (
    (re.compile(r"0[xX](?:_?[0-9a-fA-F])+"), 16, 2),
    (re.compile(r"0[bB](?:_?[01])+"), 2, 2),
    (re.compile(r"0[oO](?:_?[0-7])+"), 8, 2),
    (re.compile(r"0(?:_?[0-7])+"), 8, 1),
    (re.compile(r"0|[1-9](?:_?[0-9])*"), 10, 0),
)


def parse_int(text: str) -> int:
    """Read an integer literal of Go that fits 64 bits: 0x1f, 0b1, 017 (octal), 1_000.

    Raises:
        ValueError: in lower case.
    """
    body = text[1:] if text[:1] in ("+", "-") else text
    for shape, base, skip in _DIGITS:
        if shape.fullmatch(body):
            number = int(body[skip:].replace("_", ""), base)
            number = -number if text.startswith("-") else number
            if not -(1 << 63) <= number < 1 << 63:
                raise ValueError("value out of range")
            return number
    raise ValueError("not a whole number")


def from_file(setting: Setting, value: object) -> Any:
    """Take a value of a TOML or JSON file; types are exact, durations may be Go texts.

    Raises:
        ValueError: says what was expected, with the value.
    """
    kind = setting.kind
    if kind in _MANY:
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return tuple(value)
        if isinstance(value, str):
            return convert(setting, value)
        raise ValueError(f"{_json(value)} is not a list of strings")
    if kind is Kind.DURATION and isinstance(value, str):
        return convert(setting, value)
    expected: dict[Kind, tuple[type | tuple[type, ...], str]] = {
        Kind.STR: (str, "a string"),
        Kind.BOOL: (bool, "true or false"),
        Kind.INT: (int, "a whole number"),
        Kind.FLOAT: ((int, float), "a number"),
        Kind.DURATION: ((), 'a duration such as "1m30s"'),
    }
    types, words = expected[kind]
    if isinstance(value, bool) is not (kind is Kind.BOOL) or not isinstance(value, types):
        raise ValueError(f"{_json(value)} is not {words}")
    return float(value) if kind is Kind.FLOAT and isinstance(value, int) else value


def _json(value: object) -> str:
    import json

    return json.dumps(value, default=str, ensure_ascii=False)


def _judge(setting: Setting, value: Any, source: Source) -> list[ConfigError]:
    """Return the faults of a value that has the right type."""
    if source is DEFAULT:
        return []
    shown = show(setting, value)
    if setting.choices and str(value).lower() not in (word.lower() for word in setting.choices):
        close = nearest(str(value), setting.choices)
        hint = f'; did you mean "{close}"?' if close else ""
        return [_fault(setting, shown, source, f"not one of {', '.join(setting.choices)}{hint}")]
    if setting.check is not None:
        reason = setting.check(value)
        if reason is not None:
            return [_fault(setting, shown, source, reason)]
    return []


def show(setting: Setting, value: Any) -> str:
    """Return a value as it would be written on the command line; secrets masked."""
    if setting.secret and value:
        return "********"
    if setting.kind is Kind.DURATION:
        return format_seconds(value)
    if setting.kind is Kind.BOOL:
        return "true" if value else "false"
    if setting.kind in _MANY:
        return ",".join(value)
    return str(value)


def _literal(setting: Setting, value: Any) -> str:
    """Return a value as TOML would write it."""
    if setting.kind in _MANY and not setting.secret:
        return _json(list(value))
    text = show(setting, value)
    return text if setting.kind in (Kind.BOOL, Kind.INT, Kind.FLOAT) else _json(text)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that `word` was probably meant to be."""
    by_plain = {_plain(name): name for name in known}
    close = difflib.get_close_matches(_plain(word), by_plain, n=1, cutoff=0.72)
    return by_plain[close[0]] if close else None


def _plain(name: str) -> str:
    return name.replace("_", "-").lower()


def _upper(name: str) -> str:
    return name.upper().replace("-", "_").replace(".", "_")


# ---------------------------------------------------------------------- what every daemon adds


def _share(value: float) -> str | None:
    return None if 0 <= value <= 1 else "must lie between 0 and 1"


def _address(value: str) -> str | None:
    host, colon, port = value.rpartition(":")
    if not value or (colon and port.isascii() and port.isdigit() and int(port) < 65536):
        return (
            'an IPv6 address needs brackets: "[::1]:9100"'
            if host.count(":") > 1 > host.count("[")
            else None
        )
    return "must be host:port with a port up to 65535"


_COMMON: Final = (
    Setting(
        "state-dir",
        default="auto",
        help="Directory of the last-known-good files; auto: /var/lib/fairlead/PROGRAM, or below $XDG_STATE_HOME without root; empty: none.",
    ),
    Setting(
        "state-max-age",
        Kind.DURATION,
        168 * 3600.0,
        "Oldest last-known-good file to serve from while etcd is down; 0 or empty: any age.",
        empty=0.0,
    ),
    Setting(
        "admin-socket",
        default="auto",
        help="Unix socket of health, metrics and state; auto: /run/fairlead/PROGRAM.sock, or in $XDG_RUNTIME_DIR/fairlead without root; empty: none.",
    ),
    Setting(
        "admin-addr",
        help="Serve health, metrics and state, read-only, also on this TCP address (host:port).",
        check=_address,
    ),
    Setting(
        "etcd-embedded",
        help="Run a single-node store in this process, with its file in this directory, instead of using an etcd.",
    ),
    Setting(
        "etcd-embedded-listen",
        Kind.LIST,
        help="With -etcd-embedded: where else its store listens, e.g. http://127.0.0.1:2379.",
    ),
    Setting(
        "print-config", Kind.BOOL, False, "Print every setting with its source, and exit.", env=""
    ),
    Setting(
        "check-config",
        Kind.BOOL,
        False,
        "Check the configuration, print all faults, and exit: 0 good, 1 faulty.",
        env="",
    ),
    Setting(
        "plan", Kind.BOOL, False, "Print what would be done now, do nothing, and exit.", env=""
    ),
    Setting(
        "log-format",
        default="auto",
        help="How log lines look; auto: logfmt.",
        choices=("auto", "logfmt", "json"),
    ),
    Setting(
        "log-level",
        default="info",
        help="Least level that is logged.",
        choices=("debug", "info", "warning", "error"),
    ),
    Setting(
        "max-removals",
        Kind.FLOAT,
        0.5,
        "Hold back a plan that removes more than this share of what stands; 1: never.",
        check=_share,
    ),
    Setting(
        "drain-timeout",
        Kind.DURATION,
        10.0,
        "Longest time to finish what is under way after SIGTERM.",
    ),
)


def common(
    *, drop: Iterable[str] = (), rename: Mapping[str, str] | None = None
) -> tuple[Setting, ...]:
    """Return the settings that every daemon of ours adds to the original's.

    Args:
        drop: names that this program does not take (its own flags do that job).
        rename: name here → name in this program, where an original's flag clashes. The runtime
            is told by `Program.names`.
    """
    names = rename or {}
    dropped = frozenset(drop)
    unknown = (dropped | names.keys()) - {setting.name for setting in _COMMON}
    if unknown:
        raise ValueError(f"no such common settings: {', '.join(sorted(unknown))}")
    return tuple(
        replace(setting, name=names.get(setting.name, setting.name), ours=True)
        for setting in _COMMON
        if setting.name not in dropped
    )


def etcd_options(values: Values, names: Mapping[str, str]) -> Options:
    """Return how to reach etcd, from the settings a program has for it; checks the endpoints.

    Args:
        names: field of Options → setting, e.g. {"endpoints": "machines", "ca": "ca-cert"}. An
            empty value leaves the field's default.

    Raises:
        ConfigErrors: an endpoint cannot be understood, or a key has no certificate; named by
            setting and source.
    """
    from fairlead.etcd.options import Options, parse_endpoint

    given = {field: values[name] for field, name in names.items() if values[name] not in ("", ())}
    options = Options(**given)
    faults: list[ConfigError] = []
    for endpoint in options.endpoints:
        try:
            parse_endpoint(endpoint, tls=options.wants_tls)
        except ConfigError as error:
            faults.append(values.error(names["endpoints"], f'"{endpoint}" {error.reason}'))
    if options.key and not options.cert:
        faults.append(values.error(names["key"], "is of no use without a certificate file"))
    if faults:
        raise ConfigErrors(tuple(faults))
    return options

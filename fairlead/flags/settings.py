# SPDX-License-Identifier: Apache-2.0
"""The settings of one program, and their values from command line, environment and file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fairlead.configfile import FileKey
from fairlead.errors import ConfigError, ConfigErrors
from fairlead.flags.convert import convert, from_file, nearest, plain, show, upper
from fairlead.flags.setting import (
    COMMAND_LINE,
    DEFAULT,
    Kind,
    Setting,
    Source,
    UsageError,
    config_error,
)
from fairlead.flags.values import Values


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
        return Values(self.by_name, values, args, tuple(warnings)), tuple(errors)

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
            names.append(self.env_prefix + upper(setting.name))
        if setting.ours and setting.env is None:
            names.append("FAIRLEAD_" + upper(setting.name))
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
                errors.append(
                    config_error(setting, shown, source, f"not supported: {setting.refused}")
                )
                return None
            try:
                return convert(setting, text), source
            except ValueError as error:
                reason = "not valid" if setting.secret else str(error)
                fault = config_error(setting, shown, source, reason)
                if self.bad_env_fatal:
                    errors.append(fault)
                else:
                    warnings.append(f"{fault}; ignored")
        return None

    def _file(
        self, file: Sequence[FileKey], errors: list[ConfigError], warnings: list[str]
    ) -> dict[str, tuple[Any, Source]]:
        known = {plain(s.file_key): s for s in self.all if s.file_key is not None}
        found: dict[str, tuple[Any, Source]] = {}
        for item in file:
            source = Source("file", item.where, item.key)
            setting = known.get(plain(item.key))
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


def _judge(setting: Setting, value: Any, source: Source) -> list[ConfigError]:
    """Return the faults of a value that has the right type."""
    if source is DEFAULT:
        return []
    shown = show(setting, value)
    if setting.choices and str(value).lower() not in (word.lower() for word in setting.choices):
        close = nearest(str(value), setting.choices)
        hint = f'; did you mean "{close}"?' if close else ""
        return [
            config_error(setting, shown, source, f"not one of {', '.join(setting.choices)}{hint}")
        ]
    if setting.check is not None:
        reason = setting.check(value)
        if reason is not None:
            return [config_error(setting, shown, source, reason)]
    return []

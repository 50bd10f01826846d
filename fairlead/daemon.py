# SPDX-License-Identifier: Apache-2.0
"""`main`: a daemon's way from its flags to its exit status.

::

    flags, environment, file ─► Values ─► configure ─► Config ─► serve(config, runtime)
          │ -help -print-config             │ -check-config           │ first sync, ready,
          ▼ exit                            ▼ exit 0 | 1              ▼ SIGTERM: drain, exit 0

This module imports neither asyncio nor anything that does: `-check-config` has to end in 300 ms
with a daemon's own modules counted in. What happens after `configure` is `fairlead.life`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from fairlead import configfile
from fairlead.errors import ConfigError, ConfigErrors
from fairlead.flags import Settings, UsageError, Values, common

if TYPE_CHECKING:
    from fairlead.etcd.options import Options
    from fairlead.log import Render
    from fairlead.runtime import Runtime

C = TypeVar("C")


@dataclass(frozen=True)
class Program(Generic[C]):
    """What makes a daemon this daemon.

    Attributes:
        name: as in `ps`; also of its admin socket and state directory.
        settings: the original's and `flags.common(…)`.
        configure: checks across settings; raises ConfigErrors with all faults, opens nothing.
        serve: runs until cancelled; returning ends the daemon, with the status it returns
            (None: 0). Import heavy modules inside it.
        etcd: how to reach etcd; None where this configuration needs none.
        bad_flag_exit: exit status of a wrong command line, the original's.
        help_exit: exit status of -help.
        config_exit: exit status of a faulty configuration.
        failure_exit: exit status when a task failed.
        fatal: how a fault that ends the start is written.
        early: called after parsing, for e.g. `-version`: an exit status ends the program.
        names: common setting → this program's name for it, as given to `flags.common(rename=)`.
        live: settings that `on_reload` callbacks can apply without a restart.
        dump_on_usr1: SIGUSR1 dumps state to the log; False where the original uses it.
        reload_on_hup: SIGHUP reads the configuration again.
        render: how log lines look, when neither logfmt nor JSON was asked for.
        write: where log lines go; stderr if None.
        embedded: directory of a store to serve ourselves, where a flag of the program's own asks
            for one; "" for none. `-etcd-embedded` goes before it.
        log_level: least level, when the program has its own flag for it.
    """

    name: str
    settings: Settings
    configure: Callable[[Values], C]
    serve: Callable[[C, Runtime], Awaitable[int | None]]
    etcd: Callable[[C], Options | None] | None = None
    bad_flag_exit: int = 2
    help_exit: int = 0
    config_exit: int = 1
    failure_exit: int = 1
    early: Callable[[Values], int | None] | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    live: frozenset[str] = frozenset()
    dump_on_usr1: bool = True
    reload_on_hup: bool = True
    render: Callable[[C], Render | None] | None = None
    write: Callable[[C], Callable[[str], None]] | None = None
    embedded: Callable[[C], str] | None = None
    log_level: Callable[[C], str] | None = None
    fatal: Callable[[str], str] = str

    def setting(self, values: Values, name: str) -> object:
        """Return a common setting under this program's name for it, or its default if dropped."""
        spelt = self.names.get(name, name)
        if spelt in values:
            return values[spelt]
        return next(setting.initial() for setting in common() if setting.name == name)


def load(settings: Settings, argv: Sequence[str], environ: Mapping[str, str]) -> Values:
    """Read command line, environment and the configuration file they name.

    Raises:
        UsageError: the command line is wrong.
        ConfigErrors: the environment or the file is; all faults.
    """
    if not settings.config_file:
        return settings.parse(argv, environ)
    values, faults = settings.read(argv, environ)
    path = values.text(settings.config_file)
    keys: tuple[configfile.FileKey, ...] = ()
    warnings: tuple[str, ...] = ()
    if path:
        try:
            keys = configfile.read(path)
        except FileNotFoundError:  # fine, as the original has it
            if values.given(settings.config_file):
                missing = values.error(settings.config_file, "no such file; going on without it")
                warnings = (str(missing),)
        except ConfigErrors as error:
            raise ConfigErrors((*faults, *error.errors)) from error
    found = settings.parse(argv, environ, keys)
    return replace(found, warnings=(*warnings, *found.warnings))


def main(program: Program[C], argv: Sequence[str] | None = None) -> int:
    """Run a daemon from its flags to its exit status."""
    words = sys.argv[1:] if argv is None else list(argv)
    checking = any(word.lstrip("-").partition("=")[0] == "check-config" for word in words)
    try:
        values = load(program.settings, words, os.environ)
    except UsageError as error:
        return _usage(program, error, checking=checking)
    except ConfigErrors as error:
        return _faulty(program, error.errors)
    status = program.early(values) if program.early is not None else None
    if status is not None:
        return status
    if program.setting(values, "print-config"):
        sys.stdout.write(program.settings.print_config(values))
        return 0
    try:
        config = program.configure(values)
    except ConfigErrors as error:
        return _faulty(program, error.errors, values.warnings)
    except ConfigError as error:
        return _faulty(program, (error,), values.warnings)
    if program.setting(values, "check-config"):
        _tell(f"warning: {warning}" for warning in values.warnings)
        _tell([f"{program.name}: the configuration is good"])
        return 0

    from fairlead.life import run

    return run(program, config, values, words)


def _tell(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stderr.write(f"{line}\n")


def _usage(program: Program[C], error: UsageError, *, checking: bool) -> int:
    if error.help_asked:
        sys.stderr.write(program.settings.usage())  # where Go's flag package writes it
        return program.help_exit
    _tell(error.faults)
    if checking:
        return 1
    sys.stderr.write(program.settings.usage())
    return program.bad_flag_exit


def _faulty(
    program: Program[C], errors: Sequence[ConfigError], warnings: Sequence[str] = ()
) -> int:
    _tell(f"warning: {warning}" for warning in warnings)
    _tell(program.fatal(str(error)) for error in errors)
    return program.config_exit

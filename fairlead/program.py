# SPDX-License-Identifier: Apache-2.0
"""What makes a daemon this daemon, and how its settings are read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from fairlead import configfile
from fairlead.errors import ConfigErrors
from fairlead.flags import Settings, Values, common

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
        ended: told when the daemon has run, with why it ended; "" where it was asked to.
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
    ended: Callable[[str], None] | None = None

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
        return _all_read(settings.parse(argv, environ))
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
    return _all_read(replace(found, warnings=(*warnings, *found.warnings)))


def _all_read(values: Values) -> Values:
    """Warn of words that Go's syntax leaves unread: after `-ip-masq true` no flag counts."""
    if not values.args:
        return values
    warning = (
        f"command line: words without effect: {' '.join(values.args)} "
        "(the first that is no flag ends the flags; a boolean's value takes a =: -flag=false)"
    )
    return replace(values, warnings=(*values.warnings, warning))

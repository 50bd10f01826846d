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
from collections.abc import Iterable, Sequence
from typing import TypeVar

from fairlead.errors import ConfigError, ConfigErrors
from fairlead.flags import UsageError, print_config, usage
from fairlead.program import Program, load

C = TypeVar("C")


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
        sys.stdout.write(print_config(values))
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
        sys.stderr.write(usage(program.settings))  # where Go's flag package writes it
        return program.help_exit
    _tell(error.faults)
    if checking:
        return 1
    sys.stderr.write(usage(program.settings))
    return program.bad_flag_exit


def _faulty(
    program: Program[C], errors: Sequence[ConfigError], warnings: Sequence[str] = ()
) -> int:
    _tell(f"warning: {warning}" for warning in warnings)
    _tell(program.fatal(str(error)) for error in errors)
    return program.config_exit

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

* `setting`: what a setting is; `convert`: words ↔ values; `values`: what was found
* `settings`: the reader; `telling`: help, table, `-print-config`; `common`: what all daemons add
"""

from fairlead.flags.common import common, etcd_faults, tls_faults
from fairlead.flags.convert import nearest, parse_int
from fairlead.flags.setting import DEFAULT, Kind, Setting, Source, UsageError
from fairlead.flags.settings import Settings
from fairlead.flags.telling import print_config, table, usage
from fairlead.flags.values import Typed, Values

__all__ = [
    "DEFAULT",
    "Kind",
    "Setting",
    "Settings",
    "Source",
    "Typed",
    "UsageError",
    "Values",
    "common",
    "etcd_faults",
    "nearest",
    "parse_int",
    "print_config",
    "table",
    "tls_faults",
    "usage",
]

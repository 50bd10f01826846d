# SPDX-License-Identifier: Apache-2.0
"""The error tree.

Retry is decided by the type's `transient`, never by message text. Messages start in lower
case, name the thing and the value, and say what to do about it. Errors of other libraries
are translated where they enter (`raise … from`).
"""

from __future__ import annotations


class FairleadError(Exception):
    """The root: every error Fairlead raises on purpose."""

    transient: bool = False  # may the same call succeed later?


class ConfigError(FairleadError):
    """A setting the operator can mend; nothing was started.

    Attributes:
        setting: the setting's name as the user wrote it, e.g. "-etcd-endpoints".
        value: what was given, as text ("" where none was).
        source: where it came from: "command line", "environment SKYDNS_ADDR", "file:3".
        reason: what is wrong with it, in lower case.
    """

    def __init__(self, setting: str, value: str, source: str, reason: str) -> None:
        shown = f' "{value}"' if value else ""
        super().__init__(f"{source}: {setting}{shown}: {reason}")
        self.setting = setting
        self.value = value
        self.source = source
        self.reason = reason


class ConfigErrors(FairleadError):
    """All faults of a configuration at once; `errors` has at least one."""

    def __init__(self, errors: tuple[ConfigError, ...]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = errors


class RecordError(FairleadError):
    """A value in etcd, written by somebody else, that cannot be used; skipped and reported.

    Attributes:
        key: the etcd key.
        revision: the key's mod_revision; 0 where unknown.
        reason: names the field and what is wrong with it.
    """

    def __init__(self, key: bytes, reason: str, revision: int = 0) -> None:
        super().__init__(f'key "{key.decode("utf-8", "backslashreplace")}": {reason}')
        self.key = key
        self.revision = revision
        self.reason = reason


class ActionError(FairleadError):
    """The kernel, a file or a command refused an action of a plan.

    `transient` is set per error here: true when the same action may succeed later.
    """

    def __init__(self, action: object, reason: str, *, transient: bool = True) -> None:
        super().__init__(f"{action}: {reason}")
        self.action = action
        self.reason = reason
        self.transient = transient


class ProtocolError(FairleadError):
    """A message broke its protocol's rules."""


class LocalProtocolError(ProtocolError):
    """We were about to send what the protocol forbids: a fault of ours."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what the protocol forbids; `hint` says how to answer (e.g. a status)."""

    def __init__(self, reason: str, hint: int = 400) -> None:
        super().__init__(reason)
        self.hint = hint


class StoreError(FairleadError):
    """etcd answered with an error or not at all (specs/etcd.md §5.3); see `fairlead.etcd.errors`."""

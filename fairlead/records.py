# SPDX-License-Identifier: Apache-2.0
"""etcd values → typed records, each decoded once; a bad one costs only itself.

::

    mirror ─ Changes ─► Records.apply ─► good: key → record
                             │      └──► rejected: key → RecordError (its last good value stays)
                             └─► keys whose record changed

Pure: no IO, no clock. One `Records` for each kind of value of a daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

from fairlead.errors import RecordError
from fairlead.etcd.types import KeyValue

Record = TypeVar("Record")


def _ignore(error: RecordError) -> None:
    """Tell nobody."""


class Records(Generic[Record]):
    """The records of one kind, kept in step with a mirror's batches.

    Args:
        decode: returns the record of a key, None for a key that is of another kind, or raises
            RecordError. Pure. Any other exception of it counts as a RecordError too: a value
            that trips a fault of ours (deep nesting, a number nobody thought of) costs itself.

    Attributes:
        good: key → last good record; a live view.
        rejected: key → why its present value is not used; a live view.
        on_reject: called with each RecordError as it is found.
    """

    def __init__(self, decode: Callable[[KeyValue], Record | None]) -> None:
        self._decode = decode
        self.on_reject: Callable[[RecordError], None] = _ignore
        self._good: dict[bytes, Record] = {}
        self._rejected: dict[bytes, RecordError] = {}
        self.good: Mapping[bytes, Record] = MappingProxyType(self._good)
        self.rejected: Mapping[bytes, RecordError] = MappingProxyType(self._rejected)

    def apply(self, changes: Iterable[tuple[bytes, KeyValue | None]]) -> set[bytes]:
        """Take in changed keys (None: deleted); return the keys whose good record changed.

        A value that cannot be decoded leaves the key's last good record standing, and the
        error in `rejected` until the key is written again or deleted.
        """
        changed = set()
        for key, kv in changes:
            before = self._good.get(key)
            self._rejected.pop(key, None)
            after: Record | None
            try:
                after = None if kv is None else self._decode(kv)
            except RecordError as error:
                self._reject(key, kv, error)
                continue
            except Exception as error:  # noqa: BLE001  (a decoder's fault costs the one record)
                reason = f"cannot be decoded: {type(error).__name__}: {error}"
                self._reject(key, kv, RecordError(key, reason))
                continue
            if after is None:
                self._good.pop(key, None)
            else:
                self._good[key] = after
            if after != before:
                changed.add(key)
        return changed

    def _reject(self, key: bytes, kv: KeyValue | None, error: RecordError) -> None:
        """Note the error, with the revision of the value that caused it."""
        if kv is not None and not error.revision:
            error.revision = kv.mod_revision
        self._rejected[key] = error
        self.on_reject(error)

# SPDX-License-Identifier: Apache-2.0
"""Private keys at the admin API: sealed on their way to etcd, masked on their way to callers.

::

    caller ─ key pair ─► sealed ─► etcd          what does not load is refused
    caller ◄─ certificate and the key's fingerprint ─ masked ◄─ record
"""

from __future__ import annotations

from dataclasses import replace

from lb import records
from lb.fields import Invalid
from lb.pairs import fault
from lb.records import Record
from lb.secret import Box, Pair, Sealed, opened


class Sealing:
    """See the module's words.

    Args:
        box: seals and opens; None where there is no seal key.
    """

    def __init__(self, box: Box | None) -> None:
        self._box = box

    def sealed(self, record: Record) -> Record:
        """Return a record whose keys are sealed.

        Raises:
            Invalid: a pair does not load, or there is no seal key.
        """
        if isinstance(record, records.Host):
            auto = record.auto
            if auto is not None:
                auto = replace(
                    auto,
                    key=auto.key and self._seal(auto.key),
                    external_key=auto.external_key and self._seal(auto.external_key),
                )
            return replace(record, pair=self._checked(record.pair), auto=auto)
        if isinstance(record, records.Backend):
            return replace(record, client=self._checked(record.client))
        return record

    def _checked(self, pair: Pair | None) -> Pair | None:
        if pair is None:
            return None
        why = fault(opened(pair, self._box))
        if why:
            raise Invalid(why)
        return self._seal(pair)

    def _seal(self, pair: Pair) -> Pair:
        if isinstance(pair, Sealed):
            return pair
        if self._box is None:
            raise Invalid("this backend does not support encryption: -sealKey is not given")
        return self._box.seal(pair)

    def masked(self, pair: Pair) -> object:
        """Return what every caller may see of a pair."""
        try:
            clear = opened(pair, self._box)
        except Invalid as error:
            return {"Key": "", "Cert": "", "Fault": str(error)}
        return {"Key": "", "Cert": clear.tree()["Cert"], "KeyFingerprint": clear.fingerprint}

    def whole(self, pair: Pair) -> object:
        """Return a pair in the clear, for a caller who may see it and asks; raises Invalid."""
        return opened(pair, self._box).tree()

# SPDX-License-Identifier: Apache-2.0
"""Private keys on their way from the admin API to etcd: checked and sealed (specs/vulcand.md §3.5)."""

from __future__ import annotations

from dataclasses import replace

from lb import records
from lb.fields import Invalid
from lb.pairs import fault
from lb.records import Record
from lb.secret import Box, Pair, Sealed, opened


class Sealing:
    """Seals what a write holds.

    Args:
        box: seals and opens; None where there is no seal key.
    """

    def __init__(self, box: Box | None) -> None:
        self._box = box

    def sealed(self, record: Record, old: Record | None = None) -> Record:
        """Return a record whose keys are sealed.

        Args:
            old: what is stored; a pair that is the same is sealed already, or nobody's fault now.

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
            known = old.pair if isinstance(old, records.Host) else None
            return replace(record, pair=self._checked(record.pair, known), auto=auto)
        if isinstance(record, records.Backend):
            known = old.client if isinstance(old, records.Backend) else None
            return replace(record, client=self._checked(record.client, known))
        return record

    def _checked(self, pair: Pair | None, known: Pair | None) -> Pair | None:
        if pair is None or (pair == known and isinstance(pair, Sealed)):
            return pair
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

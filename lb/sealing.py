# SPDX-License-Identifier: Apache-2.0
"""Private keys at the admin API: sealed on their way to etcd, masked on their way to callers.

::

    caller ─ key pair ─► sealed ─► etcd          what does not load is refused
    caller ◄─ certificate and the key's fingerprint ─ masked ◄─ record
       └── the same, written back ─► unmasked ─► the stored pair stays
"""

from __future__ import annotations

from dataclasses import replace

from lb import records
from lb.fields import Fields, Invalid
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

    def unmasked(self, tree: object, stored: Record | None) -> object:
        """Return an object with the stored pair where the mask of it stands.

        So who reads an object, changes something else and writes it keeps its key.

        Raises:
            Invalid: it is the mask of another pair.
        """
        name, pair = _pair_of(stored)
        settings_name, settings = _member(tree, "settings")
        spelt, shown = _member(settings, name)
        mask = Fields(shown) if isinstance(shown, dict) else Fields({})
        masked = mask.given("KeyFingerprint") or mask.given("Fault")
        if not masked or mask.text("Key"):
            return tree
        if pair is None or opened(pair, self._box).fingerprint != mask.text("KeyFingerprint"):
            raise Invalid(f"{spelt}: no key is given, and its fingerprint is not the stored key's")
        whole: object = pair.text() if isinstance(pair, Sealed) else pair.tree()
        return {**tree, settings_name: {**settings, spelt: whole}}  # type: ignore[dict-item]

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


def _pair_of(record: Record | None) -> tuple[str, Pair | None]:
    """Return the field of Settings that holds a record's pair, in lower case, and the pair."""
    match record:
        case records.Host():
            return "keypair", record.pair
        case records.Backend():
            return "clientcert", record.client
    return "", None


def _member(value: object, name: str) -> tuple[str, object]:
    """Return a member of a JSON object as it is spelt there, and what it holds."""
    if isinstance(value, dict):
        for spelt, item in value.items():
            if spelt.lower() == name:
                return spelt, item
    return "", None

# SPDX-License-Identifier: Apache-2.0
"""Private keys as callers of the admin API see them, and the way back (specs/vulcand.md §3.4, §10).

::

    record ─► Look: masked, or whole ─► caller ─ changes something else ─► unmasked ─► record
                │                                                            ▲
                └── a certificate, and `sha256:…` in the place of its key ───┘ the stored key stays

Clients in Go decode into vulcand's own structs and lose what these do not have. So the mask of a
key that is text stands in the key's own place, and a pair is known again by its certificate too.
Null, "" or nothing in that place is no mask: so a key is removed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from lb import records
from lb.fields import Fields, Invalid
from lb.keys import Kind
from lb.records import Record
from lb.secret import Box, KeyPair, Pair, Sealed, opened
from lb.writing import Look, stored

_MASK: Final = "sha256:"
_PAIRS: Final = {Kind.HOST: ("Settings", "KeyPair"), Kind.BACKEND: ("Settings", "ClientCert")}
_ACCOUNT: Final = ("Settings", "AutoCert", "Key")
_EXTERNAL: Final = ("Settings", "AutoCert", "ExternalAccount", "MACKey")


def is_mask(value: object) -> bool:
    """Say whether a fingerprint stands where a key would be."""
    return isinstance(value, str) and value.startswith(_MASK)


class Masking:
    """See the module's words.

    Args:
        box: opens what is sealed; None where there is no seal key.
    """

    def __init__(self, box: Box | None) -> None:
        self._box = box
        self.masked: Final = Look(self._masked, self._name)
        """What every caller may see."""
        self.whole: Final = Look(self._whole, self._text)
        """Keys in the clear, for a caller who may see them and asks."""

    def unmasked(self, kind: Kind, tree: object, old: Record | None) -> object:
        """Return an object with the stored keys where masks of them stand.

        Args:
            old: what is stored.

        Raises:
            Invalid: a mask is that of another key.
        """
        if kind in _PAIRS:
            pair = _pair_of(old)
            tree = _changed(tree, _PAIRS[kind], partial(self._pair_back, _PAIRS[kind], pair))
        if kind is Kind.HOST:
            auto = (old.auto if isinstance(old, records.Host) else None) or records.AutoCert()
            for path, key in ((_ACCOUNT, auto.key), (_EXTERNAL, auto.external_key)):
                tree = _changed(tree, path, partial(self._key_back, path, key))
        return tree

    def _pair_back(self, path: Sequence[str], old: Pair | None, shown: object) -> object:
        where = ".".join(path)
        if not isinstance(shown, dict):
            return shown
        given = Fields(shown, f"{where}.")
        key, cert, name = given.text("Key"), given.text("Cert"), given.text("KeyFingerprint")
        mask = {} if old is None else self._masked(old)
        same = cert == mask.get("Cert")
        if key or given.given("Encryption") or not (name or cert or (same and mask.get("Fault"))):
            return shown  # a pair, or none
        if old is None or (name and name != mask["KeyFingerprint"]):
            raise Invalid(f"{where}: no Key, and its KeyFingerprint is not the stored key's")
        if same:
            return stored.pair(old)
        if not name or "Fault" in mask:
            raise Invalid(f"{where}: no Key, and its Cert is not the stored one")
        return KeyPair(opened(old, self._box).key, given.data("Cert")).tree()

    def _key_back(self, path: Sequence[str], old: Pair | None, shown: object) -> object:
        if not is_mask(shown):
            return shown
        if old is None or self._name(old) != shown:
            raise Invalid(f"{'.'.join(path)}: a fingerprint, and not the stored key's")
        return stored.key(old)

    def _masked(self, pair: Pair) -> dict[str, str]:
        shown = {"Key": "", "Cert": "", "KeyFingerprint": self._name(pair)}
        try:
            return {**shown, "Cert": opened(pair, self._box).tree()["Cert"]}
        except Invalid as error:
            return {**shown, "Fault": str(error)}

    def _name(self, pair: Pair) -> str:
        """Return a key's fingerprint; that of the sealed value where it cannot be opened."""
        try:
            return opened(pair, self._box).fingerprint
        except Invalid:
            assert isinstance(pair, Sealed)  # noqa: S101  (what is in the clear opens)
            return f"{_MASK}{hashlib.sha256(pair.value).hexdigest()[:32]}"

    def _whole(self, pair: Pair) -> dict[str, str]:
        try:
            return opened(pair, self._box).tree()
        except Invalid:  # one that cannot be opened hides no other
            return self._masked(pair)

    def _text(self, pair: Pair) -> str:
        try:
            return opened(pair, self._box).key.decode()
        except Invalid:
            return self._name(pair)


def _pair_of(record: Record | None) -> Pair | None:
    match record:
        case records.Host():
            return record.pair
        case records.Backend():
            return record.client
    return None


def _changed(tree: object, path: Sequence[str], change: Callable[[object], object]) -> object:
    """Return a JSON value with what stands at a path changed; names count in any letter case."""
    if not path:
        return change(tree)
    if not isinstance(tree, dict):
        return tree
    name = path[0].lower()
    return {
        spelt: _changed(item, path[1:], change) if spelt.lower() == name else item
        for spelt, item in tree.items()
    }

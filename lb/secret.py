# SPDX-License-Identifier: Apache-2.0
"""Sealed key pairs: NaCl's secretbox, as vulcand stores them (specs/vulcand.md §3.5). Pure.

::

    KeyPair ─ JSON ─► seal ─► {"Encryption":"secretbox.v1","Value":{"Val":…,"Nonce":…}} ─ base64 ─► etcd
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from lb.fields import Fields, Invalid

_KIND: Final = "secretbox.v1"
_KEY: Final = 32
_NONCE: Final = 24


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key and its certificate with the chain, both PEM."""

    key: bytes
    cert: bytes

    def __repr__(self) -> str:  # a key must not get into a log by accident
        return f"KeyPair({self.fingerprint})"

    @property
    def fingerprint(self) -> str:
        """A name for the key that does not tell it."""
        return f"sha256:{hashlib.sha256(self.key).hexdigest()[:32]}" if self.key else ""

    def tree(self) -> dict[str, str]:
        """Return its JSON."""
        return {
            "Key": base64.b64encode(self.key).decode(),
            "Cert": base64.b64encode(self.cert).decode(),
        }


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed value; opens with the key it was sealed with."""

    value: bytes
    nonce: bytes

    def tree(self) -> dict[str, Any]:
        """Return its JSON."""
        value = {
            "Val": base64.b64encode(self.value).decode(),
            "Nonce": base64.b64encode(self.nonce).decode(),
        }
        return {"Encryption": _KIND, "Value": value}

    def text(self) -> str:
        """Return what stands in etcd: base64 of the JSON."""
        return base64.b64encode(msgspec.json.encode(self.tree())).decode()


Pair = Sealed | KeyPair


def read(value: object) -> Pair | None:
    """Return the pair that a host's `KeyPair` spells: a base64 string, sealed JSON, or plain.

    Raises:
        Invalid: none of them.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(Fields({"KeyPair": value}).data("KeyPair"))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Invalid(f"KeyPair: no sealed value: {error}") from error
    fields = Fields(value, "KeyPair.")
    if fields.given("Encryption"):
        kind = fields.text("Encryption")
        if kind != _KIND:
            raise Invalid(f"unsupported encryption type: '{kind}'")
        inner = fields.object("Value")
        return Sealed(inner.data("Val"), inner.data("Nonce"))
    pair = KeyPair(fields.data("Key"), fields.data("Cert"))
    if not pair.key and not pair.cert:
        return None
    if not pair.key or not pair.cert:
        raise Invalid("KeyPair: key and certificate go together")
    return pair


def new_key() -> str:
    """Return a new seal key, 64 hexadecimal digits."""
    return secrets.token_hex(_KEY)


class Box:
    """Seals and opens with one key.

    Args:
        key: 64 hexadecimal digits.

    Raises:
        Invalid: another length, or no hexadecimal digits.
    """

    def __init__(self, key: str) -> None:
        try:
            raw = bytes.fromhex(key)
        except ValueError as error:
            raise Invalid("the seal key is 64 hexadecimal digits") from error
        if len(raw) != _KEY:
            raise Invalid(f"wrong key length: {len(raw)}")
        from nacl.secret import SecretBox

        self._box = SecretBox(raw)

    def seal(self, pair: KeyPair, nonce: bytes | None = None) -> Sealed:
        """Seal a pair."""
        sealed = self._box.encrypt(
            msgspec.json.encode(pair.tree()), nonce or secrets.token_bytes(_NONCE)
        )
        return Sealed(sealed.ciphertext, sealed.nonce)

    def open(self, sealed: Sealed) -> KeyPair:
        """Open a sealed pair; raises Invalid."""
        from nacl.exceptions import CryptoError

        if len(sealed.nonce) != _NONCE:
            raise Invalid(f"wrong nonce length: {len(sealed.nonce)}")
        try:
            text = self._box.decrypt(sealed.value, sealed.nonce)
            tree: Mapping[str, Any] = msgspec.json.decode(text)
        except (CryptoError, ValueError) as error:
            raise Invalid("unable to decrypt message") from error
        fields = Fields(tree)
        return KeyPair(fields.data("Key"), fields.data("Cert"))


def opened(pair: Pair, box: Box | None) -> KeyPair:
    """Return a pair in the clear; raises Invalid."""
    if isinstance(pair, KeyPair):
        return pair
    if box is None:
        raise Invalid("need secretbox to open sealed data")
    return box.open(pair)

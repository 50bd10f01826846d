# SPDX-License-Identifier: Apache-2.0
"""Keys that two servers share (RFC 8945 §6), and files of them. Pure but for the file."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from skydns import names

ALGORITHMS: Final = {
    names.from_text(f"hmac-{name}"): name for name in ("sha1", "sha224", "sha256", "sha384", "sha512")
}  # fmt: skip
_COMMENT: Final = re.compile(r"/\*.*?\*/|(?://|#)[^\n]*", re.DOTALL)
_KEY: Final = re.compile(r'\s*key\s+("?)([^\s"{;]+)\1\s*\{([^}]*)\}\s*;')
_FIELD: Final = re.compile(r'\s*(algorithm|secret)\s+("?)([^\s";]+)\2\s*;')


@dataclass(frozen=True, slots=True)
class Key:
    """A shared key.

    Attributes:
        name: folded.
        algorithm: its name in messages; b"": any, as the query says.
    """

    name: bytes
    algorithm: bytes
    secret: bytes

    def mac(self, parts: Iterable[bytes]) -> bytes:
        """Return the MAC over some octets."""
        return hmac.digest(self.secret, b"".join(parts), ALGORITHMS[self.algorithm])

    @property
    def size(self) -> int:
        """Octets of a MAC."""
        return hashlib.new(ALGORITHMS[self.algorithm]).digest_size


Keys = Mapping[bytes, Key]
"""By name, folded."""


def read(path: str) -> dict[bytes, Key]:
    """Return the keys of a file as `tsig-keygen` writes it.

    Raises:
        ValueError: it cannot be read, or a key in it cannot be used.
    """
    try:
        text = _COMMENT.sub("", Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f'cannot read "{path}": {error}') from error
    found: dict[bytes, Key] = {}
    at = 0
    while text[at:].strip():
        block = _KEY.match(text, at)
        if block is None:
            raise ValueError(f'"{path}": key NAME {{ algorithm …; secret …; }}; is expected')
        fields = {each[1]: each[3] for each in _FIELD.finditer(block[3])}
        try:
            key = made(block[2], fields.get("algorithm", "hmac-sha256"), fields.get("secret", ""))
        except ValueError as error:
            raise ValueError(f'"{path}": {error}') from error
        found[key.name] = key
        at = block.end()
    return found


def made(name: str, algorithm: str, secret: str) -> Key:
    """Return a key from its texts; `secret` is base64, no `algorithm` stands for any.

    Raises:
        ValueError: one of them is none.
    """
    try:
        shape = names.from_text(algorithm).lower() if algorithm else b""
        octets = base64.b64decode(secret, validate=True)
        folded = names.from_text(name).lower()
    except (ValueError, binascii.Error) as error:
        raise ValueError(f'key "{name}": {error}') from error
    if shape and shape not in ALGORITHMS:
        raise ValueError(f'key "{name}": algorithm "{algorithm}" is not known')
    if not octets:
        raise ValueError(f'key "{name}": it has no secret')
    return Key(folded, shape, octets)

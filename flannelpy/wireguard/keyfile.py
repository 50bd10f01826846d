# SPDX-License-Identifier: Apache-2.0
"""This host's WireGuard key: read from its file, or made and written there."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from flannelpy.fields import FieldError
from flannelpy.wireguard.objects import parse_key, text

FILE: Final = "/run/flannel/wgkey"


@dataclass(frozen=True, slots=True)
class Keys:
    """A pair; the private half is not shown."""

    public: bytes
    private: bytes = field(repr=False)


def public_of(private: bytes) -> bytes:
    """Return the public half of a private key."""
    public = X25519PrivateKey.from_private_bytes(private).public_key()
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def read(suffix: str, *, planning: bool) -> Keys:
    """Return this host's keys; new ones are kept, mode 0400, unless `planning`.

    Raises:
        FieldError: the file cannot be used.
    """
    path = Path(os.environ.get("WIREGUARD_KEY_FILE") or FILE + suffix)
    try:
        private = parse_key(str(path), path.read_text("ascii", "replace"))
    except FileNotFoundError:
        private = _fresh()
        if not planning:
            _write(path, private)
    except OSError as error:
        raise FieldError(f"{path}: {error.strerror}") from error
    return Keys(public_of(private), private)


def _fresh() -> bytes:
    key = bytearray(secrets.token_bytes(32))
    key[0] &= 248
    key[31] = key[31] & 127 | 64
    return bytes(key)


def _write(path: Path, private: bytes) -> None:
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text(private))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise FieldError(f"{path}: {error.strerror}") from error

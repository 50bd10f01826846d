# SPDX-License-Identifier: Apache-2.0
"""An account's key and what it signs (RFC 7515, 7638, 8555 §6.2). Pure but for the random of a new key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

_COORDINATE: Final = 32  # bytes of P-256's


def b64(data: bytes) -> str:
    """Return base64url without padding, as JOSE writes it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(data: bytes) -> bytes:
    """Return what base64url holds, padded or not; raises ValueError."""
    return base64.b64decode(data + b"=" * (-len(data) % 4), b"-_", validate=True)


def _number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class AccountKey:
    """A private key of P-256 or RSA.

    Args:
        pem: unencrypted, `EC PRIVATE KEY`, `RSA PRIVATE KEY` or PKCS #8.

    Raises:
        ValueError: another kind of key, or none.
    """

    def __init__(self, pem: bytes) -> None:
        key = serialization.load_pem_private_key(pem, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) or (
            isinstance(key, ec.EllipticCurvePrivateKey) and not isinstance(key.curve, ec.SECP256R1)
        ):
            raise ValueError("an account's key is one of P-256 or RSA")  # noqa: TRY004  (a value of the user's)
        self._key = key

    @property
    def jwk(self) -> dict[str, str]:
        """The public key, members in the order of a thumbprint."""
        if isinstance(self._key, rsa.RSAPrivateKey):
            public = self._key.public_key().public_numbers()
            return {"e": _number(public.e), "kty": "RSA", "n": _number(public.n)}
        point = self._key.public_key().public_numbers()
        x, y = (b64(value.to_bytes(_COORDINATE, "big")) for value in (point.x, point.y))
        return {"crv": "P-256", "kty": "EC", "x": x, "y": y}

    @property
    def thumbprint(self) -> str:
        """SHA-256 of the public key (RFC 7638): the second half of a key authorization."""
        return b64(hashlib.sha256(json.dumps(self.jwk, separators=(",", ":")).encode()).digest())

    def sign(self, protected: Mapping[str, Any], payload: object | None) -> bytes:
        """Return a flattened JWS; a payload of None is the empty one of POST-as-GET."""
        alg = "RS256" if isinstance(self._key, rsa.RSAPrivateKey) else "ES256"
        head = b64(json.dumps({**protected, "alg": alg}).encode())
        body = "" if payload is None else b64(json.dumps(payload).encode())
        signature = b64(self._signature(f"{head}.{body}".encode()))
        return json.dumps({"protected": head, "payload": body, "signature": signature}).encode()

    def bound(self, key_id: str, secret: bytes, url: str) -> dict[str, str]:
        """Return the binding of this key to an account elsewhere (RFC 8555 §7.3.4).

        Args:
            key_id: that account's.
            secret: its MAC key.
            url: of the server's newAccount.
        """
        head = b64(json.dumps({"alg": "HS256", "kid": key_id, "url": url}).encode())
        body = b64(json.dumps(self.jwk).encode())
        mac = b64(hmac.digest(secret, f"{head}.{body}".encode(), "sha256"))
        return {"protected": head, "payload": body, "signature": mac}

    def _signature(self, data: bytes) -> bytes:
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(_COORDINATE, "big") + s.to_bytes(_COORDINATE, "big")


def new_key() -> bytes:
    """Return a new private key of P-256, PEM."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )

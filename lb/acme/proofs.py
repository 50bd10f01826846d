# SPDX-License-Identifier: Apache-2.0
"""Certificates that prove to an ACME server whose a name is: tls-alpn-01 (RFC 8737).

::

    ClientHello ─ overheard ─► its ALPN ─┐
    SNI callback ─ name ─────────────────┴─► offers acme-tls/1 and the name is to be proved:
                                             the proof's context, else the ordinary one

Python's ssl does not tell the SNI callback what a client offers by ALPN, but lets its messages be
overheard (`SSLContext._msg_callback`, there since 3.8 for debugging). That is done only while
there is something to prove: a handshake costs nothing more at all other times, and who asks for the
same name as a browser does gets the ordinary certificate.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from weakref import WeakSet

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lb import pairs
from lb.acme import hello
from lb.secret import KeyPair
from lb.tls import ACME

_IDENTIFIER: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")  # id-pe-acmeIdentifier
_OCTETS: Final = b"\x04\x20"  # DER: an OCTET STRING of 32
_HANDSHAKE: Final = 22  # a record's content type
_CLIENT_HELLO: Final = 1  # of a handshake's messages
_LIFE: Final = timedelta(days=1)  # a validation takes seconds; clocks may differ by hours


def certificate(name: str, authorization: str) -> KeyPair:
    """Return the self-signed pair that answers a challenge (RFC 8737 §3).

    Args:
        authorization: the key authorization, `token.thumbprint`.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    told = _OCTETS + hashlib.sha256(authorization.encode()).digest()
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ACME challenge")])
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LIFE)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.UnrecognizedExtension(_IDENTIFIER, told), critical=True)
        .sign(key, hashes.SHA256())
    )
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return KeyPair(text, signed.public_bytes(serialization.Encoding.PEM))


class Proofs:
    """What is to be proved now, and the contexts whose clients are listened to meanwhile."""

    def __init__(self) -> None:
        self._answers: dict[str, str] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._bases: WeakSet[ssl.SSLContext] = WeakSet()
        self._heard: tuple[object, tuple[bytes, ...]] = (None, ())

    @property
    def answers(self) -> Mapping[str, str]:
        """The key authorizations, by name."""
        return self._answers

    def watch(self, base: ssl.SSLContext) -> None:
        """Take a listener's context in: whose SNI callback asks `pick`."""
        self._bases.add(base)
        if self._answers:
            _overhear(base, self._hear)

    def put(self, name: str, authorization: str) -> None:
        """Prove a name from the next handshake on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pairs.load(context, certificate(name, authorization))
        context.set_alpn_protocols([ACME])
        self._contexts[name.lower()] = context
        self._answers[name] = authorization
        for base in self._bases:
            _overhear(base, self._hear)

    def drop(self, name: str) -> None:
        """Prove a name no longer."""
        del self._answers[name]
        del self._contexts[name.lower()]
        if not self._answers:
            self._heard = (None, ())
            for base in self._bases:
                _overhear(base, None)

    def pick(
        self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None
    ) -> ssl.SSLContext | None:
        """Return the context that proves `name` to who asks for that; None for all others."""
        if not self._contexts:
            return None
        whose, offered = self._heard
        self._heard = (None, ())
        context = self._contexts.get((name or "").lower())
        if context is not None and (
            (whose is connection and ACME.encode() in offered)
            or connection.context is context  # its second ClientHello, which nobody overhears
        ):
            return context
        return None

    def _hear(self, connection: Any, *told: Any) -> None:
        """Note what a client offers; OpenSSL calls the SNI callback next."""
        direction, _, content, kind, data = told
        if direction == "read" and content == _HANDSHAKE and kind == _CLIENT_HELLO:
            self._heard = (connection, hello.protocols(bytes(data)))


def _overhear(context: ssl.SSLContext, hear: Any) -> None:
    context._msg_callback = hear  # type: ignore[attr-defined]

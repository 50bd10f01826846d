# SPDX-License-Identifier: Apache-2.0
"""OCSP: ask for a certificate's status, judge the answer, staple it (specs/vulcand.md §13).

Python's ssl has no call to staple. The three of OpenSSL's that it takes are made with ctypes on the
library that ssl itself uses; where that cannot be found nothing is stapled and `able` says so.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import ssl
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID

_SET_CALLBACK: Final = 63  # SSL_CTRL_SET_TLSEXT_STATUS_REQ_CB
_SET_RESPONSE: Final = 71  # SSL_CTRL_SET_TLSEXT_STATUS_REQ_OCSP_RESP
_GET_MINIMUM: Final = 130  # SSL_CTRL_GET_MIN_PROTO_VERSION
_OK, _NO_ACK = 0, 3
_CALLBACK: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class OcspError(Exception):
    """No usable answer; the message says why."""


@dataclass(frozen=True, slots=True)
class Staple:
    """A responder's answer.

    Attributes:
        der: as received; handed to clients.
        revoked: the certificate is revoked.
        until: Unix seconds when it ends; None where it does not say.
    """

    der: bytes
    revoked: bool
    until: float | None


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about a chain, and where."""

    der: bytes
    urls: tuple[str, ...]
    issuer: x509.Certificate


def question(chain: bytes, responders: Sequence[str]) -> Question:
    """Return what to ask about the first certificate of a PEM chain.

    Raises:
        OcspError: the chain has no issuer, or nobody to ask is known.
    """
    try:
        certificates = x509.load_pem_x509_certificates(chain)
    except ValueError as error:
        raise OcspError(f"the chain cannot be read: {error}") from error
    if len(certificates) < 2:
        raise OcspError("the chain holds no issuer after the certificate")
    leaf, issuer = certificates[:2]
    urls = tuple(responders) or _listed(leaf)
    if not urls:
        raise OcspError("neither Responders nor the certificate name anybody to ask")
    builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA1())  # noqa: S303  (an identifier)
    return Question(builder.build().public_bytes(serialization.Encoding.DER), urls, issuer)


def _listed(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(
        one.access_location.value
        for one in access
        if one.access_method == AuthorityInformationAccessOID.OCSP
        and isinstance(one.access_location, x509.UniformResourceIdentifier)
    )


def judge(der: bytes, issuer: x509.Certificate, now: float, *, check: bool = True) -> Staple:
    """Return what an answer says.

    Args:
        now: Unix seconds.
        check: verify its signature.

    Raises:
        OcspError: it says nothing usable.
    """
    try:
        answer = ocsp.load_der_ocsp_response(der)
    except ValueError as error:
        raise OcspError(f"no OCSP answer: {error}") from error
    if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise OcspError(f"the responder says {answer.response_status.name.lower()}")
    if answer.certificate_status is ocsp.OCSPCertStatus.UNKNOWN:
        raise OcspError("the responder does not know the certificate")
    if check:
        _verify(answer, issuer)
    until = answer.next_update_utc
    if until is not None and until < datetime.fromtimestamp(now, UTC):
        raise OcspError("the answer is out of date")
    revoked = answer.certificate_status is ocsp.OCSPCertStatus.REVOKED
    return Staple(der, revoked, until.timestamp() if until else None)


def _verify(answer: ocsp.OCSPResponse, issuer: x509.Certificate) -> None:
    signer = issuer
    why = ""
    try:
        for delegate in answer.certificates:
            delegate.verify_directly_issued_by(issuer)
            usage = delegate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            if x509.oid.ExtendedKeyUsageOID.OCSP_SIGNING not in usage:
                why = "the signer may not sign OCSP answers"
            signer = delegate
        key, hashing = signer.public_key(), answer.signature_hash_algorithm
        if isinstance(key, rsa.RSAPublicKey) and hashing is not None:
            key.verify(answer.signature, answer.tbs_response_bytes, padding.PKCS1v15(), hashing)
        elif isinstance(key, ec.EllipticCurvePublicKey) and hashing is not None:
            key.verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(hashing))
        else:
            why = "the signer's key is of no known kind"
    except Exception as error:
        raise OcspError(f"the answer's signature does not hold: {type(error).__name__}") from error
    if why:
        raise OcspError(why)


# ---------------------------------------------------------------------- stapling


@cache
def _library() -> Any:
    """Return the libssl and libcrypto that `ssl` uses, None where its layout is not the one we know."""
    if sys.implementation.name != "cpython":
        return None
    try:
        name = f"libssl.so.{ssl.OPENSSL_VERSION_INFO[0]}"
        library = ctypes.CDLL(name)
        crypto = ctypes.CDLL(name.replace("ssl", "crypto"))
        library.SSL_CTX_ctrl.restype = ctypes.c_long
        library.SSL_CTX_ctrl.argtypes = [
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.c_long,
            ctypes.c_void_p,
        ]
        library.SSL_CTX_callback_ctrl.restype = ctypes.c_long
        library.SSL_CTX_callback_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, _CALLBACK]
        library.SSL_ctrl.restype = ctypes.c_long
        library.SSL_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
        crypto.CRYPTO_malloc.restype = ctypes.c_void_p
        crypto.CRYPTO_malloc.argtypes = [ctypes.c_size_t, ctypes.c_char_p, ctypes.c_int]
        crypto.OpenSSL_version_num.restype = ctypes.c_ulong
    except (OSError, AttributeError):
        return None
    if crypto.OpenSSL_version_num() != ssl.OPENSSL_VERSION_NUMBER:
        return None  # another copy than the one ssl is linked with
    probe = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    probe.minimum_version = ssl.TLSVersion.TLSv1_3
    if library.SSL_CTX_ctrl(_pointer(probe), _GET_MINIMUM, 0, None) != ssl.TLSVersion.TLSv1_3:
        return None
    return library, crypto


def _pointer(context: ssl.SSLContext) -> int:
    """Return the SSL_CTX* that stands right behind the head of CPython's object."""
    return int(ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value or 0)


def able() -> bool:
    """Say whether this Python can staple."""
    return _library() is not None


def staple(context: ssl.SSLContext, current: Callable[[], bytes]) -> object:
    """Have a context hand out what `current` returns, nothing for b"".

    Returns:
        What must live as long as the context.
    """
    found = _library()
    if found is None:
        raise OcspError("this Python's OpenSSL cannot be reached to staple")
    library, crypto = found

    def answer(connection: int, argument: int) -> int:
        der = current()
        if not der:
            return _NO_ACK
        memory = crypto.CRYPTO_malloc(len(der), b"", 0)  # the connection frees it
        ctypes.memmove(memory, der, len(der))
        library.SSL_ctrl(connection, _SET_RESPONSE, len(der), memory)
        return _OK

    callback = _CALLBACK(answer)
    library.SSL_CTX_callback_ctrl(_pointer(context), _SET_CALLBACK, callback)
    return callback

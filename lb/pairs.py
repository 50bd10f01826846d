# SPDX-License-Identifier: Apache-2.0
"""Key pairs into ssl's contexts, and what their certificates say."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from cryptography import x509

from lb.secret import KeyPair


def named(pair: KeyPair) -> tuple[tuple[str, ...], float]:
    """Return the names in a pair's certificate, and its end in Unix seconds; raises ValueError."""
    try:
        leaf = x509.load_pem_x509_certificate(pair.cert)
    except ValueError as error:
        raise ValueError("it holds no certificate in PEM") from error
    return _names(leaf), leaf.not_valid_after_utc.timestamp()


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    """Return the names in a certificate, lower-cased; raises ValueError."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = [*names.get_values_for_type(x509.DNSName)]
        found += [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    except x509.ExtensionNotFound:
        common = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        found = [str(one.value) for one in common]
    return tuple(name.lower() for name in found)


def load(context: ssl.SSLContext, pair: KeyPair) -> None:
    """Load a key pair, which ssl takes from files only: one in memory, seen by nobody else.

    Raises:
        ssl.SSLError: it is no pair.
    """
    fd = os.memfd_create("pair", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(pair.cert.rstrip() + b"\n" + pair.key)
        path = Path(f"/proc/self/fd/{fd}")
        context.load_cert_chain(path, password=lambda: "")
    finally:
        os.close(fd)


def fault(pair: KeyPair) -> str:
    """Return why a pair does not load, "" when it does; for who writes one."""
    try:
        named(pair)
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair)
    except (ValueError, ssl.SSLError, OSError) as error:
        return f"the key pair does not load: {error}"
    return ""

# SPDX-License-Identifier: Apache-2.0
"""File names → ssl contexts, made anew when the files change; when certificates end.

The end is read from the certificate's DER by hand (30 lines): `cryptography` costs 8 MiB and 45 ms,
too much for a date in each of four daemons.
"""

from __future__ import annotations

import calendar
import os
import re
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from fairlead.errors import ConfigError

T = TypeVar("T")
WARN_SECONDS: Final = 30 * 86400.0

Stamp = tuple[tuple[int, int, int] | None, ...]
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def stamp(paths: Sequence[str]) -> Stamp:
    """Return what changes when one of the files does: inode, size, time; None: not there."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            seen = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((seen.st_ino, seen.st_size, seen.st_mtime_ns))
    return tuple(found)


class Reread(Generic[T]):
    """A value made from files, made anew when they changed; a bad change keeps the old value.

    Args:
        paths: the files.
        make: makes the value; raises ConfigError.
        failed: told of each change that could not be used.
    """

    def __init__(
        self,
        paths: Sequence[str],
        make: Callable[[], T],
        failed: Callable[[ConfigError], None] = lambda error: None,
    ) -> None:
        self._paths = [path for path in paths if path]
        self._make = make
        self._failed = failed
        self._stamp = stamp(self._paths)
        self._value = make()

    def get(self) -> T:
        """Return the value that fits the files as they are now; some µs when unchanged."""
        now = stamp(self._paths)
        if now != self._stamp:
            self._stamp = now
            try:
                self._value = self._make()
            except ConfigError as error:
                self._failed(error)
        return self._value


def trusting(ca: str = "") -> ssl.SSLContext:
    """Return a context that trusts the CAs of a file, without `ca` the system's roots.

    From Python 3.13 on ssl refuses certificates that RFC 5280 would have otherwise, mostly for want
    of an Authority Key Identifier: what `openssl x509 -req` made for an etcd years ago. Go, curl and
    older Pythons take them, and so do we.

    Raises:
        OSError: the file cannot be used (ssl.SSLError is one).
    """
    context = ssl.create_default_context(cafile=ca or None)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def client_context(
    ca: str = "", cert: str = "", key: str = "", *, verify: bool = True
) -> ssl.SSLContext:
    """Return a context for connecting; without `ca` the system's roots count.

    Raises:
        ConfigError: a file cannot be used; it is named, as one of the three below.
    """
    try:
        context = trusting(ca)
    except (OSError, ssl.SSLError) as error:
        raise _refused(CA_FILE, ca, error) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert or key:
        _load(context, cert, key)
    return context


def server_context(cert: str, key: str, client_ca: str = "") -> ssl.SSLContext:
    """Return a context for listening; with `client_ca` clients must have a certificate.

    Raises:
        ConfigError: a file cannot be used; it is named, as one of the three below.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, cert, key)
    if client_ca:
        try:
            context.load_verify_locations(client_ca)
        except (OSError, ssl.SSLError) as error:
            raise _refused(CA_FILE, client_ca, error) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


CA_FILE: Final = "CA file"
CERT_FILE: Final = "certificate file"
KEY_FILE: Final = "key file"


def _load(context: ssl.SSLContext, cert: str, key: str) -> None:
    if not cert:
        raise ConfigError(KEY_FILE, key, "tls", "is of no use without a certificate file")
    # looked at first: of whatever is wrong with either OpenSSL says "PEM lib", and asks a
    # terminal for a passphrase
    _look(CERT_FILE, cert, "-----BEGIN CERTIFICATE-----", "certificate")
    text = _look(KEY_FILE, key or cert, "PRIVATE KEY-----", "private key")
    if "ENCRYPTED" in text:
        reason = "is locked by a passphrase, for which nobody can be asked"
        raise ConfigError(KEY_FILE, key or cert, "tls", reason)
    try:
        context.load_cert_chain(cert, key or None, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            reason = f"is not the key of certificate file {cert}"
            raise ConfigError(KEY_FILE, key or cert, "tls", reason) from error
        raise _refused(CERT_FILE, cert, error, f" with key file {key or cert}") from error


def _look(name: str, path: str, mark: str, what: str) -> str:
    """Return a file's text, which has to hold something."""
    try:
        text = Path(path).read_text("ascii", "replace")
    except OSError as error:
        raise _refused(name, path, error) from error
    if mark not in text:
        raise ConfigError(name, path, "tls", f"holds no {what} in PEM form")
    return text


def _refused(name: str, path: str, error: OSError, more: str = "") -> ConfigError:
    match error:
        case ssl.SSLError(reason="NO_CERTIFICATE_OR_CRL_FOUND"):
            reason = "holds no certificate in PEM form"
        case ssl.SSLError():
            reason = f"cannot be used{more}: it is damaged ({error.reason or error.strerror})"
        case _:
            reason = f"cannot be used{more}: {(error.strerror or str(error)).lower()}"
    return ConfigError(name, path, "tls", reason)


# ---------------------------------------------------------------------- when certificates end


@dataclass(frozen=True, slots=True)
class Expiry:
    """When the first certificate of a file ends, seconds since 1970."""

    path: str
    ends: float

    def warning(self, now: float) -> str:
        """Say, from 30 days before the end on, when that is; "" before."""
        left = self.ends - now
        if left > WARN_SECONDS:
            return ""
        day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.ends))
        if left <= 0:
            return f"ended at {day}"
        return f"ends in {left / 86400:.0f} days, at {day}"


def expiry(path: str) -> Expiry:
    """Return when the certificate that ends first in a PEM file ends.

    Raises:
        ConfigError: the file cannot be read or holds no certificate.
    """
    try:
        text = Path(path).read_text("ascii", "replace")
        ends = [_not_after(ssl.PEM_cert_to_DER_cert(pem)) for pem in _PEM.findall(text)]
    except OSError as error:
        raise _refused("certificate file", path, error) from error
    except (ValueError, IndexError) as error:
        raise ConfigError("certificate file", path, "tls", f"is damaged: {error}") from error
    if not ends:
        raise ConfigError("certificate file", path, "tls", "holds no certificate in PEM form")
    return Expiry(path, min(ends))


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """Return tag, start and end of the content of the DER element at `at`."""
    tag, length = data[at], data[at + 1]
    start = at + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(data[start : start + size], "big")
        start += size
    if start + length > len(data):
        raise ValueError("cut short")
    return tag, start, start + length


def _not_after(der: bytes) -> float:
    """Return a certificate's notAfter (RFC 5280 §4.1): the fifth or fourth field of its body."""
    _, at, _ = _element(der, 0)  # Certificate
    _, at, _ = _element(der, at)  # TBSCertificate
    tag, _, end = _element(der, at)
    skip = 4 if tag == 0xA0 else 3  # [0] version; serialNumber, signature, issuer
    for _ in range(skip):
        _, _, end = _element(der, at)
        at = end
    _, at, _ = _element(der, at)  # Validity
    _, _, at = _element(der, at)  # notBefore
    tag, start, end = _element(der, at)
    text = der[start:end].decode("ascii")
    if tag == 0x17:  # UTCTime: years 1950 to 2049 in two digits
        text = ("20" if int(text[:2]) < 50 else "19") + text
    return float(calendar.timegm(time.strptime(text, "%Y%m%d%H%M%SZ")))

# SPDX-License-Identifier: Apache-2.0
"""TLS settings of listeners and backends → contexts (specs/vulcand.md §3.6)."""

from __future__ import annotations

import re
import ssl
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from fairlead.tls import trusting
from lb.fields import Fields, Invalid

ACME: Final = "acme-tls/1"
"""The protocol, by ALPN, of who looks whether a name is ours (RFC 8737)."""
VERSIONS: Final = {
    "VersionTLS10": ssl.TLSVersion.TLSv1,
    "VersionTLS11": ssl.TLSVersion.TLSv1_1,
    "VersionTLS12": ssl.TLSVersion.TLSv1_2,
    "VersionTLS13": ssl.TLSVersion.TLSv1_3,
}
_GONE: Final = frozenset(
    (
        "TLS_RSA_WITH_RC4_128_SHA",
        "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
        "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
        "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
        "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    )
)
"""Accepted by vulcand; left out where the library lacks them."""
_TLS13: Final = re.compile(r"TLS_(AES|CHACHA20)_\w+")
NAMES: Final = (
    "MinVersion",
    "MaxVersion",
    "CipherSuites",
    "PreferServerCipherSuites",
    "InsecureSkipVerify",
    "SessionTicketsDisabled",
    "SessionCache",
)


def openssl_name(suite: str) -> str:
    """Return OpenSSL's name of a suite of TLS 1.2 and older: ECDHE-RSA-AES128-GCM-SHA256."""
    exchange, _, cipher = suite.removeprefix("TLS_").partition("_WITH_")
    cipher = re.sub(r"^(AES|CAMELLIA|ARIA)_(\d+)", r"\1\2", cipher)
    cipher = cipher.replace("3DES_EDE_CBC", "DES_CBC3").replace("RC4_128", "RC4")
    cipher = re.sub(r"_CBC(?=_SHA)", "", cipher) if not cipher.startswith("DES") else cipher
    cipher = re.sub(r"(CHACHA20_POLY1305)_SHA256", r"\1", cipher)
    prefix = "" if exchange == "RSA" else exchange + "_"
    return (prefix + cipher).replace("_", "-")


@cache
def iana_name(cipher: str) -> str:
    """Return IANA's name of OpenSSL's: TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, as Go calls it."""
    if cipher.startswith("TLS_") or not cipher:
        return cipher
    found = re.fullmatch(r"(?:((?:EC)?DHE-(?:RSA|ECDSA|DSS))-)?(.+)", cipher)
    exchange, rest = (found[1] or "RSA", found[2]) if found else ("RSA", cipher)
    rest = re.sub(r"^(AES|CAMELLIA|ARIA)(\d+)", r"\1_\2", rest)
    rest = rest.replace("DES-CBC3", "3DES_EDE_CBC").replace("RC4", "RC4_128")
    if rest.endswith("POLY1305"):
        rest += "-SHA256"
    elif not re.search("GCM|CCM|POLY1305|CBC|RC4", rest):
        rest = re.sub(r"-(SHA\d*)$", r"-CBC-\1", rest)
    return f"TLS_{exchange}_WITH_{rest}".replace("-", "_")


@cache
def _known() -> frozenset[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    return frozenset(str(cipher["name"]) for cipher in context.get_ciphers())


def read(fields: Fields) -> dict[str, Any]:
    """Return checked settings, names as vulcand spells them; raises Invalid."""
    found: dict[str, Any] = {}
    for name in ("MinVersion", "MaxVersion"):
        version = fields.text(name)
        if version and version not in VERSIONS:
            raise Invalid(f"unsupported TLS version: {version}")
        if version:
            found[name] = version
    if _order(found.get("MinVersion", "VersionTLS10")) > _order(
        found.get("MaxVersion", "VersionTLS13")
    ):
        raise Invalid("MinVersion is above MaxVersion")
    suites = fields.texts("CipherSuites")
    for suite in suites:
        if (
            suite not in _GONE
            and not _TLS13.fullmatch(suite)
            and openssl_name(suite) not in _known()
        ):
            raise Invalid(f"unsupported cipher suite: {suite}")
    if suites:
        found["CipherSuites"] = list(suites)
    for name in ("PreferServerCipherSuites", "InsecureSkipVerify", "SessionTicketsDisabled"):
        found[name] = fields.flag(name)
    cache_ = fields.object("SessionCache")
    kind = cache_.text("Type")
    if kind not in ("", "LRU"):
        raise Invalid(f"unsupported session cache type: {kind}")
    capacity = cache_.object("Settings").number("Capacity")
    if capacity < 0:
        raise Invalid(f"bad LRU capacity: {capacity}")
    if kind:
        found["SessionCache"] = {"Type": kind, "Settings": cache_.any("Settings")}
    return found


def tree(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as the original's struct prints them, every field."""
    return {
        "PreferServerCipherSuites": settings.get("PreferServerCipherSuites", False),
        "InsecureSkipVerify": settings.get("InsecureSkipVerify", False),
        "MinVersion": settings.get("MinVersion", ""),
        "MaxVersion": settings.get("MaxVersion", ""),
        "SessionTicketsDisabled": settings.get("SessionTicketsDisabled", False),
        "SessionCache": settings.get("SessionCache", {"Type": "", "Settings": None}),
        "CipherSuites": settings.get("CipherSuites"),
    }


def client_auth(fields: Fields) -> dict[str, Any]:
    """Return whom clients' certificates must be signed by: our `ClientAuth`; raises Invalid."""
    authority = fields.text("CA")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=authority)
    except (ssl.SSLError, ValueError, TypeError) as error:  # TypeError: not ASCII
        raise Invalid(f"Settings.ClientAuth.CA: PEM certificates are wanted: {error}") from error
    return {"CA": authority, "Required": fields.flag("Required") or not fields.given("Required")}


def _order(version: str) -> int:
    return list(VERSIONS).index(version)


def left_out(settings: Mapping[str, Any]) -> list[str]:
    """Return the suites that are asked for and that the library lacks."""
    return [
        suite
        for suite in settings.get("CipherSuites", ())
        if not _TLS13.fullmatch(suite) and openssl_name(suite) not in _known()
    ]


def apply(context: ssl.SSLContext, settings: Mapping[str, Any]) -> None:
    """Put settings into a context; unset, TLS 1.2 and 1.3 are spoken."""
    least = settings.get("MinVersion", "VersionTLS12")
    most = settings.get("MaxVersion", "VersionTLS13")
    old = _order(least) < _order("VersionTLS12")
    with warnings.catch_warnings():  # TLS 1.0 and 1.1: only where somebody asks for them by name
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = VERSIONS[min(least, most, key=_order)]
        context.maximum_version = VERSIONS[most]
    names = [openssl_name(suite) for suite in settings.get("CipherSuites", ())]
    names = [name for name in names if name in _known()]
    if names or old:
        ciphers = ":".join(names) if names else "DEFAULT"
        context.set_ciphers(f"{ciphers}:@SECLEVEL=0" if old or names else ciphers)
    if settings.get("PreferServerCipherSuites"):
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if settings.get("SessionTicketsDisabled"):
        context.options |= ssl.OP_NO_TICKET


def client(settings: Mapping[str, Any]) -> ssl.SSLContext:
    """Return what is spoken to https servers."""
    context = trusting()
    apply(context, settings)
    if settings.get("InsecureSkipVerify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context

# SPDX-License-Identifier: Apache-2.0
"""vctl host, secret: certificates and what they are sealed with."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Final

from fairlead.duration import format_seconds
from fairlead.flags import Kind, Setting, Values
from lb.fields import Invalid
from lb.secret import Box, KeyPair, new_key
from lb.vctl import views
from lb.vctl.client import JSON, ApiError, Client
from lb.vctl.command import FORGIVE, Command, Outcome, listed, said, tell

_NAME: Final = Setting("name", help="Hostname.")
_CERT: Final = Setting("cert", help="Path to a certificate with its chain, PEM.")
_KEY: Final = Setting("privateKey", help="Path to its private key, PEM.")
_AUTO: Final = (
    Setting("autoCert", Kind.BOOL, False, "Obtain a certificate from an ACME server."),
    Setting("autoCertEmail", help="Whom that server may write to."),
    Setting("autoCertDirectory", help="URL of its directory; empty: Let's Encrypt's."),
    Setting(
        "autoCertRenewBefore",
        Kind.DURATION,
        0.0,
        "How long before its end a certificate is renewed; 0: 30 days.",
    ),
    Setting("autoCertKeyFile", help="File with the account's private key; empty: made."),
    Setting("autoCertKeyID", help="Key id of an account with the authority (EAB)."),
    Setting("autoCertMACKeyFile", help="File with that account's MAC key, base64url."),
)
_FILE: Final = Setting("file", help="File to write to; empty: stdout.", aliases=("f",))


def _read(path: str) -> str:
    """Return the text of a file, or of none."""
    try:
        return Path(path).read_text().strip() if path else ""
    except OSError as error:
        raise ApiError(f"{error.filename}: {error.strerror}") from error


def _pair(values: Values) -> KeyPair | None:
    cert, key = values.text("cert"), values.text("privateKey")
    if not cert and not key:
        return None
    if not cert or not key:
        raise ApiError("-cert and -privateKey go together")
    try:
        return KeyPair(Path(key).read_bytes(), Path(cert).read_bytes())
    except OSError as error:
        raise ApiError(f"{error.filename}: {error.strerror}") from error


def _auto(values: Values) -> JSON:
    """Return a host's AutoCert, empty where none is asked for."""
    if not values.flag("autoCert"):
        stray = next((s.name for s in _AUTO if s.name != "autoCert" and values.given(s.name)), "")
        if stray:
            raise ApiError(f"-{stray} goes with -autoCert")
        return {}
    auto: JSON = {
        "Email": values.text("autoCertEmail"),
        "DirectoryURL": values.text("autoCertDirectory"),
        "RenewBefore": round(values.seconds("autoCertRenewBefore") * 1e9),
        "Key": _read(values.text("autoCertKeyFile")),
    }
    if values.text("autoCertKeyID") or values.text("autoCertMACKeyFile"):
        auto["ExternalAccount"] = {
            "KeyID": values.text("autoCertKeyID"),
            "MACKey": _read(values.text("autoCertMACKeyFile")),
        }
    return {"AutoCert": auto}


def _upsert(client: Client, values: Values) -> JSON:
    pair = _pair(values)
    ocsp = {
        "Enabled": values.flag("ocsp"),
        "SkipSignatureCheck": values.flag("ocspSkipCheck"),
        "Period": format_seconds(values.seconds("ocspPeriod")),
        "Responders": list(values.many("ocspResponder")),
    }
    settings: JSON = {"OCSP": ocsp, "KeyPair": None if pair is None else pair.tree()}
    if values.flag("default"):
        settings["Default"] = True
    settings |= _auto(values)
    body = {"Name": values.text("name"), "Settings": settings}
    return client.call("POST", "hosts", body={"Host": body})


def _show(client: Client, values: Values) -> Outcome:
    answer = client.call("GET", "hosts", values.text("name"))
    return Outcome(answer, text=views.section("Host", [answer]))


def _write(path: str, text: str) -> str:
    """Write a secret to a file that nobody else can read; return what stdout gets."""
    if not path:
        return text
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
    except OSError as error:
        raise ApiError(f"{path}: {error.strerror}") from error
    return ""


def _new_key(client: Client, values: Values) -> Outcome:
    key = new_key()
    return Outcome(key, text=_write(values.text("file"), key), done=bool(values.text("file")))


def _seal(client: Client, values: Values) -> Outcome:
    pair = _pair(values)
    if pair is None:
        raise ApiError("-cert and -privateKey are wanted")
    try:
        sealed = Box(values.text("sealKey")).seal(pair).tree()
    except Invalid as error:
        raise ApiError(str(error)) from error
    text = json.dumps(sealed, separators=(",", ":"))
    return Outcome(sealed, text=_write(values.text("file"), text), done=bool(values.text("file")))


def stored(sealed: JSON) -> str:
    """Return what a sealed pair is in etcd: base64 of its JSON."""
    return base64.b64encode(json.dumps(sealed).encode()).decode()


HOST: Final = {
    "ls": Command("List all hosts.", listed("Hosts", "hosts")),
    "show": Command("Show a host.", _show, (_NAME,)),
    "upsert": Command(
        "Write a host.",
        tell(_upsert, said("host added")),
        (
            _NAME,
            _KEY,
            _CERT,
            Setting("ocsp", Kind.BOOL, False, "Staple OCSP answers."),
            Setting("ocspSkipCheck", Kind.BOOL, False, "Do not check the answers' signatures."),
            Setting("ocspPeriod", Kind.DURATION, 3600.0, "How often an answer is fetched."),
            Setting("ocspResponder", Kind.REPEAT, help="Whom to ask; may be repeated."),
            Setting("default", Kind.BOOL, False, "Offer its certificate where no other fits."),
            *_AUTO,
        ),
    ),
    "rm": Command(
        "Remove a host.",
        tell(lambda c, v: c.call("DELETE", "hosts", v.text("name")), said("")),
        (_NAME, FORGIVE),
    ),
}
SECRET: Final = {
    "new_key": Command("Make a seal key.", _new_key, (_FILE,)),
    "seal_keypair": Command(
        "Seal a key pair; the result is JSON, in etcd base64 of it.",
        _seal,
        (
            _FILE,
            Setting("sealKey", help="The seal key: 64 hexadecimal digits.", secret=True),
            _KEY,
            _CERT,
        ),
    ),
}

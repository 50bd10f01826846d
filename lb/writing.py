# SPDX-License-Identifier: Apache-2.0
"""The six records → JSON as vulcand's own structs print it (specs/vulcand.md §3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from lb import tls
from lb.fields import JSON
from lb.records import AutoCert, Backend, Frontend, Host, Listener, Middleware, Record, Server
from lb.secret import Pair, Sealed


@dataclass(frozen=True, slots=True)
class Look:
    """How secrets are shown: a key pair as JSON, a key without a certificate as text."""

    pair: Callable[[Pair], object]
    key: Callable[[Pair], str]


stored: Final = Look(
    pair=lambda pair: pair.text() if isinstance(pair, Sealed) else pair.tree(),
    key=lambda pair: pair.text() if isinstance(pair, Sealed) else pair.key.decode(),
)
"""As they stand in etcd."""


def _listener_settings(record: Listener) -> JSON:
    settings: JSON = {}
    secure = {name: value for name, value in record.tls.items() if name != "ClientAuth"}
    if secure:
        settings["TLS"] = tls.tree(secure)
    if "ClientAuth" in record.tls:
        settings["ClientAuth"] = record.tls["ClientAuth"]
    if record.trusted:
        settings["TrustedProxies"] = list(record.trusted)
    return {**settings, **record.ours}


def _auto(auto: AutoCert, look: Look) -> JSON:
    external = {
        "KeyID": auto.external_id,
        "MACKey": look.key(auto.external_key) if auto.external_key else "",
    }
    return {
        "Email": auto.email,
        "RenewBefore": round(auto.renew_before * 1e9),
        "DirectoryURL": auto.directory,
        "Key": look.key(auto.key) if auto.key else "",
        **({"ExternalAccount": external} if auto.external_id else {}),
    }


def tree(record: Record, look: Look = stored) -> JSON:
    """Return a record as vulcand's own struct prints it, unknown fields after."""
    ref = record.ref
    out: JSON
    match record:
        case Host():
            out = {
                "Name": ref.id,
                "Settings": {
                    "Default": record.default,
                    "KeyPair": look.pair(record.pair) if record.pair else None,
                    "AutoCert": _auto(record.auto, look) if record.auto else None,
                    "OCSP": {
                        "Enabled": record.ocsp.enabled,
                        "Period": record.ocsp_period,
                        "Responders": list(record.ocsp.responders) or None,
                        "SkipSignatureCheck": record.ocsp.skip_check,
                    },
                },
            }
        case Listener():
            out = {
                "Id": ref.id,
                "Protocol": record.protocol,
                "Address": {"Network": record.network, "Address": record.address},
                "Scope": record.scope,
            }
            settings = _listener_settings(record)
            if settings:
                out["Settings"] = settings
            out["ProxyProtocol"] = record.proxy
        case Backend():
            out = {
                "Id": ref.id,
                "Type": record.type,
                "Settings": {
                    "Timeouts": {
                        "Read": record.read,
                        "Dial": record.dial,
                        "TLSHandshake": record.tls_handshake,
                    },
                    "KeepAlive": {
                        "Period": record.keepalive_period,
                        "MaxIdleConnsPerHost": record.max_idle,
                    },
                    **({"TLS": tls.tree(record.tls)} if record.tls else {}),
                    **({"ClientCert": look.pair(record.client)} if record.client else {}),
                    **record.ours,
                },
            }
        case Server():
            out = {"Id": ref.id, "URL": record.url}
            if record.weight != 1:
                out["Weight"] = record.weight
            out.update(record.ours)
        case Frontend():
            out = {
                "Id": ref.id,
                "Route": record.route,
                "Type": record.type,
                "BackendId": record.backend,
                "Settings": {
                    "Limits": {
                        "MaxMemBodyBytes": record.max_mem_body,
                        "MaxBodyBytes": record.max_body,
                    },
                    "FailoverPredicate": record.failover,
                    "Hostname": record.hostname,
                    "TrustForwardHeader": record.trust_forward,
                    "PassHostHeader": record.pass_host,
                    "Stream": record.stream,
                    "StreamFlushIntervalNanoSecs": record.flush_ns,
                    **record.ours,
                },
            }
            out.update(record.own)
        case Middleware():
            out = {
                "Id": ref.id,
                "Priority": record.priority,
                "Type": record.type,
                "Middleware": record.body,
            }
    return {**out, **record.extra}


def encode(record: Record) -> bytes:
    """Return what is written to etcd: compact JSON, not HTML-escaped, a newline after (§3).

    A host's AutoCert only where there is one: the original never writes it (§3.4).
    """
    out = tree(record)
    if isinstance(record, Host) and record.auto is None:
        del out["Settings"]["AutoCert"]
    return msgspec.json.encode(out) + b"\n"

# SPDX-License-Identifier: Apache-2.0
"""The six records → JSON as vulcand's own structs print it (specs/vulcand.md §3)."""

from __future__ import annotations

import base64
from collections.abc import Callable

import msgspec

from lb import tls
from lb.fields import JSON
from lb.records import AutoCert, Backend, Frontend, Host, Listener, Middleware, Record, Server
from lb.secret import Pair, Sealed


def _stored(pair: Pair) -> object:
    return pair.text() if isinstance(pair, Sealed) else pair.tree()


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


def _auto(auto: AutoCert, pair: Callable[[Pair], object]) -> JSON:
    def shown(key: Pair | None) -> object:
        found = "" if key is None else pair(key)
        # a dict: in the clear, or masked; of a pair that is a key and nothing else
        return base64.b64decode(found["Key"]).decode() if isinstance(found, dict) else found

    external = {"KeyID": auto.external_id, "MACKey": shown(auto.external_key)}
    return {
        "Email": auto.email,
        "RenewBefore": round(auto.renew_before * 1e9),
        "DirectoryURL": auto.directory,
        "Key": shown(auto.key),
        **({"ExternalAccount": external} if auto.external_id else {}),
    }


def tree(record: Record, pair: Callable[[Pair], object] = _stored) -> JSON:
    """Return a record as vulcand's own struct prints it, unknown fields after.

    Args:
        pair: how a key pair is shown.
    """
    ref = record.ref
    out: JSON
    match record:
        case Host():
            out = {
                "Name": ref.id,
                "Settings": {
                    "Default": record.default,
                    "KeyPair": None if record.pair is None else pair(record.pair),
                    "AutoCert": None if record.auto is None else _auto(record.auto, pair),
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
                    **({"ClientCert": pair(record.client)} if record.client else {}),
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

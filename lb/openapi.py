# SPDX-License-Identifier: Apache-2.0
"""The admin API's own description, OpenAPI 3.1: GET /v2/openapi.json. Pure."""

from __future__ import annotations

from typing import Any, Final

from fairlead import __version__
from lb.policy import BALANCES

JSON = dict[str, Any]
_TEXT: Final = {"type": "string"}
_FLAG: Final = {"type": "boolean"}
_WHOLE: Final = {"type": "integer"}


def _object(required: tuple[str, ...] = (), **properties: JSON) -> JSON:
    return {"type": "object", "properties": properties, "required": list(required)}


_SPAN: Final = {"type": "string", "description": "A Go duration: 1m30s; empty: the default."}
_NANOSECONDS: Final = {
    "type": ["integer", "string"],
    "description": "Nanoseconds, or a Go duration.",
}
_TEXTS: Final = {"type": ["array", "null"], "items": _TEXT}


def _maybe(**properties: JSON) -> JSON:
    """Return the schema of an object that may be null, none of whose properties is required."""
    return {"type": ["object", "null"], "properties": properties}


def _times(*names: str) -> JSON:
    return _maybe(**dict.fromkeys(names, _SPAN))


_KEY_PAIR: Final = _maybe(Key=_TEXT, Cert=_TEXT, KeyFingerprint=_TEXT, Fault=_TEXT)
_TLS: Final = _maybe(
    MinVersion=_TEXT,
    MaxVersion=_TEXT,
    CipherSuites=_TEXTS,
    PreferServerCipherSuites=_FLAG,
    InsecureSkipVerify=_FLAG,
    SessionTicketsDisabled=_FLAG,
    SessionCache=_maybe(Type=_TEXT, Settings=_maybe(Capacity=_WHOLE)),
)
_HOST: Final = _maybe(
    Default=_FLAG,
    KeyPair=_KEY_PAIR,
    OCSP=_maybe(Enabled=_FLAG, Period=_SPAN, Responders=_TEXTS, SkipSignatureCheck=_FLAG),
    AutoCert=_maybe(
        Email=_TEXT,
        DirectoryURL=_TEXT,
        RenewBefore=_NANOSECONDS,
        Key=_TEXT,
        ExternalAccount=_maybe(KeyID=_TEXT, MACKey=_TEXT),
    ),
)
_LISTENER: Final = _maybe(
    TLS=_TLS,
    ClientAuth=_maybe(CA=_TEXT, Required=_FLAG),
    TrustedProxies=_TEXTS,
    MaxConns=_WHOLE,
    Timeouts=_times("Read", "Write", "Idle"),
)
_BACKEND: Final = _maybe(
    Timeouts=_times("Read", "Dial", "TLSHandshake"),
    KeepAlive=_maybe(Period=_SPAN, MaxIdleConnsPerHost=_WHOLE),
    TLS=_TLS,
    ClientCert=_KEY_PAIR,
    Balance={"type": "string", "enum": [*BALANCES]},
    HashOn=_TEXT,
    Sticky=_maybe(Cookie=_TEXT, Path=_TEXT, MaxAge=_SPAN, Secure=_FLAG),
    HealthCheck=_maybe(
        Type=_TEXT, Path=_TEXT, Interval=_SPAN, Timeout=_SPAN, Rise=_WHOLE, Fall=_WHOLE, Status=_TEXT, Host=_TEXT, Port=_WHOLE
    ),
    OutlierDetection=_maybe(Consecutive=_WHOLE, Ejection=_SPAN, MaxEjected=_WHOLE),
    Retry=_maybe(Budget=_WHOLE, Minimum=_WHOLE),
    Rebalance=_FLAG,
    SlowStart=_SPAN,
    MaxConns=_WHOLE,
    HTTP2=_FLAG,
    SendProxy=_TEXT,
)  # fmt: skip
_FRONTEND: Final = _maybe(
    Limits=_maybe(MaxMemBodyBytes=_WHOLE, MaxBodyBytes=_WHOLE),
    FailoverPredicate=_TEXT,
    Hostname=_TEXT,
    TrustForwardHeader=_FLAG,
    PassHostHeader=_FLAG,
    Stream=_FLAG,
    StreamFlushIntervalNanoSecs=_WHOLE,
    Split={"type": ["array", "null"], "items": _maybe(BackendId=_TEXT, Weight=_WHOLE)},
    Headers=_maybe(Request=_maybe(), Response=_maybe()),
    Timeouts=_times("Read", "Write", "Request", "Idle"),
    Mirror=_maybe(BackendId=_TEXT, Percent=_WHOLE, MaxBodyBytes=_WHOLE),
    MaxResponseBodyBytes=_WHOLE,
)
_SCHEMAS: Final[JSON] = {
    "Error": _object(("message",), message=_TEXT),
    "Message": _object(("message",), message=_TEXT),
    "Host": _object(("Name",), Name=_TEXT, Settings=_HOST),
    "Listener": _object(
        ("Id", "Protocol", "Address"),
        Id=_TEXT,
        Protocol={"type": "string", "enum": ["http", "https"]},
        Address=_object(("Network", "Address"), Network={"type": "string", "enum": ["tcp", "unix"]}, Address=_TEXT),
        Scope=_TEXT,
        ProxyProtocol=_TEXT,
        Settings=_LISTENER,
    ),
    "Backend": _object(("Id", "Type"), Id=_TEXT, Type={"type": "string", "const": "http"}, Settings=_BACKEND),
    "Server": _object(
        ("Id", "URL"),
        Id=_TEXT,
        URL={"type": "string", "format": "uri"},
        Weight=_WHOLE,
        MaxConns=_WHOLE,
        Draining=_FLAG,
        Backup=_FLAG,
    ),
    "Frontend": _object(
        ("Id", "Type", "BackendId", "Route"),
        Id=_TEXT,
        Type={"type": "string", "const": "http"},
        BackendId=_TEXT,
        Route=_TEXT,
        Priority=_WHOLE,
        Middlewares=_TEXTS,
        Settings=_FRONTEND,
    ),
    "Middleware": _object(("Id", "Type"), Id=_TEXT, Type=_TEXT, Priority=_WHOLE, Middleware={"type": "object"}),
}  # fmt: skip


def _schema(name: str) -> JSON:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(schema: JSON, words: str = "Done.") -> JSON:
    return {"description": words, "content": {"application/json": {"schema": schema}}}


def _call(done: JSON, *faults: str, parameters: tuple[JSON, ...] = (), body: JSON | None = None, summary: str = "") -> JSON:  # fmt: skip
    words = {
        "400": "Bad input.",
        "401": "No token, or a wrong one.",
        "403": "Not for this caller.",
        "404": "No such object.",
        "409": "It is in use.",
        "413": "The body is too large.",
        "503": "etcd.",
    }
    call: JSON = {
        "summary": summary,
        "responses": {
            "200": _answer(done),
            **{f: _answer(_schema("Error"), words[f]) for f in (*faults, "401")},
        },
    }
    if parameters:
        call["parameters"] = list(parameters)
    if body is not None:
        call["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return call


def _path(name: str) -> JSON:
    schema = {"type": "string", "minLength": 1, "pattern": "^[A-Za-z0-9_.-]+$"}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query(name: str, schema: JSON) -> JSON:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _objects(
    paths: JSON, root: str, kind: str, parents: tuple[JSON, ...] = (), *, ttl: bool
) -> None:
    plural, one = f"{kind}s", _path("id")
    envelope: JSON = _object((kind,), **{kind: _schema(kind)})
    if ttl:
        envelope["properties"]["TTL"] = _TEXT
    shown = (_query("keys", _FLAG),) if kind == "Host" else ()
    more = ("403", "400") if kind == "Host" else ()
    missing = ("404",) if parents else ()
    listed = _object((plural,), **{plural: {"type": "array", "items": _schema(kind)}})
    paths[root] = {
        "get": _call(listed, *missing, *more, parameters=(*parents, *shown), summary=f"List {plural.lower()}."),
        "post": _call(_schema(kind), "400", "404", "413", "503", parameters=parents, body=envelope, summary=f"Write a {kind.lower()}."),
    }  # fmt: skip
    paths[f"{root}/{{id}}"] = {
        "get": _call(_schema(kind), "404", *more, parameters=(*parents, one, *shown), summary=f"Show a {kind.lower()}."),
        "delete": _call(_schema("Message"), "404", "409", "503", parameters=(*parents, one), summary=f"Delete a {kind.lower()}."),
    }  # fmt: skip


def description() -> JSON:
    """Return the description."""
    paths: JSON = {
        "/v2/status": {
            "get": _call(_object(("Status",), Status=_TEXT), summary="Whether it runs.")
        },
        "/v2/log/severity": {
            "get": _call(_object(("severity",), severity=_TEXT), summary="The log's severity."),
            "put": {
                **_call(_schema("Message"), "400", "413", summary="Set the log's severity."),
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/x-www-form-urlencoded": {
                            "schema": _object(("severity",), severity=_TEXT)
                        }
                    },
                },
            },
        },
        "/v2/openapi.json": {"get": _call({"type": "object"}, summary="This description.")},
    }
    for noun in ("frontends", "servers"):
        kind = noun.capitalize()
        paths[f"/v2/top/{noun}"] = {
            "get": _call(
                _object((kind,), **{kind: {"type": "array", "items": {"type": "object"}}}),
                "400",
                parameters=(_query("limit", _WHOLE), _query("backendId", _TEXT)),
                summary=f"The {noun} with the most errors and requests.",
            )
        }
    paths["/v2/route"] = {
        "get": _call(
            {"type": "object"},
            "400",
            parameters=(_query("method", _TEXT), {**_query("url", _TEXT), "required": True}),
            summary="Which frontend a request goes to, and why.",
        )
    }
    _objects(paths, "/v2/hosts", "Host", ttl=False)
    _objects(paths, "/v2/listeners", "Listener", ttl=False)
    _objects(paths, "/v2/backends", "Backend", ttl=False)
    _objects(paths, "/v2/frontends", "Frontend", ttl=True)
    _objects(paths, "/v2/backends/{parent}/servers", "Server", (_path("parent"),), ttl=True)
    _objects(
        paths, "/v2/frontends/{parent}/middlewares", "Middleware", (_path("parent"),), ttl=True
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "vulcand's admin API, as lb serves it", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }

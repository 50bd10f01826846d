# SPDX-License-Identifier: Apache-2.0
"""noun and verb → flags and call. `upsert` replaces the whole object, as the original's does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fairlead.duration import format_seconds
from fairlead.flags import Kind, Setting, Values
from lb.vctl import views
from lb.vctl.client import JSON, Client
from lb.vctl.command import (
    FORGIVE,
    SETTINGS,
    TLS,
    TTL,
    Command,
    Outcome,
    listed,
    said,
    settings,
    tell,
    tls,
    ttl,
)
from lb.vctl.host import HOST, SECRET
from lb.vctl.middlewares import MIDDLEWARES
from lb.vctl.service import DIFF, EXPORT, IMPORT, LOG, ROUTE, TOP, VALIDATE

_ID: Final = Setting("id", help="Id of the object.")
_BACKEND: Final = Setting("backend", help="Id of the backend.", aliases=("b",))


def _show(title: str, plural: str, flag: str = "id") -> Callable[[Client, Values], Outcome]:
    def run(client: Client, values: Values) -> Outcome:
        answer = client.call("GET", plural, values.text(flag))
        text = views.section(title if title == "Listeners" else title.removesuffix("s"), [answer])
        if title == "Backends":
            servers = client.call("GET", plural, values.text(flag), "servers").get("Servers")
            text += views.section("Servers", servers)
        if title == "Frontends":
            found = client.call("GET", plural, values.text(flag), "middlewares").get("Middlewares")
            text += views.section(
                "Middlewares", sorted(found or [], key=lambda m: m.get("Priority", 0))
            )
        return Outcome(answer, text=text)

    return run


def _status(client: Client, values: Values) -> Outcome:
    answer = client.call("GET", "status")
    return Outcome(answer, message=f"status: {answer.get('Status')}")


def _backend(client: Client, values: Values) -> JSON:
    known = {
        "Timeouts": {
            "Read": format_seconds(values.seconds("readTimeout")),
            "Dial": format_seconds(values.seconds("dialTimeout")),
            "TLSHandshake": format_seconds(values.seconds("handshakeTimeout")),
        },
        "KeepAlive": {
            "Period": format_seconds(values.seconds("keepAlivePeriod")),
            "MaxIdleConnsPerHost": values.number("maxIdleConns"),
        },
        "TLS": tls(values),
    }
    body = {"Id": values.text("id"), "Type": "http", "Settings": settings(values, known)}
    return client.call("POST", "backends", body={"Backend": body})


def _server(client: Client, values: Values) -> JSON:
    body: JSON = {"Id": values.text("id"), "URL": values.text("url")}
    for flag, name in (("weight", "Weight"), ("maxConns", "MaxConns")):
        if values.given(flag):
            body[name] = values.number(flag)
    for flag, name in (("draining", "Draining"), ("backup", "Backup")):
        if values.flag(flag):
            body[name] = True
    where = "backends", values.text("backend"), "servers"
    return client.call("POST", *where, body={"Server": body, "TTL": ttl(values)})


def _frontend(client: Client, values: Values) -> JSON:
    known = {
        "Limits": {
            "MaxMemBodyBytes": values.number("maxMemBodyKB") * 1024,
            "MaxBodyBytes": values.number("maxBodyKB") * 1024,
        },
        "FailoverPredicate": values.text("failoverPredicate"),
        "Hostname": values.text("forwardHost"),
        "TrustForwardHeader": values.flag("trustForwardHeader"),
        "PassHostHeader": values.flag("passHostHeader"),
        "Stream": values.flag("stream"),
        "StreamFlushIntervalNanoSecs": round(values.seconds("streamFlush") * 1e9),
    }
    body: JSON = {
        "Id": values.text("id"),
        "Type": "http",
        "BackendId": values.text("backend"),
        "Route": values.text("route"),
        "Settings": settings(values, known),
    }
    if values.given("priority"):
        body["Priority"] = values.number("priority")
    if values.given("share"):
        body["Middlewares"] = list(values.many("share"))
    return client.call("POST", "frontends", body={"Frontend": body, "TTL": ttl(values)})


def _listener(client: Client, values: Values) -> JSON:
    body: JSON = {
        "Id": values.text("id"),
        "Protocol": values.text("proto"),
        "Address": {"Network": values.text("net"), "Address": values.text("addr")},
        "Scope": values.text("scope"),
        "ProxyProtocol": values.text("proxy-header"),
    }
    known = {"TLS": tls(values)} if body["Protocol"] == "https" else {}
    if known or values.text("settings"):
        body["Settings"] = settings(values, known)
    return client.call("POST", "listeners", body={"Listener": body})


def _remove(plural: str) -> Callable[[Client, Values], JSON]:
    return lambda client, values: client.call("DELETE", plural, values.text("id"))


COMMANDS: Final[dict[str, dict[str, Command]]] = {
    "backend": {
        "ls": Command("List all backends.", listed("Backends", "backends")),
        "show": Command("Show a backend and its servers.", _show("Backends", "backends"), (_ID,)),
        "upsert": Command(
            "Write a backend.",
            tell(_backend, lambda values: f"Backend(id={values.text('id')}) upserted"),
            (
                _ID,
                Setting("readTimeout", Kind.DURATION, 0.0, "Longest wait for a response's first byte."),
                Setting("dialTimeout", Kind.DURATION, 0.0, "Longest time to connect."),
                Setting("handshakeTimeout", Kind.DURATION, 0.0, "Longest TLS handshake."),
                Setting("keepAlivePeriod", Kind.DURATION, 0.0, "Period of TCP keep-alive probes."),
                Setting("maxIdleConns", Kind.INT, 0, "Idle connections kept for each server."),
                SETTINGS,
                *TLS,
            ),
        ),
        "rm": Command("Remove a backend.", tell(_remove("backends"), said("backend deleted")), (_ID, FORGIVE)),
    },
    "server": {
        "ls": Command("List a backend's servers.", listed("Servers", "backends", "servers", of="backend"), (_BACKEND,)),
        "show": Command(
            "Show a server.",
            lambda client, values: _one_server(client, values),
            (_ID, _BACKEND),
        ),
        "upsert": Command(
            "Write a server.",
            tell(_server, said("server upserted")),
            (
                _ID,
                _BACKEND,
                Setting("url", help="URL of the server: http://host:port."),
                Setting("weight", Kind.INT, 1, "Its share of the requests."),
                Setting("maxConns", Kind.INT, 0, "Requests at once; 0: any number."),
                Setting("draining", Kind.BOOL, False, "Gets no new clients."),
                Setting("backup", Kind.BOOL, False, "Used when no other is left."),
                TTL,
            ),
        ),
        "rm": Command(
            "Remove a server.",
            tell(
                lambda c, v: c.call("DELETE", "backends", v.text("backend"), "servers", v.text("id")),
                lambda v: f"Server {v.text('id')} deleted",
            ),
            (_ID, _BACKEND, FORGIVE),
        ),
    },
    "frontend": {
        "ls": Command("List all frontends.", listed("Frontends", "frontends")),
        "show": Command("Show a frontend and its middlewares.", _show("Frontends", "frontends"), (_ID,)),
        "upsert": Command(
            "Write a frontend.",
            tell(_frontend, said("frontend upserted")),
            (
                _ID,
                Setting("route", help="Route expression, e.g. Host(`a.example.org`) && Path(`/x`)."),
                _BACKEND,
                TTL,
                Setting("maxMemBodyKB", Kind.INT, 0, "Body kept in memory for another try.", unit="KiB"),
                Setting("maxBodyKB", Kind.INT, 0, "Largest body.", unit="KiB"),
                Setting("failoverPredicate", help="When to try another server."),
                Setting("forwardHost", help="Value of X-Forwarded-Server."),
                Setting("trustForwardHeader", Kind.BOOL, False, "Keep the client's X-Forwarded-… fields."),
                Setting("passHostHeader", Kind.BOOL, False, "Pass on the client's Host."),
                Setting("stream", Kind.BOOL, False, "Relay as it comes; no other try."),
                Setting("streamFlush", Kind.DURATION, 0.0, "Longest wait before what came is passed on."),
                Setting("priority", Kind.INT, 0, "The highest of the routes that match wins."),
                Setting("share", Kind.REPEAT, help="A middleware of another frontend, FRONTEND/ID; may be repeated."),
                SETTINGS,
            ),
        ),
        "rm": Command("Remove a frontend.", tell(_remove("frontends"), said("frontend deleted")), (_ID, FORGIVE)),
    },
    "listener": {
        "ls": Command("List all listeners.", listed("Listeners", "listeners")),
        "show": Command("Show a listener.", _show("Listeners", "listeners"), (_ID,)),
        "upsert": Command(
            "Write a listener.",
            tell(_listener, said("listener upserted")),
            (
                _ID,
                Setting("proto", help="Protocol: http or https."),
                Setting("net", Kind.STR, "tcp", "Network: tcp or unix."),
                Setting("addr", help="Address: host:port, or a path."),
                Setting("scope", help="Route expression that requests must match too."),
                SETTINGS,
                Setting("proxy-header", Kind.STR, "none", "PROXY header that clients send: none, PROXY_V1, PROXY_V2, PROXY."),
                *TLS,
            ),
        ),
        "rm": Command("Remove a listener.", tell(_remove("listeners"), said("listener deleted")), (_ID, FORGIVE)),
    },
    "host": HOST,
    "secret": SECRET,
    "log": LOG,
    "top": TOP,
    **MIDDLEWARES,
    "status": {"": Command("Ask whether the load balancer serves.", _status)},
    "route": ROUTE,
    "export": EXPORT,
    "import": IMPORT,
    "diff": DIFF,
    "validate": VALIDATE,
}  # fmt: skip
"""What can be done; "" is the verb of a noun that has none."""


def _one_server(client: Client, values: Values) -> Outcome:
    answer = client.call("GET", "backends", values.text("backend"), "servers", values.text("id"))
    return Outcome(answer, text=views.section("Server", [answer]))

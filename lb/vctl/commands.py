# SPDX-License-Identifier: Apache-2.0
"""noun and verb → flags and call. `upsert` replaces the whole object, as the original's does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fairlead.duration import format_seconds
from fairlead.flags import Kind, Setting, Values
from lb.vctl import views
from lb.vctl.client import JSON, Client


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command leaves: a verdict, or tables (`text`); `raw` for --json."""

    raw: object
    message: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """One verb of a noun."""

    help: str
    run: Callable[[Client, Values], Outcome]
    flags: tuple[Setting, ...] = ()


_ID: Final = Setting("id", help="Id of the object.")
_BACKEND: Final = Setting("backend", help="Id of the backend.", aliases=("b",))
_TTL: Final = Setting("ttl", Kind.DURATION, 0.0, "Time to live; 0: for ever.")
_FORGIVE: Final = Setting("ignore-missing", Kind.BOOL, False, "Nothing to remove is no error.")


def _tell(
    call: Callable[[Client, Values], JSON], message: Callable[[Values], str]
) -> Callable[[Client, Values], Outcome]:
    def run(client: Client, values: Values) -> Outcome:
        answer = call(client, values)
        return Outcome(answer, message=message(values) or str(answer.get("message", "")))

    return run


def _ttl(values: Values) -> str:
    return format_seconds(values.seconds("ttl"))


def _list(title: str, *path: str, of: str = "") -> Callable[[Client, Values], Outcome]:
    def run(client: Client, values: Values) -> Outcome:
        where = (path[0], values.text(of), path[1]) if of else path
        answer = client.call("GET", *where)
        return Outcome(answer, text=views.section(title, answer.get(title)))

    return run


def _show(title: str, plural: str, flag: str = "id") -> Callable[[Client, Values], Outcome]:
    def run(client: Client, values: Values) -> Outcome:
        answer = client.call("GET", plural, values.text(flag))
        text = views.section(title, [answer])
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
    settings = {
        "Timeouts": {
            "Read": format_seconds(values.seconds("readTimeout")),
            "Dial": format_seconds(values.seconds("dialTimeout")),
            "TLSHandshake": format_seconds(values.seconds("handshakeTimeout")),
        },
        "KeepAlive": {
            "Period": format_seconds(values.seconds("keepAlivePeriod")),
            "MaxIdleConnsPerHost": values.number("maxIdleConns"),
        },
    }
    body = {"Id": values.text("id"), "Type": "http", "Settings": settings}
    return client.call("POST", "backends", body={"Backend": body})


def _server(client: Client, values: Values) -> JSON:
    body: JSON = {"Id": values.text("id"), "URL": values.text("url")}
    if values.given("weight"):
        body["Weight"] = values.number("weight")
    where = "backends", values.text("backend"), "servers"
    return client.call("POST", *where, body={"Server": body, "TTL": _ttl(values)})


def _frontend(client: Client, values: Values) -> JSON:
    settings = {
        "Limits": {
            "MaxMemBodyBytes": values.number("maxMemBodyKB") * 1024,
            "MaxBodyBytes": values.number("maxBodyKB") * 1024,
        },
        "FailoverPredicate": values.text("failoverPredicate"),
        "Hostname": values.text("forwardHost"),
        "TrustForwardHeader": values.flag("trustForwardHeader"),
        "PassHostHeader": values.flag("passHostHeader"),
        "Stream": values.flag("stream"),
    }
    body = {
        "Id": values.text("id"),
        "Type": "http",
        "BackendId": values.text("backend"),
        "Route": values.text("route"),
        "Settings": settings,
    }
    return client.call("POST", "frontends", body={"Frontend": body, "TTL": _ttl(values)})


def _listener(client: Client, values: Values) -> JSON:
    body = {
        "Id": values.text("id"),
        "Protocol": values.text("proto"),
        "Address": {"Network": values.text("net"), "Address": values.text("addr")},
        "Scope": values.text("scope"),
    }
    return client.call("POST", "listeners", body={"Listener": body})


def _remove(plural: str) -> Callable[[Client, Values], JSON]:
    return lambda client, values: client.call("DELETE", plural, values.text("id"))


def _name(noun: str, verb: str) -> Callable[[Values], str]:
    return lambda values: f"{noun} {verb}"


COMMANDS: Final[dict[str, dict[str, Command]]] = {
    "backend": {
        "ls": Command("List all backends.", _list("Backends", "backends")),
        "show": Command("Show a backend and its servers.", _show("Backends", "backends"), (_ID,)),
        "upsert": Command(
            "Write a backend.",
            _tell(_backend, _name("backend", "upserted")),
            (
                _ID,
                Setting("readTimeout", Kind.DURATION, 0.0, "Longest wait for a response's first byte."),
                Setting("dialTimeout", Kind.DURATION, 0.0, "Longest time to connect."),
                Setting("handshakeTimeout", Kind.DURATION, 0.0, "Longest TLS handshake."),
                Setting("keepAlivePeriod", Kind.DURATION, 0.0, "Period of TCP keep-alive probes."),
                Setting("maxIdleConns", Kind.INT, 0, "Idle connections kept for each server."),
            ),
        ),
        "rm": Command("Remove a backend.", _tell(_remove("backends"), _name("backend", "deleted")), (_ID, _FORGIVE)),
    },
    "server": {
        "ls": Command("List a backend's servers.", _list("Servers", "backends", "servers", of="backend"), (_BACKEND,)),
        "show": Command(
            "Show a server.",
            lambda client, values: _one_server(client, values),
            (_ID, _BACKEND),
        ),
        "upsert": Command(
            "Write a server.",
            _tell(_server, _name("server", "upserted")),
            (
                _ID,
                _BACKEND,
                Setting("url", help="URL of the server: http://host:port."),
                Setting("weight", Kind.INT, 1, "Its share of the requests."),
                _TTL,
            ),
        ),
        "rm": Command(
            "Remove a server.",
            _tell(
                lambda c, v: c.call("DELETE", "backends", v.text("backend"), "servers", v.text("id")),
                lambda v: f"Server {v.text('id')} deleted",
            ),
            (_ID, _BACKEND, _FORGIVE),
        ),
    },
    "frontend": {
        "ls": Command("List all frontends.", _list("Frontends", "frontends")),
        "show": Command("Show a frontend and its middlewares.", _show("Frontends", "frontends"), (_ID,)),
        "upsert": Command(
            "Write a frontend.",
            _tell(_frontend, _name("frontend", "upserted")),
            (
                _ID,
                Setting("route", help="Route expression, e.g. Host(`a.example.org`) && Path(`/x`)."),
                _BACKEND,
                _TTL,
                Setting("maxMemBodyKB", Kind.INT, 0, "Body kept in memory for another try.", unit="KiB"),
                Setting("maxBodyKB", Kind.INT, 0, "Largest body.", unit="KiB"),
                Setting("failoverPredicate", help="When to try another server."),
                Setting("forwardHost", help="Value of X-Forwarded-Server."),
                Setting("trustForwardHeader", Kind.BOOL, False, "Keep the client's X-Forwarded-… fields."),
                Setting("passHostHeader", Kind.BOOL, False, "Pass on the client's Host."),
                Setting("stream", Kind.BOOL, False, "Relay as it comes; no other try."),
            ),
        ),
        "rm": Command("Remove a frontend.", _tell(_remove("frontends"), _name("frontend", "deleted")), (_ID, _FORGIVE)),
    },
    "listener": {
        "ls": Command("List all listeners.", _list("Listeners", "listeners")),
        "show": Command("Show a listener.", _show("Listeners", "listeners"), (_ID,)),
        "upsert": Command(
            "Write a listener.",
            _tell(_listener, _name("listener", "upserted")),
            (
                _ID,
                Setting("proto", help="Protocol: http."),
                Setting("net", Kind.STR, "tcp", "Network: tcp or unix."),
                Setting("addr", help="Address: host:port, or a path."),
                Setting("scope", help="Route expression that requests must match too."),
            ),
        ),
        "rm": Command("Remove a listener.", _tell(_remove("listeners"), _name("listener", "deleted")), (_ID, _FORGIVE)),
    },
    "status": {"": Command("Ask whether the load balancer serves.", _status)},
}  # fmt: skip
"""What can be done; "" is the verb of a noun that has none."""

NOT_BUILT: Final = (
    "host",
    "log",
    "secret",
    "top",
    "ratelimit",
    "connlimit",
    "rewrite",
    "cbreaker",
    "trace",
)
"""Nouns of the original that are refused by name."""


def _one_server(client: Client, values: Values) -> Outcome:
    answer = client.call("GET", "backends", values.text("backend"), "servers", values.text("id"))
    return Outcome(answer, text=views.section("Servers", [answer]))

# SPDX-License-Identifier: Apache-2.0
"""vctl ratelimit, connlimit, …: `upsert` and `rm` for every type of middleware, plug-ins too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fairlead.flags import Kind, Setting, Values
from lb.middleware import types
from lb.vctl.client import JSON, Client
from lb.vctl.command import FORGIVE, TTL, Command, said, tell, ttl

_FRONTEND: Final = Setting("frontend", help="Id of the frontend.", aliases=("f",))
_ID: Final = Setting("id", help="Id of the middleware.")
_PRIORITY: Final = Setting("priority", Kind.INT, 1, "The smaller, the earlier.")


def _upsert(name: str, found: types.Type) -> Callable[[Client, Values], JSON]:
    def call(client: Client, values: Values) -> JSON:
        body = {
            "Id": values.text("id"),
            "Priority": values.number("priority"),
            "Type": name,
            "Middleware": found.body(values),
        }
        where = "frontends", values.text("frontend"), "middlewares"
        return client.call("POST", *where, body={"Middleware": body, "TTL": ttl(values)})

    return call


def _rm(client: Client, values: Values) -> JSON:
    where = "frontends", values.text("frontend"), "middlewares", values.text("id")
    return client.call("DELETE", *where)


def _commands(name: str, found: types.Type) -> dict[str, Command]:
    flags = (*found.flags, _FRONTEND, TTL, _PRIORITY, _ID)
    return {
        "upsert": Command(f"Write a middleware {name}.", tell(_upsert(name, found), said(f"{name} upserted")), flags),
        "rm": Command(f"Remove a middleware {name}.", tell(_rm, said(f"{name} deleted")), (_ID, _FRONTEND, FORGIVE)),
    }  # fmt: skip


MIDDLEWARES: Final = {
    name: _commands(name, found) for name in types.names() if (found := types.find(name))
}

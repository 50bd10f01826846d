# SPDX-License-Identifier: Apache-2.0
"""The admin API's socket: TLS, who may ask, vulcand's error object for every failure."""

from __future__ import annotations

import hmac
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from posixpath import normpath
from typing import Any, Final

import msgspec
from aiohttp import web

from fairlead import tls
from fairlead.errors import ConfigError, ConfigErrors, StoreError
from fairlead.runtime import Runtime
from lb import server
from lb.config import Access
from lb.fields import Invalid
from lb.state import Listener

BODY_LIMIT: Final = 4 << 20
_OPEN: Final = frozenset(("/v1/status", "/v2/status"))
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def json(value: object, status: int = 200) -> web.Response:
    """Answer as Go's encoder prints it: compact, HTML-escaped."""
    body = msgspec.json.encode(value)
    for plain, escaped in ((b"&", rb"\u0026"), (b"<", rb"\u003c"), (b">", rb"\u003e")):
        body = body.replace(plain, escaped)  # none of them occurs outside a JSON string
    return web.Response(body=body, status=status, content_type="application/json", charset="utf-8")


def middlewares(access: Access) -> tuple[Any, ...]:
    """Return what stands around every call."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turn every failure into vulcand's error object."""
        try:
            if access.token and request.path not in _OPEN:
                _check(request, access.token)
            return await handler(request)
        except Refused as error:
            refused = json({"message": str(error)}, error.status)
            if error.status == 401:
                refused.headers["WWW-Authenticate"] = "Bearer"
            return refused
        except Invalid as error:
            return json({"message": str(error)}, 400)
        except StoreError as error:
            return json({"message": f"etcd: {error}"}, 503)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
            return json({"message": "Object not found"}, 404)
        except web.HTTPRequestEntityTooLarge:
            return json({"message": f"the body is larger than {BODY_LIMIT} bytes"}, 413)

    @web.middleware
    async def clean(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Send who asks for `//`, `.` or `..` to the clean path, as Go's mux does."""
        path = request.raw_path.partition("?")[0]
        cleaned = normpath("/" + path.lstrip("/")) + "/" * (path.endswith("/") and path != "/")
        if cleaned != path:
            query = f"?{request.query_string}" if request.query_string else ""
            status = 301 if request.method == "GET" else 308
            return web.Response(status=status, headers={"Location": cleaned + query})
        return await handler(request)

    return (answer, clean)


def _check(request: web.Request, token: str) -> None:
    scheme, _, told = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(
        told.strip().encode("utf-8", "replace"), token.encode()
    ):
        raise Refused(401, "a token is wanted: Authorization: Bearer …")


async def listen(
    runtime: Runtime,
    address: str,
    access: Access,
    app: web.Application,
    inherited: MutableMapping[tuple[str, str], list[socket.socket]],
) -> socket.socket:
    """Serve the API until the daemon ends; return its socket, which may be handed over.

    Args:
        inherited: sockets of a predecessor, by network and address; ours is taken out.

    Raises:
        ConfigErrors: the address cannot be opened, or the certificate not be used.
    """
    try:
        context = (
            tls.server_context(access.cert, access.key, access.client_ca) if access.cert else None
        )
    except ConfigError as error:
        raise ConfigErrors((error,)) from error
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        handed = inherited.pop(("tcp", address), [])
        sock = handed[0] if handed else server.open_socket(Listener("api", "tcp", address))
        # the site owns a duplicate: ours outlives it, for a successor
        await web.SockSite(runner, sock.dup(), shutdown_timeout=1.0, ssl_context=context).start()
    except OSError as error:
        await runner.cleanup()
        reason = f"cannot listen: {error.strerror or error}"
        raise ConfigErrors((ConfigError("-apiPort", address, "start", reason),)) from error
    runtime.on_drain(runner.cleanup)
    return sock

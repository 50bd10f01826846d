# SPDX-License-Identifier: Apache-2.0
"""etcd's JSON gateway, for shell scripts: `POST /v3/kv/range` and its kin (specs/etcd.md §10).

Bytes are base64, 64-bit numbers are strings, zero and empty fields are absent, as the gateway of
etcd writes them. Streams answer in lines of `{"result": …}`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

from aiohttp import web
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message

from fairlead.embedded.refusals import Refusal, code
from fairlead.embedded.services import MAX_MESSAGE, Services
from fairlead.errors import StoreError
from fairlead.etcd import rpc
from fairlead.etcd import rpc_pb2 as pb

_UNARY: Final[Mapping[str, rpc.Method[Any, Any]]] = {
    "kv/range": rpc.RANGE,
    "kv/put": rpc.PUT,
    "kv/deleterange": rpc.DELETE_RANGE,
    "kv/txn": rpc.TXN,
    "kv/compaction": rpc.COMPACT,
    "lease/grant": rpc.LEASE_GRANT,
    "lease/revoke": rpc.LEASE_REVOKE,
    "kv/lease/revoke": rpc.LEASE_REVOKE,
    "lease/timetolive": rpc.LEASE_TIME_TO_LIVE,
    "kv/lease/timetolive": rpc.LEASE_TIME_TO_LIVE,
    "lease/leases": rpc.LEASE_LEASES,
    "kv/lease/leases": rpc.LEASE_LEASES,
    "auth/authenticate": rpc.AUTHENTICATE,
    "maintenance/status": rpc.STATUS,
    "maintenance/alarm": rpc.ALARM,
    "maintenance/hash": rpc.HASH_KV,
    "maintenance/defragment": rpc.DEFRAGMENT,
    "cluster/member/list": rpc.MEMBER_LIST,
}
_VERSIONS: Final = ("/v3/", "/v3beta/")

# enumerations stand as numbers in our messages; JSON clients may write etcd's words for them
_WORDS: Final[Mapping[str, Mapping[str, int]]] = {
    "sort_order": {"NONE": 0, "ASCEND": 1, "DESCEND": 2},
    "sort_target": {"KEY": 0, "VERSION": 1, "CREATE": 2, "MOD": 3, "VALUE": 4},
    "result": {"EQUAL": 0, "GREATER": 1, "LESS": 2, "NOT_EQUAL": 3},
    "target": {"VERSION": 0, "CREATE": 1, "MOD": 2, "VALUE": 3, "LEASE": 4},
    "filters": {"NOPUT": 0, "NODELETE": 1},
    "action": {"GET": 0, "ACTIVATE": 1, "DEACTIVATE": 2},
    "alarm": {"NONE": 0, "NOSPACE": 1, "CORRUPT": 2},
}
_STATUS: Final[Mapping[int, int]] = {3: 400, 11: 400, 5: 404, 9: 412, 8: 429, 16: 401, 7: 403}
_JSON: Final = "application/json"


class Gateway:
    """HTTP/1.1 beside gRPC; `protocol` makes one for each connection."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self._streams: Mapping[str, tuple[rpc.Method[Any, Any], Callable[[Any], Any]]] = {
            "watch": (rpc.WATCH, services.watch),
            "lease/keepalive": (rpc.LEASE_KEEP_ALIVE, services.keep_alive),
            "kv/lease/keepalive": (rpc.LEASE_KEEP_ALIVE, services.keep_alive),
        }

    def protocol(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return self._server()

    async def __aenter__(self) -> Gateway:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.shutdown(1.0)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._route(request)
        except StoreError as error:
            return _refusal(code(error), str(error))
        except (ParseError, ValueError) as error:
            return _refusal(3, " ".join(str(error).split()))

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        match request.path:
            case "/health":
                await self._services.store.status()
                return web.json_response({"health": "true"})
            case "/version":
                version = (await self._services.store.status()).version
                return web.json_response({"etcdserver": version, "etcdcluster": version})
        prefix = next((head for head in _VERSIONS if request.path.startswith(head)), None)
        name = request.path[len(prefix or "") :]
        if prefix is None or not (name in _UNARY or name in self._streams):
            return web.Response(status=404, text="404 page not found\n")
        if request.method != "POST":
            return _refusal(12, "Method Not Allowed", status=405)
        if name != "auth/authenticate":
            token = request.headers.get("Authorization", "").removeprefix("Bearer ")
            self._services.logins.check(token)
        if name in self._streams:
            return await self._stream(request, *self._streams[name])
        method = _UNARY[name]
        message = ParseDict(_numbers(_load(await _body(request))), method.request())
        return web.json_response(_plain(await self._services.unary[method.path](message)))

    async def _stream(
        self,
        request: web.BaseRequest,
        method: rpc.Method[Any, Any],
        call: Callable[[AsyncIterator[Any]], Any],
    ) -> web.StreamResponse:
        """Answer in lines; the requests stand one after the other in the body."""
        body = await _body(request)
        messages = [ParseDict(_numbers(one), method.request()) for one in _load_all(body)]
        response = web.StreamResponse(headers={"Content-Type": _JSON})
        await response.prepare(request)

        async def requests() -> AsyncIterator[Message]:
            for message in messages:
                yield message

        try:
            async with aclosing(call(requests())) as answers:
                async for answer in answers:
                    await _line(response, {"result": _plain(answer)})
        except StoreError as error:
            await _line(response, {"error": _error(code(error), str(error))})
        except ConnectionResetError:  # the client has gone; there is nobody to tell
            return response
        await response.write_eof()
        return response


async def _body(request: web.BaseRequest) -> str:
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > 2 * MAX_MESSAGE:  # base64 adds a third, escapes more
            raise Refusal.REQUEST_TOO_LARGE.error()
    return body.decode()


def _load(text: str) -> Any:
    return json.loads(text or "{}")


def _load_all(text: str) -> list[Any]:
    """Return the JSON values that stand one after the other in `text`."""
    decoder, found, text = json.JSONDecoder(), [], text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:].lstrip()
    return found


def _numbers(value: Any, field: str = "") -> Any:
    """Return a request with etcd's words for enumerations made numbers."""
    if isinstance(value, dict):
        return {name: _numbers(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_numbers(inner, field) for inner in value]
    if isinstance(value, str) and field in _WORDS and value in _WORDS[field]:
        return _WORDS[field][value]
    return value


def _plain(message: Message) -> dict[str, Any]:
    """Return an answer as etcd's gateway writes it."""
    plain: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    if isinstance(message, pb.WatchResponse):
        for event in plain.get("events", ()):
            if event.pop("type", 0):
                event["type"] = "DELETE"
    return plain


def _error(number: int, text: str) -> dict[str, Any]:
    return {
        "grpc_code": number,
        "http_code": _STATUS.get(number, 503 if number == 14 else 500),
        "message": text,
    }


def _refusal(number: int, text: str, status: int | None = None) -> web.Response:
    return web.json_response(
        {"error": text, "message": text, "code": number},
        status=status or _STATUS.get(number, 503 if number == 14 else 500),
    )


async def _line(response: web.StreamResponse, value: dict[str, Any]) -> None:
    await response.write(json.dumps(value).encode() + b"\n")

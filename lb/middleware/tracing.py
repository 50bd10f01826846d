# SPDX-License-Identifier: Apache-2.0
"""A span for each try of each request, to a collector by OTLP/HTTP; put before every chain by `-enableJaegerTracing`.

::

    request ─ traceparent ─► Tracing ─ our span's traceparent ─► server
                                └─► Exporter ─ once a second, at most MOST spans ─► POST <endpoint>/v1/traces

A trace that somebody records upstream is recorded; of those that begin here, a share is. A
collector that does not answer costs spans, not requests.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from functools import cache
from typing import Final

import msgspec

from lb import spans
from lb.fields import Fields
from lb.middleware import Answer, Exchange, Link, Reply
from lb.middleware.types import Type
from lb.spans import Context, Span

NAME: Final = "/tracing"  # no id of a user's holds a `/`
MOST: Final = 2048
"""Spans that wait; those beyond are dropped."""
_DELAY: Final = 1.0  # seconds that spans wait for others
_PATIENCE: Final = 5.0


class Exporter:
    """Sends spans to one collector."""

    def __init__(self, endpoint: str) -> None:
        self._url = endpoint.rstrip("/") + "/v1/traces"
        self._waiting: list[Span] = []
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    def put(self, span: Span) -> None:
        """Send soon."""
        if len(self._waiting) >= MOST:
            self.dropped += 1
            return
        self._waiting.append(span)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._send(), name="spans")

    async def _send(self) -> None:
        import aiohttp  # only who traces pays for it

        timeout = aiohttp.ClientTimeout(total=_PATIENCE)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                await asyncio.sleep(_DELAY)
                batch, self._waiting = self._waiting, []
                if not batch:
                    return
                body = msgspec.json.encode(spans.export(batch, "vulcand"))
                headers = {"Content-Type": "application/json"}
                try:
                    async with session.post(self._url, data=body, headers=headers) as answer:
                        await answer.read()
                        if answer.status >= 400:
                            self.dropped += len(batch)
                except (aiohttp.ClientError, TimeoutError, OSError):
                    self.dropped += len(batch)


@cache
def exporter(endpoint: str) -> Exporter:
    """Return the one exporter of a collector."""
    return Exporter(endpoint)


class Tracing(Link):
    """See the module's words."""

    __slots__ = ("_sample", "_to")

    def __init__(self, to: Exporter, sample: float) -> None:
        self._to = to
        self._sample = sample

    def on_request(self, exchange: Exchange) -> Reply | None:
        """Hang a span where the request came from, and tell the server."""
        came = exchange.header("uber-trace-id")
        parent = spans.parse(exchange.header("traceparent"), came)
        if parent is None:
            sampled = random.random() < self._sample  # noqa: S311  (no secret)
            context = Context(secrets.token_hex(16), secrets.token_hex(8), sampled)
        else:
            context = Context(parent.trace, secrets.token_hex(8), parent.sampled)
        above = parent.span if parent is not None else ""
        exchange.put("traceparent", spans.traceparent(context))
        if came:
            exchange.put("uber-trace-id", spans.jaeger(context, above))
        exchange.notes[self] = [context, above, time.time_ns(), 499]
        return None

    def on_response(self, exchange: Exchange, answer: Answer) -> None:
        """Note the status."""
        exchange.notes[self][3] = answer.status

    def released(self, exchange: Exchange) -> None:
        """Send the span of a try that is over."""
        context, above, begun, status = exchange.notes.pop(self)
        if not context.sampled:
            return
        facts: dict[str, str | int] = {
            "http.request.method": exchange.method.decode("latin-1"),
            "url.path": exchange.target.partition(b"?")[0].decode("utf-8", "replace"),
            "server.address": exchange.host.decode("utf-8", "replace"),
            "client.address": exchange.client.decode("latin-1"),
            "lb.frontend": exchange.frontend,
            "lb.server": exchange.server,
            "lb.attempt": exchange.attempt,
        }
        took = round((exchange.now - exchange.begun) * 1e9)
        name = f"{facts['http.request.method']} {exchange.frontend}"
        self._to.put(Span(context, above, name, begun, begun + took, status, facts))


def body(endpoint: str, sample: float) -> dict[str, str]:
    """Return the settings of a frontend's tracing link."""
    return {"Endpoint": endpoint, "Sample": str(sample)}


def _make(fields: Fields) -> Link:
    return Tracing(exporter(fields.text("Endpoint")), float(fields.text("Sample")))


TYPE: Final = Type(_make)

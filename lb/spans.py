# SPDX-License-Identifier: Apache-2.0
"""Traces across programs: W3C's traceparent, Jaeger's uber-trace-id, OTLP's JSON. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

_W3C: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_JAEGER: Final = re.compile(rb"([0-9a-f]{1,32}):([0-9a-f]{1,16}):[0-9a-f]{1,16}:([0-9a-f]{1,2})")
_SERVER: Final = 2  # SpanKind of OTLP
_ERROR: Final = 2  # StatusCode


@dataclass(frozen=True, slots=True)
class Context:
    """Where a span hangs: hexadecimal ids, and whether anybody records it."""

    trace: str
    span: str
    sampled: bool


def parse(traceparent: bytes, jaeger: bytes) -> Context | None:
    """Return the context that a request came with; None for none, or one that breaks the rules.

    Source: W3C Trace Context §3.2; Jaeger's client libraries, "Propagation Format".
    """
    found = _W3C.fullmatch(traceparent)
    if found and found[1] != b"ff" and (found[1] != b"00" or len(traceparent) == 55):
        context = Context(found[2].decode(), found[3].decode(), bool(int(found[4], 16) & 1))
    else:
        found = _JAEGER.fullmatch(jaeger)
        if not found:
            return None
        trace, span = found[1].decode().zfill(32), found[2].decode().zfill(16)
        context = Context(trace, span, bool(int(found[3], 16) & 1))
    return context if int(context.trace, 16) and int(context.span, 16) else None


def traceparent(context: Context) -> str:
    """Return the field that goes on."""
    return f"00-{context.trace}-{context.span}-{'01' if context.sampled else '00'}"


def jaeger(context: Context, parent: str) -> str:
    """Return Jaeger's field that goes on, for servers that know no other."""
    return f"{context.trace}:{context.span}:{parent or '0'}:{int(context.sampled)}"


@dataclass(frozen=True, slots=True)
class Span:
    """One try of a request; times in Unix nanoseconds."""

    context: Context
    parent: str
    name: str
    begun: int
    ended: int
    status: int
    facts: dict[str, str | int]


def export(spans: Iterable[Span], service: str) -> dict[str, Any]:
    """Return the body of POST /v1/traces (OTLP/HTTP, JSON)."""
    resource = {"attributes": [_fact("service.name", service)]}
    scope = {"scope": {"name": "lb"}, "spans": [_span(span) for span in spans]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}


def _span(span: Span) -> dict[str, Any]:
    facts = [_fact(name, value) for name, value in span.facts.items()]
    told = {
        "traceId": span.context.trace,
        "spanId": span.context.span,
        "name": span.name,
        "kind": _SERVER,
        "startTimeUnixNano": str(span.begun),
        "endTimeUnixNano": str(span.ended),
        "attributes": [*facts, _fact("http.response.status_code", span.status)],
    }
    if span.parent:
        told["parentSpanId"] = span.parent
    if span.status >= 500:
        told["status"] = {"code": _ERROR}
    return told


def _fact(name: str, value: str | int) -> dict[str, Any]:
    kind = {"stringValue": value} if isinstance(value, str) else {"intValue": str(value)}
    return {"key": name, "value": kind}

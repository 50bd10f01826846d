# SPDX-License-Identifier: Apache-2.0
"""lb/spans.py and the link that makes them."""

from __future__ import annotations

from typing import Any

import pytest

from lb import spans
from lb.middleware import Answer, Exchange
from lb.middleware.tracing import MOST, Exporter, Tracing
from lb.spans import Context, Span

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("w3c", "jaeger", "context"),
    [
        (f"00-{TRACE}-{SPAN}-01", "", Context(TRACE, SPAN, True)),
        (f"00-{TRACE}-{SPAN}-00", "", Context(TRACE, SPAN, False)),
        (f"01-{TRACE}-{SPAN}-03-more", "", Context(TRACE, SPAN, True)),  # a version to come
        (f"00-{TRACE}-{SPAN}-01-more", "", None),
        (f"ff-{TRACE}-{SPAN}-01", "", None),
        (f"00-{'0' * 32}-{SPAN}-01", "", None),
        (f"00-{TRACE}-{'0' * 16}-01", "", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", "", None),
        ("", f"{TRACE}:{SPAN}:0:1", Context(TRACE, SPAN, True)),
        ("", "abc:1:0:0", Context("abc".zfill(32), "1".zfill(16), False)),
        ("nonsense", f"{TRACE}:{SPAN}:0:3", Context(TRACE, SPAN, True)),
        ("", "", None),
    ],
)
def test_contexts(w3c: str, jaeger: str, context: Context | None) -> None:
    assert spans.parse(w3c.encode(), jaeger.encode()) == context


def test_what_goes_on() -> None:
    context = Context(TRACE, SPAN, True)
    assert spans.parse(spans.traceparent(context).encode(), b"") == context
    assert spans.jaeger(context, "1234") == f"{TRACE}:{SPAN}:1234:1"


class Kept(Exporter):
    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1")
        self.spans: list[Span] = []

    def put(self, span: Span) -> None:
        self.spans.append(span)


def passed(link: Tracing, *fields: str) -> Exchange:
    block = "".join(f"\r\n{field}" for field in fields).encode()
    exchange = Exchange("f", b"GET", b"/x?y", 1, b"h", block, block, b"192.0.2.1", None, 0, 5.0, 5.0, 1)  # fmt: skip
    assert link.on_request(exchange) is None
    link.on_response(exchange, Answer(502, b""))
    exchange.now = 5.25
    link.released(exchange)
    return exchange


def test_a_span_of_a_recorded_trace() -> None:
    kept = Kept()
    exchange = passed(Tracing(kept, 0.0), f"traceparent: 00-{TRACE}-{SPAN}-01")
    (span,) = kept.spans
    assert (span.context.trace, span.parent, span.status) == (TRACE, SPAN, 502)
    assert span.ended - span.begun == 250_000_000
    line = f"traceparent: 00-{TRACE}-{span.context.span}-01".encode()
    assert exchange.fields == b"\r\n" + line  # in place of what came
    told: Any = spans.export([span], "vulcand")
    sent = told["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert (sent["traceId"], sent["parentSpanId"], sent["name"]) == (TRACE, SPAN, "GET f")
    assert sent["status"] == {"code": 2}
    assert {"key": "url.path", "value": {"stringValue": "/x"}} in sent["attributes"]
    assert {"key": "http.response.status_code", "value": {"intValue": "502"}} in sent["attributes"]


def test_a_share_of_the_traces_that_begin_here() -> None:
    kept = Kept()
    passed(Tracing(kept, 0.0))
    assert not kept.spans
    passed(Tracing(kept, 1.0))
    assert len(kept.spans) == 1
    passed(Tracing(kept, 1.0), f"traceparent: 00-{TRACE}-{SPAN}-00")  # somebody decided: not this
    assert len(kept.spans) == 1
    exchange = passed(Tracing(kept, 0.0), f"uber-trace-id: {TRACE}:{SPAN}:0:1")
    assert b"\r\nuber-trace-id: " + TRACE.encode() in exchange.fields
    assert MOST > 0

# SPDX-License-Identifier: Apache-2.0
"""ratelimit: token buckets by the value of a variable (specs/vulcand.md §4.1).

A bucket holds `Burst` tokens, starts full, and gets one each PeriodSeconds / Requests; a request
takes one. Time is exact: what a token still lacked is not lost at a refill, as it was in the
original.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fairlead.duration import format_seconds
from fairlead.flags import Kind, Setting, Values
from lb.fields import Fields, Invalid
from lb.middleware import Exchange, Link, Reply, line
from lb.middleware.types import Type
from lb.middleware.variable import Variable, header, variable

if TYPE_CHECKING:
    from lb.ledger import Ledger, Tokens

MOST_SOURCES: Final = 65536


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests a period, and so many at once."""

    period: int
    requests: int
    burst: int


class _Buckets:
    """The buckets of one source, one for each period."""

    __slots__ = ("last", "left", "rates")

    def __init__(self, rates: Sequence[Rate], now: float) -> None:
        self.rates = tuple(rates)
        self.left = [float(rate.burst) for rate in rates]
        self.last = now

    def change(self, rates: Sequence[Rate]) -> None:
        """Take over other rates; a period that stays keeps what is left of it."""
        old = {rate.period: left for rate, left in zip(self.rates, self.left, strict=True)}
        self.left = [min(float(rate.burst), old.get(rate.period, rate.burst)) for rate in rates]
        self.rates = tuple(rates)

    def take(self, now: float) -> float:
        """Take a token of every bucket and return 0; or none, and return the seconds to wait."""
        since, self.last = max(0.0, now - self.last), now
        waits = 0.0
        for i, rate in enumerate(self.rates):
            per_second = rate.requests / rate.period
            self.left[i] = min(float(rate.burst), self.left[i] + since * per_second)
            if self.left[i] < 1.0 - 1e-9:
                waits = max(waits, (1.0 - self.left[i]) / per_second)
        if not waits:
            self.left = [left - 1.0 for left in self.left]
        return waits


class RateLimit(Link):
    """See the module's words."""

    __slots__ = ("_header", "_name", "_rate", "_shared", "_sources", "_variable")

    def __init__(self, rate: Rate, of: Variable, rates_from: str = "") -> None:
        self._rate = rate
        self._variable = of
        self._header = rates_from
        self._sources: OrderedDict[bytes, _Buckets] = OrderedDict()
        self._shared: Tokens | None = None
        self._name = b""

    def share(self, ledger: Ledger, name: bytes) -> None:
        """Take the tokens that all processes take."""
        self._shared, self._name = ledger.tokens, name + b" "

    def on_request(self, exchange: Exchange) -> Reply | None:
        """Take a token, or answer 429."""
        value = self._variable(exchange)
        if value is None:
            return Reply(500, b"Internal Server Error")
        rates: Sequence[Rate] = (self._rate,)
        if self._header:
            rates = dynamic(exchange.header(self._header)) or rates
        if self._shared is not None:
            waits = self._shared.take(self._name + value, rates, exchange.now)
        else:
            waits = self._take(value, rates, exchange.now)
        if not waits:
            return None
        # the whole time of a token, as the original says: whoever waits it gets one
        slowest = max(rate.period / rate.requests for rate in rates)
        told = format_seconds(round(max(waits, slowest), 9))
        return Reply(
            429,
            b"max rate reached: retry-in " + told.encode(),
            fields=line("X-Retry-In", told) + line("Retry-After", str(math.ceil(waits))),
        )

    def _take(self, value: bytes, rates: Sequence[Rate], now: float) -> float:
        """Take a token of a source and return 0; or none, and return the seconds to wait."""
        sources = self._sources
        buckets = sources.get(value)
        if buckets is None:
            self._forget(now)
            buckets = sources[value] = _Buckets(rates, now)
        else:
            sources.move_to_end(value)
            if buckets.rates != rates:
                buckets.change(rates)
        return buckets.take(now)

    def _forget(self, now: float) -> None:
        """Drop sources that have been idle for ten periods, and the oldest when there are too many."""
        sources = self._sources
        while sources:
            oldest = next(iter(sources.values()))
            idle = 10 * max(rate.period for rate in oldest.rates) + 1
            if len(sources) < MOST_SOURCES and now - oldest.last <= idle:
                return
            sources.popitem(last=False)


@lru_cache(maxsize=1024)
def dynamic(text: bytes) -> tuple[Rate, ...]:
    """Return the rates that a header spells; none when it is not to be used."""
    try:
        listed = msgspec.json.decode(text)
        rates = [_rate(Fields(item)) for item in listed] if isinstance(listed, list) else []
    except (msgspec.DecodeError, UnicodeDecodeError, Invalid):
        return ()
    by_period = {rate.period: rate for rate in rates}  # of two with one period the last wins
    return tuple(by_period[period] for period in sorted(by_period))


def _rate(fields: Fields) -> Rate:
    period, requests = fields.number("PeriodSeconds"), fields.number("Requests")
    burst = fields.number("Burst")
    if period <= 0:
        raise Invalid(f"period seconds should be > 0, got {period}")
    if requests <= 0:
        raise Invalid(f"requests should be > 0, got {requests}")
    if burst < 0:
        raise Invalid(f"burst should be >= 0, got {burst}")
    return Rate(period, requests, burst or requests)


def _make(fields: Fields) -> Link:
    rates_from = fields.text("RateVar")
    if rates_from and not rates_from.startswith("request.header."):
        raise Invalid(f"unsupported variable format: {rates_from}")
    name = header(rates_from) if rates_from else ""
    return RateLimit(_rate(fields), variable(fields.text("Variable")), name)


def _body(values: Values) -> dict[str, Any]:
    return {
        "PeriodSeconds": values.number("period"),
        "Burst": values.number("burst"),
        "Variable": values.text("variable"),
        "Requests": values.number("requests"),
        "RateVar": values.text("rateVar"),
    }


TYPE: Final = Type(
    _make,
    (
        Setting("variable", Kind.STR, "client.ip", "What is counted by: client.ip, request.host or request.header.NAME.", aliases=("var",)),
        Setting("rateVar", help="Header with rates of its own: request.header.NAME."),
        Setting("period", Kind.INT, 1, "Seconds."),
        Setting("requests", Kind.INT, 1, "Requests in that time."),
        Setting("burst", Kind.INT, 1, "Requests at once; 0: as many as in a period."),
    ),
    _body,
    guards=True,
    zeros={"PeriodSeconds": 0, "Requests": 0, "Burst": 0, "Variable": "", "RateVar": ""},
)  # fmt: skip

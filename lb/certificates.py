# SPDX-License-Identifier: Apache-2.0
"""Which certificate a client gets: hosts' key pairs by SNI, stapled where OCSP is on.

::

    hosts ─ put, drop ─► Certificates ─► by name: the host whose certificate names it, wildcards too;
                            │               else the `Default` host; else the first (specs/vulcand.md §13)
                            └─ run: OCSP answers fetched, kept fresh

A listener's context never changes; at each handshake the callback puts the host's in its place,
so a new certificate serves the next client and no socket is touched.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, Never

import aiohttp

from fairlead.clock import SYSTEM, Clock
from fairlead.errors import ActionError
from lb import ocsp, pairs, tls
from lb.acme.proofs import Proofs
from lb.ocsp import OcspError, Question, Staple
from lb.secret import KeyPair
from lb.state import Host, Listener, Ocsp, Pool

_RETRY: Final = 60.0  # seconds after a fetch that failed
_TIMEOUT: Final = aiohttp.ClientTimeout(total=20, sock_connect=10)
_ANSWER: Final = 1 << 20  # bytes of an OCSP answer that are read at most
ALPN: Final = ("h2", "http/1.1")


class _Live:
    """A host in use."""

    def __init__(self, spec: Host, pair: KeyPair) -> None:
        self.spec = spec
        self.pair = pair
        self.names, self.until = pairs.named(pair)
        self.question: Question | None = None
        self.staple: Staple | None = None
        self.due = 0.0  # Unix seconds of the next fetch
        self.why = ""
        self.contexts: dict[str, tuple[ssl.SSLContext, object]] = {}


class Certificates:
    """The hosts' certificates; the data plane's `Contexts`."""

    def __init__(
        self, clock: Clock = SYSTEM, told: Callable[[str, str], None] = lambda host, why: None
    ) -> None:
        self._clock = clock
        self.on_problem = told
        self._hosts: dict[str, _Live] = {}
        self._by_name: dict[str, _Live] = {}
        self._fallback: _Live | None = None  # who names no host, or an unknown one
        self._filed = True
        self._wake = asyncio.Event()
        self._taken: dict[str, tuple[bytes, Staple | None]] = {}
        self.proofs = Proofs()
        self.on_staple: Callable[[str, bytes, Staple | None], None] | None = None

    # ------------------------------------------------------------------ hosts

    @property
    def hosts(self) -> Mapping[str, Host]:
        """The hosts in use."""
        return {name: live.spec for name, live in self._hosts.items()}

    def put(self, spec: Host, action: object) -> None:
        """Use a host's key pair from the next handshake on.

        Raises:
            ActionError: it does not load; what stood keeps standing.
        """
        try:
            live = _Live(spec, spec.pair)
            pairs.load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), spec.pair)
        except (ValueError, ssl.SSLError, OSError) as error:
            raise ActionError(
                action, f'host "{spec.id}": the key pair does not load: {error}'
            ) from error
        before = self._hosts.get(spec.id)
        if before is not None and before.pair == spec.pair:
            live.staple, live.due = before.staple, before.due
        if spec.ocsp.enabled:
            try:
                live.question = ocsp.question(spec.pair.cert, spec.ocsp.responders)
            except OcspError as error:
                live.why = f"OCSP: {error}"
                self.on_problem(spec.id, live.why)
        self._hosts[spec.id] = live
        self._filed = False
        taken = self._taken.get(spec.id)
        if taken is not None and taken[0] == spec.pair.cert:
            live.staple = taken[1]
        self._wake.set()

    def drop(self, name: str) -> None:
        """Forget a host."""
        del self._hosts[name]
        self._filed = False

    def facts(self) -> dict[str, tuple[tuple[str, ...], float]]:
        """Return of each host in use the names in its certificate, and its end in Unix seconds."""
        return {name: (live.names, live.until) for name, live in self._hosts.items()}

    def _file(self) -> None:
        """Sort the hosts, once for all changes since the last handshake."""
        self._filed = True
        self._by_name = {}
        defaults = [name for name, live in self._hosts.items() if live.spec.default]
        first = min(defaults or self._hosts, default=None)
        self._fallback = None if first is None else self._hosts[first]
        for name in sorted(self._hosts, reverse=True):  # of two with one name the smallest wins
            live = self._hosts[name]
            for host in live.names:
                self._by_name[host] = live

    def _pick(self, name: str | None) -> _Live | None:
        """Return whose certificate a client gets."""
        if not self._filed:
            self._file()
        wanted = (name or "").lower().rstrip(".")
        live = self._by_name.get(wanted) or self._by_name.get("*." + wanted.partition(".")[2])
        if live is not None and wanted:
            return live
        return self._fallback

    # ------------------------------------------------------------------ contexts

    def server(self, listener: Listener) -> ssl.SSLContext:
        """Return what an https listener speaks; certificates are chosen by SNI."""
        settings = listener.tls or {}
        base = self._context(settings)
        spelt = json.dumps(settings, sort_keys=True)

        def choose(
            connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext
        ) -> int | None:
            proof = self.proofs.pick(connection, name)
            if proof is not None:
                connection.context = proof
                return None
            live = self._pick(name)
            if live is None:
                return int(ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)
            if spelt not in live.contexts:
                context = self._context(settings)
                pairs.load(context, live.pair)
                kept: object = None
                if live.question is not None and ocsp.able():
                    kept = ocsp.staple(context, lambda: live.staple.der if live.staple else b"")
                live.contexts[spelt] = context, kept
            connection.context = live.contexts[spelt][0]
            return None

        base.sni_callback = choose
        self.proofs.watch(base)
        return base

    def _context(self, settings: Mapping[str, Any]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.apply(context, settings)
        context.set_alpn_protocols(list(ALPN))
        asked = settings.get("ClientAuth")
        if asked:
            context.load_verify_locations(cadata=asked["CA"])
            context.verify_mode = ssl.CERT_REQUIRED if asked["Required"] else ssl.CERT_OPTIONAL
        return context

    def client(self, pool: Pool) -> ssl.SSLContext:
        """Return what is spoken to the https servers of a pool."""
        return _client(json.dumps(pool.tls, sort_keys=True), pool.policy.http2)

    # ------------------------------------------------------------------ OCSP

    def take_staple(self, host: str, chain: bytes, staple: Staple | None) -> None:
        """Staple what another process was told of a host's certificate, now or when it comes."""
        self._taken[host] = chain, staple
        live = self._hosts.get(host)
        if live is not None and live.pair.cert == chain:
            live.staple = staple

    def _stapled(self, live: _Live) -> None:
        if self.on_staple is not None:
            self.on_staple(live.spec.id, live.pair.cert, live.staple)

    def problems(self) -> dict[str, str]:
        """Return what is wrong with hosts in use."""
        found = {name: live.why for name, live in self._hosts.items() if live.why}
        if not ocsp.able():
            for name, live in self._hosts.items():
                if live.question is not None:
                    found[name] = "OCSP: this Python's OpenSSL cannot be reached to staple"
        return found

    async def run(self) -> Never:
        """Fetch answers, and again before they end."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            while True:
                self._wake.clear()
                now = self._clock.wall()
                due = [live for live in self._hosts.values() if live.question and live.due <= now]
                await asyncio.gather(*(self._fetch(session, live) for live in due))
                later = [live.due for live in self._hosts.values() if live.question]
                wait = min(later, default=now + 3600.0) - self._clock.wall()
                try:
                    async with asyncio.timeout(max(0.05, wait)):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _fetch(self, session: aiohttp.ClientSession, live: _Live) -> None:
        question, settings = live.question, live.spec.ocsp
        assert question is not None  # noqa: S101
        why = ""
        for url in question.urls:
            try:
                async with session.post(
                    url, data=question.der, headers={"Content-Type": "application/ocsp-request"}
                ) as response:
                    der = await response.content.read(_ANSWER)
                staple = ocsp.judge(
                    der, question.issuer, self._clock.wall(), check=not settings.skip_check
                )
            except (aiohttp.ClientError, TimeoutError, OSError, OcspError, ValueError) as error:
                why = f"OCSP: {url}: {str(error) or type(error).__name__}"
                continue
            live.staple, live.due, live.why = (
                staple,
                _next(staple, settings, self._clock.wall()),
                "",
            )
            self._stapled(live)
            if staple.revoked:
                live.why = "OCSP: the certificate is revoked"
                self.on_problem(live.spec.id, live.why)
            return
        now = self._clock.wall()
        live.due, live.why = now + _RETRY, why
        if live.staple is not None and (live.staple.until or 0) <= now:
            live.staple = None
            self._stapled(live)
        self.on_problem(live.spec.id, why)


def _next(staple: Staple, settings: Ocsp, now: float) -> float:
    if staple.revoked:
        return float("inf")
    return min(now + settings.period, staple.until or float("inf"))


@lru_cache(maxsize=256)
def _client(spelt: str, http2: bool) -> ssl.SSLContext:
    settings = json.loads(spelt)
    context = tls.client(settings)
    if settings.get("ClientCert"):
        pairs.load(
            context,
            KeyPair(
                settings["ClientCert"]["Key"].encode(), settings["ClientCert"]["Cert"].encode()
            ),
        )
    context.set_alpn_protocols(["h2"] if http2 else ["http/1.1"])
    return context

# SPDX-License-Identifier: Apache-2.0
"""What a frontend does to its requests besides forwarding them: a chain of links. No IO.

::

    attempt ─► link 1 ─► link 2 ─► … ─► server          on_request, by ascending Priority, then id
                 │ Reply                  │
                 ▼                        ▼
    client  ◄─ on_response, the links that let it pass, innermost first; then `released` of each

A frontend without middlewares has no chain (`LiveFrontend.chain is None`), and the hot path of
such a request never comes here. Every attempt of a retried request passes the chain anew
(specs/vulcand.md §1, the trap kept).

A link is one object for one middleware of one frontend; what it remembers of a request it keeps
in `exchange.notes[self]`. `build` (in `lb.middleware.build`) makes the links of a frontend and
keeps those whose settings did not change, with what they have counted (V15).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lb.ledger import Ledger


def values(block: bytes, name: str) -> list[bytes]:
    """Return every value of a field in a block of header lines, as received."""
    found = re.findall(rb"\r\n" + re.escape(name.encode()) + rb":([^\r]*)", block, re.IGNORECASE)
    return [value.strip(b" \t") for value in found]


def without(block: bytes, name: str) -> bytes:
    """Return a block less every line of a field."""
    return re.sub(
        rb"\r\n" + re.escape(name.encode()) + rb":[^\r]*", b"", block, flags=re.IGNORECASE
    )


def line(name: str, value: str) -> bytes:
    """Return one header line.

    Raises:
        ValueError: a name or value that could end the line.
    """
    text = f"\r\n{name}: {value}".encode("latin-1")
    if not re.fullmatch(rb"\r\n[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t -~\x80-\xff]*", text):
        raise ValueError(f"no header line: {name!r}: {value!r}")
    return text


@dataclass(slots=True)
class Reply:
    """An answer that a link gives itself; the request goes no further.

    Attributes:
        fields: header lines, each as CRLF and its text (`line`), without Content-Length, Date
            and Connection.
    """

    status: int
    body: bytes = b""
    content_type: bytes = b"text/plain; charset=utf-8"
    fields: bytes = b""


@dataclass(slots=True)
class Answer:
    """A response on its way to the client, of a server, a link or the proxy itself.

    Attributes:
        fields: its header lines, to be read and replaced; framing is not among them.
        length: bytes of the body when it is known, else -1.
        filter: set by a link, makes the response be collected whole and passed through it; called
            once with the body as received (no content coding is undone).
    """

    status: int
    fields: bytes
    length: int = -1
    filter: Callable[[bytes], bytes] | None = None

    def header(self, name: str) -> bytes:
        """Return the first value of a field, b"" when absent."""
        found = values(self.fields, name)
        return found[0] if found else b""

    def add(self, name: str, value: str) -> None:
        """Add a header line; raises ValueError."""
        self.fields += line(name, value)

    def put(self, name: str, value: str) -> None:
        """Replace every line of a field by this one; raises ValueError."""
        self.fields = without(self.fields, name) + line(name, value)

    def drop(self, name: str) -> None:
        """Take out every line of a field."""
        self.fields = without(self.fields, name)


@dataclass(slots=True)
class Exchange:
    """One attempt at a request, as links see it.

    Attributes:
        frontend: its id.
        method: as sent.
        target: what the server is asked for, origin-form; a link may replace it.
        host: the authority the client asked for, as sent.
        block: the request's header lines as received; not changed by links.
        fields: the header lines that go to the server (no Host, framing or forwarding ones); a
            link may replace them by `put`, `add`, `drop`.
        client: the client's address as text, b"" on a unix socket.
        tls: facts of the client's TLS for the log (`version`, `resume`, `cipher_suite`, `server`);
            None without TLS.
        length: bytes of the request's body, negative when chunked.
        begun: monotonic seconds at which the attempt began.
        now: monotonic seconds at the last event (request, response, end).
        attempt: 1 for the first try.
        server: host:port of the server it went to, "" for none.
        notes: what links remember, by link.
        received: bytes of the request's body that came; when the attempt is over.
        sent: bytes of a response's body whose length nobody had said; likewise.
        entered: how many links of the chain let it pass; kept by `Chain`.
    """

    frontend: str
    method: bytes
    target: bytes
    minor: int
    host: bytes
    block: bytes
    fields: bytes
    client: bytes
    tls: dict[str, Any] | None
    length: int
    begun: float
    now: float
    attempt: int
    server: str = ""
    received: int = 0
    sent: int = 0
    notes: dict[object, Any] = field(default_factory=dict)
    entered: int = 0

    def header(self, name: str) -> bytes:
        """Return the first value of a request's field as received, b"" when absent."""
        if name.lower() == "host":
            return self.host
        found = values(self.block, name)
        return found[0] if found else b""

    def headers(self, name: str) -> list[bytes]:
        """Return every value of a request's field as received."""
        return values(self.block, name)

    def add(self, name: str, value: str) -> None:
        """Add a line to what the server gets; raises ValueError."""
        self.fields += line(name, value)

    def put(self, name: str, value: str) -> None:
        """Replace every line of a field in what the server gets; raises ValueError."""
        self.fields = without(self.fields, name) + line(name, value)

    def drop(self, name: str) -> None:
        """Take a field out of what the server gets."""
        self.fields = without(self.fields, name)


class Link:
    """One middleware of one frontend; this base lets everything pass."""

    __slots__ = ()

    def on_request(self, exchange: Exchange) -> Reply | None:
        """Let an attempt pass (None), changed or not, or answer it."""
        return None

    def on_response(self, exchange: Exchange, answer: Answer) -> None:
        """See, and maybe change, the head of the answer to an attempt that was let pass.

        Called for a server's head, for the Reply of a link further in, and with 502, 503 or 504
        for an attempt that failed.
        """

    def released(self, exchange: Exchange) -> None:
        """An attempt that was let pass is over, with or without on_response; called once."""

    def retire(self) -> None:
        """The link's middleware is gone from the configuration."""

    def share(self, ledger: Ledger, name: bytes) -> None:
        """Count in the ledger that other processes count in as well; called once, before the rest.

        Args:
            name: the same in every process, and another when the settings change.
        """


class Chain:
    """The links of one frontend, outermost first."""

    __slots__ = ("links",)

    def __init__(self, links: Sequence[Link]) -> None:
        self.links = tuple(links)

    def request(self, exchange: Exchange) -> Reply | None:
        """Run an attempt inwards; a Reply was not seen by `response` yet."""
        for link in self.links:
            reply = link.on_request(exchange)
            if reply is not None:
                return reply
            exchange.entered += 1
        return None

    def response(self, exchange: Exchange, answer: Answer) -> None:
        """Run an answer outwards."""
        for link in reversed(self.links[: exchange.entered]):
            link.on_response(exchange, answer)

    def release(self, exchange: Exchange) -> None:
        """The attempt is over."""
        entered, exchange.entered = exchange.entered, 0
        for link in reversed(self.links[:entered]):
            link.released(exchange)

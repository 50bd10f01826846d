# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 on both sides, each stream translated to and from the HTTP/1.1 that the proxy speaks.

::

    client ══ h2 ══► Sessions.stream 1 ── HTTP/1.1 bytes ──► Client ─► … ─► Upstream ── HTTP/1.1 bytes ──► Mux.stream 1 ══ h2 ══► server
                     (a transport for Client)                                          (a transport for Upstream)

A stream is an `asyncio.Transport` to the protocol above it, so that routing, links, balancing,
retries and limits are those of HTTP/1.1, word for word. Trailers become those of a chunked body
and back, which is what gRPC needs. `h2` does frames, HPACK and flow control.

Back pressure: bytes that a peer's window does not take pause the protocol above; bytes that the
protocol does not take are not acknowledged.

* `stream`: one stream as a transport.  `session`: one connection.
* `clients`: the side that clients see.  `servers`: the side that servers see.
* `fields`: between header lists and lines. Pure.
"""

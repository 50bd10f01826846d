# SPDX-License-Identifier: Apache-2.0
"""Certificates from an ACME server (RFC 8555) for hosts with `AutoCert` (specs/vulcand.md §13).

::

    hosts, what was issued ─► due ─► issuer ─ lock in etcd ─► client ─ JWS over HTTPS ─► ACME server
           ▲                            │                                                   │
           │                            ▼                                                   ▼
         mirror ◄──────────── etcd <root>/autocert_cache/<name> ─► every node, every worker answers
                                                                http-01 (lb.transaction) or
                                                                tls-alpn-01 (proofs, by hello)

One node of many makes the order; what it gets comes to all of them, itself included, by etcd. Keys are
stored sealed.
"""

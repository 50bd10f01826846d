# SPDX-License-Identifier: Apache-2.0
"""An HTTP load balancer configured by etcd keys or an API.

::

    etcd ─► keys, records ─► catalog ─► desired ─┐
      ▲                         │                ├─► plan ─► apply ─► plane
      └── api ◄─ vctl           └─► judge        │                      │
                                       observe ──┘                      ▼
    client ─► server ─► client: http1 or http2 ─► transaction: route.match ─► middleware chain ─► balance ─► upstream
"""

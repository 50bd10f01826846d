# SPDX-License-Identifier: Apache-2.0
"""A DNS server that answers from service records in etcd.

::

    etcd ─► keys, records ─► desired ─► plan ─► apply ─► state.Index
      │                                                    │ answer (pure), message
      └─► stored ─► live ─► policy, upstream               ▼
    datagram ─► fastpath ─► compiled.Answers: ready? ──────┴─► reply; forward when not ours
"""

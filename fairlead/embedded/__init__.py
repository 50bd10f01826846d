# SPDX-License-Identifier: Apache-2.0
"""Our own single-node store with etcd v3's API: for one machine, and for tests.

::

    etcdctl, daemons ─► server, gateway ─► store ─► mvcc ─► watchers ─► watch answers
      (gRPC, JSON)      one port            │  group commit      ▲ only what is on disk
    embedded:///dir ────────────────────────┘─► sqlite ──────────┘

`mvcc`, `checks`, `refusals` and `watchers` are pure; `store` adds the loop, `sqlite` the file.
"""

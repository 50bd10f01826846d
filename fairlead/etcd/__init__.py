# SPDX-License-Identifier: Apache-2.0
"""Our layer over etcd v3: what makes a daemon survive a bad day of its store.

::

    transport, channel ─► pool ─► client, watch ─► Store ─┬─► mirror: prefix → consistent view
    one connection;       ring of    retries,             ├─► lease: keys that live while we do
    they know grpclib     endpoints, deadlines            ├─► kv: create, compare-and-set
                          tokens                          └─► get, put, delete, txn

* `options`, `srv`: where etcd is. `rpc`, `rpc_pb2`, `wire`: its messages ↔ our values (`types`).
* `errors`: what it says, as types. `observer`: who is told what happens. `versions`: known faults.
* `mirror` = `follow` (list, watch, list again when in doubt) + `view` (the pure part) +
  `batches` (for slow consumers) + `snapshot` (the last-known-good file).
"""

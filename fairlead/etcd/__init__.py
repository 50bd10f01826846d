# SPDX-License-Identifier: Apache-2.0
"""Our layer over etcd v3: what makes a daemon survive a bad day of its store.

::

    channel ─► client (endpoints, failover, tokens) ─► Store ─┬─► mirror: prefix → consistent view
    one connection, knows grpclib                             ├─► lease: keys that live while we do
                                                              └─► get, put, delete, txn
"""

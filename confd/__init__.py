# SPDX-License-Identifier: Apache-2.0
"""confd: configuration files from templates and keys, rendered as the original renders them.

Data flow::

    conf.d/*.toml ─► records ─► catalog (resources, compiled templates)
                                   │
    etcd ─► mirror ─► views (one Tree for each set of keys) ─► desired: render ─┐
                         └─ who reads what: only touched resources are dirty    ├─► plan ─► apply:
    destination files ─► observe ───────────────────────────────────────────────┘   stage, check,
                                                                                     rename, reload
"""

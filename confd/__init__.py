# SPDX-License-Identifier: Apache-2.0
"""confd: configuration files from templates and keys, rendered as the original renders them.

Data flow::

    conf.d/*.toml ─► records ─► catalog (resources, compiled templates)
                                   │
    etcd ─► mirror ─┐              ▼
    redis … ► feed ─┴► views ─► renderer ─► desired ─┐
                         └─ who reads what: only     ├─► plan ─► apply: stage, check,
                            touched units wake       │           rename, reload
    destination files, journal ─► observe ───────────┘

One loop for each resource (`units`), so none waits for another's command or fault; `daemon` is
the wiring, `settings` the table of flags, `backends` the other sources of keys.
"""

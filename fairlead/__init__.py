# SPDX-License-Identifier: Apache-2.0
"""What the four daemons share: keep what *is* converging on what etcd says *should be*.

Data flow, the same in every daemon::

    etcd ─► Mirror ─► Records ─► desired ─┐
                                          ├─► plan ─► apply ─► kernel, files, sockets
    kernel, files, sockets ─► observe ────┘

* `fairlead.etcd`: the client layer (endpoints, failover, leases, watches) and the mirror.
* `fairlead.embedded`: our own single-node etcd v3 server, also the fake etcd of the tests.
* `fairlead.records`: etcd values → typed records; a bad one costs only itself.
* `fairlead.reconcile`: the loop that plans and applies, and its eight promises.
* `fairlead.program`, `flags`: what a daemon is and how its settings are read; `daemon`, `life`, `runtime`: its
  way from the command line to its exit. `log`, `metrics`, `health`, `admin`: what it tells.
* `fairlead.gotemplate`: Go's text/template. `fairlead.gojson`: JSON as Go reads it.
* `fairlead.testing`: fakes with faults and real etcd, for our tests and our users'.

This package imports none of the daemons.
"""

__version__ = "0.1.0"

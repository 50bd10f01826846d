# SPDX-License-Identifier: Apache-2.0
"""Several processes that serve what one of them knows: `-workers N` of skydns and vulcand.

::

    etcd ─► mirror ─► feeds ─┐                     ┌─► Relayed ─► the daemon's own records, loop, …
                             ├─► link ═══ socket ══┤
    daemon: topics, sockets ─┘   pair, one each    └─► topics: what the daemon's parent tells
                  ▲                                      │
                  └── page: figures in shared memory ◄───┘ also: acknowledged revisions, calls

The parent is the control plane: mirrors, last-known-good files, records, admin socket, probes.
It opens every listening socket, one for each worker with SO_REUSEPORT, and keeps it open, so
that a worker that dies loses no queued client. Workers are started anew, by the command line
the parent was started with (never forked from a running loop: locks, caches and event loops do
not survive that), and are pure consumers: over a socket pair come a snapshot, then the same
batches that a mirror emits, each with its revision, and they acknowledge what their loops have
applied. A worker that dies, or says nothing for half a minute, is started again and gets all
that counts anew; one whose parent is gone drains and ends.

* `messages`: what goes over the socket pair, and its frames. Pure.
* `link`: frames and file descriptors over a non-blocking socket pair.
* `feeds`: a mirror told to workers, and the same view in a worker.
* `figures`: counters and gauges of all workers as one. Pure.  `page`: shared memory for them.
* `parent`: `Workers`, seen from the parent.  `worker`: `Worker`, seen from within.

N = 1 is one process without any of this: `Runtime.mirror` gives a mirror there, and what is fed
by the parent in a worker, so that a daemon's own code is the same.
"""

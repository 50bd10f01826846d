# SPDX-License-Identifier: Apache-2.0
"""A DNS server that answers from service records in etcd.

::

    etcd ─► keys, records ─► desired ─► plan ─► apply ─► state.Index
      │                                                    │ lookup, shown, answer (pure) ─► reply.Reply
      │                    a Corefile's hosts, file ─► ahead ┤
      └─► stored ─► live ─► policy, upstream               ▼ signing, message
    datagram ─► fastpath ─► compiled.Answers: ready? ──────┴─► reply; forward when not ours
    stream ─► server ─► responder ─► compiled.Answers, transfer; later replies of datagrams too
    flags, corefile ─► config; acl, rewriting and querylog look at every query where they are set

With `-workers` the lower half runs in processes of their own, fed by the upper (`team`).
"""

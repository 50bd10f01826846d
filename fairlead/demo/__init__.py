# SPDX-License-Identifier: Apache-2.0
"""`fairlead demo`: a whole cluster on one machine, tried as a user would try it.

::

    cli ─► namespaces for it all ─► inside ─► story ─► report
                                               │ uses
       hosts: hosts and containers as namespaces, which the kernel removes when we end
       cluster: which program runs where, with which flags      web: the small web server
       user: names resolved, pages fetched, load                measure: ms after an etcd event
"""

# SPDX-License-Identifier: Apache-2.0
"""`fairlead demo`: a whole cluster on one machine, tried as a user would try it.

* `hosts`: hosts and containers as namespaces; the kernel removes them when we end, however we end.
"""

# SPDX-License-Identifier: Apache-2.0
"""WireGuard devices: the kernel's, or wireguard-go's where the kernel has none.

::

    Identity, Peer ◄─► host ─┬─► uapi     text over wireguard-go's socket
                             └─► genl     generic netlink

`objects` and both codecs are pure; `host` observes and applies.
"""

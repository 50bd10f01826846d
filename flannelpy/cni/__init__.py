# SPDX-License-Identifier: Apache-2.0
"""The CNI plugin `flannel`: a meta-plugin that gives a container an address of the host's subnet.

::

    network configuration (stdin) ─┐
                                   ├─► delegate configuration ─► saved ─► bridge (or another) ADD
    subnet file of flanneld ───────┘                               └────► DEL, CHECK, GC read it back

It reads the subnet file, completes the configuration of the plugin it delegates to (`config`,
pure), and runs that (`plugin`; specs/flannel.md §14, CNI specification 0.1.0 to 1.1.0). Better
than the original in five things: what it saves is named by container *and* interface, so that two
networks of one container do not collide; a failed ADD leaves nothing behind; CHECK is delegated;
STATUS says whether a container can be added, and GC takes away what no container has any more.
"""

# SPDX-License-Identifier: Apache-2.0
"""A CoreDNS user's file → our settings (specs/skydns.md §15).

::

    text ─► grammar: Blocks of Directives ─► translate, plugin by plugin ─► Said ─► skydns.config
                                              store, upstreams, listening, content, watching, rules

A plugin or property works as it does there, or is refused by name and line, or is accepted and named
among what has no effect. Flags that are given win over the file.
"""

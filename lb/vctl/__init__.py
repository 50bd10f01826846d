# SPDX-License-Identifier: Apache-2.0
"""vctl: vulcand's command line, over the admin API (specs/vulcand.md §11).

::

    words ─► main: which command ─► commands: its flags, its call ─► client ─► API
                                                       └─► views: tables as the original prints them
"""

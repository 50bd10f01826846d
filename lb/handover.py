# SPDX-License-Identifier: Apache-2.0
"""USR2: a copy of this program takes over the listening sockets (specs/vulcand.md §12.1).

::

    parent ── sockets as descriptors, VULCAND_FILES_KEY=[{"Address":…,"FileFD":n,…}] ──► child
       │  goes on accepting beside it                                                     │ adopts each whose address a listener has
       └─ TERM: the child stays (commit)                                TERM: the parent stays (roll back)

Both accept from the same queue, so no client in it is lost whichever ends. The variable is that of
the original: a vulcand may hand over to us.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Final

from lb.plane import Address, Plane

VARIABLE: Final = "VULCAND_FILES_KEY"
SUCCESSOR: Final = "FAIRLEAD_SUCCESSOR"


def inherited(environ: MutableMapping[str, str]) -> dict[Address, list[socket.socket]]:
    """Return the sockets that a parent handed over, and forget the variable.

    Of one address there are several where the parent's workers accept on one each.

    What cannot be read or is no socket is left out: its address is opened anew.
    """
    text = environ.pop(VARIABLE, "")
    found: dict[Address, list[socket.socket]] = {}
    try:
        files = json.loads(text) if text else []
        for file in files:
            place = file["Address"]["Network"], file["Address"]["Address"]
            with suppress(OSError):
                sock = socket.socket(fileno=int(file["FileFD"]))
                sock.setblocking(False)
                os.set_inheritable(sock.fileno(), False)
                found.setdefault(place, []).append(sock)
    except (ValueError, KeyError, TypeError):
        return found
    return found


def start(
    plane: Plane, api: Mapping[Address, socket.socket], environ: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start the copy: the same command, directory and environment.

    Raises:
        OSError: it cannot be started; nothing has changed.
    """
    sockets = [
        ((live.spec.network, live.spec.address), sock)
        for live in plane.listeners.values()
        for sock in live.socks
    ]
    sockets += api.items()
    files = [
        {
            "Address": {"Network": network, "Address": address},
            "FileFD": sock.fileno(),
            "FileName": f"{network}:{address}",
        }
        for (network, address), sock in sockets
    ]
    given = {**environ, VARIABLE: json.dumps(files), SUCCESSOR: "1"}
    given.pop("NOTIFY_SOCKET", None)  # the service manager knows the parent
    return subprocess.Popen(  # noqa: S603  (our own command line)
        [sys.executable, *sys.orig_argv[1:]],
        env=given,
        pass_fds=[sock.fileno() for _, sock in sockets],
    )

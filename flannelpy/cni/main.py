# SPDX-License-Identifier: Apache-2.0
"""One call of the runtime, from its environment and standard input to its answer."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping

from flannelpy.cni import plugin
from flannelpy.cni.config import BAD_ENVIRONMENT, VERSIONS, CniError, read_config
from flannelpy.cni.plugin import Attachment


def run(
    environ: Mapping[str, str], stdin: str, *, show: Callable[[str], object] | None = None
) -> bytes:
    """Carry out one call and return what goes to standard output.

    Args:
        show: told what ADD delegates; None: written to standard error, as the original does.

    Raises:
        CniError: for the runtime.
    """
    command = environ.get("CNI_COMMAND", "")
    if command == "VERSION":
        answer = {"cniVersion": VERSIONS[-1], "supportedVersions": VERSIONS}
        return json.dumps(answer).encode() + b"\n"
    if command not in ("ADD", "DEL", "CHECK", "STATUS", "GC"):
        raise CniError(
            BAD_ENVIRONMENT,
            f'CNI_COMMAND "{command}" is not ADD, DEL, CHECK, STATUS, GC or VERSION',
            "a container runtime calls this program; it is of no use by hand",
        )
    config = read_config(stdin)
    if command == "STATUS":
        plugin.status(config, environ)
        return b""
    if command == "GC":
        plugin.collect(config, environ)
        return b""
    attachment = Attachment(environ, config, sys.stderr.write if show is None else show)
    if command == "ADD":
        return attachment.add()
    if command == "DEL":
        attachment.delete()
    else:
        attachment.check()
    return b""


def main() -> int:
    """Be the CNI plugin `flannel`; return the exit status."""
    version = VERSIONS[-1]
    asked = os.environ.get("CNI_COMMAND") not in (None, "", "VERSION")
    stdin = sys.stdin.read() if asked else ""
    try:
        sys.stdout.buffer.write(run(os.environ, stdin))
    except CniError as error:
        try:
            version = json.loads(stdin).get("cniVersion") or version
        except (ValueError, AttributeError):
            version = VERSIONS[-1]  # that it is no JSON object is what the error says
        answer = {"cniVersion": version, "code": error.code, "msg": f"flannel: {error}"}
        if error.details:
            answer["details"] = error.details
        sys.stdout.write(json.dumps(answer) + "\n")
        return 1
    return 0

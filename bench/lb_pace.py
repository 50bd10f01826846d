# SPDX-License-Identifier: Apache-2.0
"""Requests at a given rate, whether answers come or not, and how late the answers were.

Arrivals are Poisson's: the gaps between them are exponential, as of many clients who know nothing
of each other. A request is due at its time; when no connection is free, it waits, and that counts
(no "coordinated omission"). Connections are opened, and have had an answer each, before it begins,
and the first half second is left out: what is measured is a proxy that is at work, not its start.

The generator is C (lb_pace.c, built at need). In Python it took all of its core, which it shares
with the server behind the proxies: what was measured then was mostly the generator.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).resolve().with_suffix(".c")
_WARM = 0.5  # seconds left out


def build(where: Path) -> Path | None:
    """Compile the generator into a folder; None if there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    program = where / "lb_pace"
    subprocess.run([compiler, "-O2", "-Wall", "-o", program, SOURCE, "-lm"], check=True)
    return program


def late(
    program: Path, port: int, request: bytes, rate: float, connections: int, seconds: float
) -> list[tuple[float, float]]:
    """Return for each request when it was due (s, monotonic clock), and how late its answer (ms).

    Args:
        program: the generator, from `build`.
        rate: requests a second.

    Raises:
        subprocess.CalledProcessError: an answer was none, or a connection failed.
    """
    command = [str(x) for x in (program, port, rate, connections, _WARM, seconds)]
    out = subprocess.run(command, input=request, capture_output=True, check=True).stdout
    rows = (line.split() for line in out.splitlines())
    return [(int(due) / 1e9, int(took) / 1e6) for due, took in rows]

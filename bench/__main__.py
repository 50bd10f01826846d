# SPDX-License-Identifier: Apache-2.0
"""Run every bench beside this file, whatever becomes of the others, and sum up: `make bench`.

A bench prints what it measured. It ends with 0, and with "skipped: reason" as its last line when
it cannot run here; with another status when it failed or missed a bar ("BAR MISSED: …").
"""

import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SKIPPED = (
    "skipped: ",
    "_pytest.outcomes.Skipped: ",
    "Skipped: ",
)  # real_etcd() skips as a test does


def verdict(status: int, lines: list[str]) -> str:
    """Say in a few words what became of a bench."""
    last = lines[-1] if lines else ""
    for words in SKIPPED:
        if last.startswith(words):
            return f"skipped: {last.removeprefix(words)}"
    missed = [line for line in lines if line.startswith("BAR MISSED")]
    if status or missed:
        return "; ".join(missed) or f"FAILED with status {status}: {last}"
    return "ok"


def main() -> int:
    rows = []
    for script in sorted(HERE.glob("*.py")):
        if script.name.startswith("__"):
            continue
        print(f"== bench/{script.name}", flush=True)
        begun = time.monotonic()
        command = [sys.executable, "-u", str(script)]
        lines = []
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                if line.strip():
                    lines.append(line.strip())
        rows.append((script.name, time.monotonic() - begun, verdict(process.wait(), lines)))
    print("== summary")
    for name, seconds, words in rows:
        print(f"{name:14}{seconds:7.0f} s  {words}")
    return int(any(not words.startswith(("ok", "skipped")) for *_, words in rows))


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the tables of the documents from the code: `make docs`.

A document marks where a table goes, and of what::

    <!-- table: metrics -->                     the shared metric families
    <!-- table: errors -->                      the error tree
    <!-- table: flags skydns.settings:SETTINGS -->   the settings of a program
    <!-- end -->

tests/unit/fairlead/test_docs.py fails while a table is not what this program would write.
"""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from fairlead.flags import Settings, table

HERE = Path(__file__).resolve().parent
OURS = (
    "fairlead.errors",
    "fairlead.etcd.errors",
    "fairlead.tasks",
    "fairlead.gojson.tree",
    "fairlead.workers.worker",
)
BLOCK = re.compile(r"(<!-- table: (\w+)(?: ([\w.]+:\w+))? -->\n).*?(<!-- end -->)", re.DOTALL)


def metrics() -> str:
    """Return the shared metric families."""
    from prometheus_client import Counter
    from prometheus_client.metrics import MetricWrapperBase

    from fairlead.metrics import Metrics

    shared = Metrics("docs")
    shared.watch_workers(list)
    lines = ["| Metric | Type | Labels | Meaning |", "| --- | --- | --- | --- |"]
    rows = []
    declared = [v for v in vars(shared).values() if isinstance(v, MetricWrapperBase)]
    labels = {metric._name: metric._labelnames for metric in declared}
    counters = {metric._name for metric in declared if isinstance(metric, Counter)}
    labels |= {
        "fairlead_build_info": ("program", "version", "python"),
        "fairlead_mirror_keys": ("mirror",),
    }
    for family in shared.registry.collect():
        if family.name.startswith("process_"):
            continue
        counted = family.name in counters or family.type == "counter"
        name = f"{family.name}_total" if counted else family.name
        names = ", ".join(f"`{label}`" for label in labels.get(family.name, ()))
        rows.append(f"| `{name}` | {family.type} | {names} | {family.documentation} |")
    return "\n".join(lines + sorted(rows)) + "\n"


def errors() -> str:
    """Return the error tree."""
    for module in OURS:
        importlib.import_module(module)
    from fairlead.errors import FairleadError

    def walk(kind: type[FairleadError], depth: int) -> Iterator[str]:
        if kind.__module__ not in OURS:
            return
        words = (kind.__doc__ or "").strip().partition("\n\n")[0].replace("\n    ", " ")
        again = "may work later" if kind.transient else "no"
        again = "each says" if kind.__name__ == "ActionError" else again
        yield f"| {'&nbsp;' * 4 * depth}`{kind.__name__}` | {again} | {words} |"
        for child in sorted(kind.__subclasses__(), key=lambda child: child.__name__):
            yield from walk(child, depth + 1)

    lines = ["| Error | Same call again | Meaning |", "| --- | --- | --- |"]
    return "\n".join([*lines, *walk(FairleadError, 0)]) + "\n"


def flags(where: str) -> str:
    """Return the settings of a program."""
    module, _, name = where.partition(":")
    settings = getattr(importlib.import_module(module), name)
    assert isinstance(settings, Settings)
    return table(settings)


def filled(text: str) -> str:
    """Return a document's text with its tables as the code has them."""

    def made(match: re.Match[str]) -> str:
        kind, what = match[2], match[3]
        text = flags(what) if kind == "flags" else {"metrics": metrics, "errors": errors}[kind]()
        return f"{match[1]}{text}{match[4]}"

    return BLOCK.sub(made, text)


def main() -> int:
    """Rewrite the documents that need it."""
    for path in sorted(HERE.glob("*.md")):
        before = path.read_text()
        after = filled(before)
        if after != before:
            path.write_text(after)
            sys.stdout.write(f"{path.name}: written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

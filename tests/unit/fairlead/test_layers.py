# SPDX-License-Identifier: Apache-2.0
"""Imports point one way (style.md §5)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("fairlead", "flannelpy", "skydns", "confd", "lb")
DAEMONS = PACKAGES[1:]
PURE = frozenset(
    (
        "keys",
        "records",
        "state",
        "desired",
        "plan",
        "answer",
        "match",
        "parse",
        "allocate",
        "balance",
    )
)
IMPURE = frozenset(
    ("asyncio", "socket", "os", "time", "random", "logging", "subprocess", "threading")
)


def imports(path: Path, *, typing: bool = False) -> Iterator[tuple[str, int]]:
    """Give the modules a file imports, with the line; not those under TYPE_CHECKING."""
    todo: list[ast.AST] = [ast.parse(path.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not typing:
            todo.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.module or "", node.lineno
        todo.extend(ast.iter_child_nodes(node))


def modules(package: str) -> list[Path]:
    return sorted(
        path for path in (ROOT / package).rglob("*.py") if not path.name.endswith("_pb2.py")
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_the_four_never_import_each_other_and_fairlead_imports_none(package: str) -> None:
    others = frozenset(DAEMONS) - {package}
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in modules(package)
        for name, line in imports(path, typing=True)
        if name.partition(".")[0] in others
    ]
    assert wrong == []


@pytest.mark.parametrize("package", PACKAGES)
def test_pure_modules_import_no_io(package: str) -> None:
    pure = [path for path in modules(package) if path.stem in PURE]
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in pure
        for name, line in imports(path)
        if name.partition(".")[0] in IMPURE
    ]
    assert wrong == []


def test_configuration_needs_no_event_loop() -> None:
    """`-check-config` in 300 ms: what runs before `configure` imports no asyncio."""
    seen: set[str] = set()
    todo = ["fairlead.daemon"]
    while todo:
        name = todo.pop()
        place = ROOT / name.replace(".", "/")
        path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if name in seen or not path.exists():
            continue
        seen.add(name)
        top = ast.parse(path.read_text()).body
        for node in top:
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not {"asyncio", "aiohttp", "grpclib", "prometheus_client"} & set(names), name
            todo.extend(name for name in names if name.startswith("fairlead."))
    assert "fairlead.flags.settings" in seen

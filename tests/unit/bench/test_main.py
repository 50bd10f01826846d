# SPDX-License-Identifier: Apache-2.0
import importlib.util
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[3] / "bench" / "__main__.py"
spec = importlib.util.spec_from_file_location("bench_main", BENCH)
assert spec is not None
assert spec.loader is not None
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)


@pytest.mark.parametrize(
    ("status", "lines", "words"),
    [
        (0, ["load 1 s"], "ok"),
        (0, ["skipped: wrk is needed"], "skipped: wrk is needed"),
        (1, ["Traceback", "Skipped: etcd is not on PATH"], "skipped: etcd is not on PATH"),
        (1, ["a", "BAR MISSED: 2 s", "BAR MISSED: 3 s"], "BAR MISSED: 2 s; BAR MISSED: 3 s"),
        (1, ["ValueError: no"], "FAILED with status 1: ValueError: no"),
        (3, [], "FAILED with status 3: "),
    ],
)
def test_what_became_of_a_bench(status: int, lines: list[str], words: str) -> None:
    assert bench.verdict(status, lines) == words


def test_every_bench_says_why_when_it_can_not_run(monkeypatch, tmp_path, capfd):
    """One that fails holds up none of the others."""
    for name, body in {
        "a.py": "raise SystemExit(3)",
        "b.py": "print('skipped: no tool')",
        "c.py": "print('fine')",
        "__main__.py": "raise SystemExit('not itself')",
    }.items():
        (tmp_path / name).write_text(body)
    monkeypatch.setattr(bench, "HERE", tmp_path)
    assert bench.main() == 1
    out = capfd.readouterr().out.splitlines()
    assert [line.split(" s  ")[1] for line in out[out.index("== summary") + 1 :]] == [
        "FAILED with status 3: ",
        "skipped: no tool",
        "ok",
    ]

# SPDX-License-Identifier: Apache-2.0
"""The numbered traps of specs/confd.md §13 that have no test of their own elsewhere.

Elsewhere: 1, 3, 8, 16 tests/unit/confd/test_records.py; 2, 19, 20 test_config.py; 10–13, 23, 25
test_apply.py; 14, 22, 24 test_catalog.py; 11, 14, 16 also tests/integration/confd/test_daemon.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from confd.funcs import functions
from confd.settings import SETTINGS, both_syntaxes
from confd.values import Tree
from confd.world import Machine
from fairlead.etcd.types import KeyValue, Revision
from fairlead.gotemplate import Template, TemplateError


def render(template: str, keys: dict[str, str] | None = None) -> str:
    tree, one = Tree("/", ("/",)), Revision(1)
    tree.apply(
        (k.encode(), KeyValue(k.encode(), v.encode(), one, one, 1)) for k, v in (keys or {}).items()
    )
    return Template("t", template, functions(lambda: tree, Machine())).render()


def confd(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    own = ("-confdir", str(tmp_path), "-state-dir", "", "-admin-socket", "")
    command = [sys.executable, "-m", "confd", *words, *own]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def resource(tmp_path: Path, template: str, **more: str) -> Path:
    (tmp_path / "conf.d").mkdir(exist_ok=True)
    (tmp_path / "templates").mkdir(exist_ok=True)
    (tmp_path / "templates" / "a.tmpl").write_text(template)
    lines = "".join(f"{name} = '{value}'\n" for name, value in more.items())
    dest = tmp_path / "out"
    (tmp_path / "conf.d" / "a.toml").write_text(
        f'[template]\nsrc = "a.tmpl"\ndest = "{dest}"\nkeys = ["/k"]\n{lines}'
    )
    return dest


def test_trap_4_json_numbers_are_floats() -> None:
    assert render('{{(json "{\\"n\\": 1000000}").n}}') == "1e+06"


def test_trap_5_reverse_leaves_gets_alone() -> None:
    """`gets` gives a named type; what `sortKVByLength` gives is turned round."""
    keys = {"/a/1": "x", "/a/22": "y"}
    assert render('{{reverse (gets "/a/*")}}', keys) == "[{/a/1 x} {/a/22 y}]"
    assert render('{{reverse (sortKVByLength (gets "/a/*"))}}', keys) == "[{/a/22 y} {/a/1 x}]"


def test_trap_5_reverse_changes_its_argument() -> None:
    keys = {"/a/1": "x", "/a/2": "y"}
    assert render('{{$v := getvs "/a/*"}}{{$w := reverse $v}}{{$v}}{{$w}}', keys) == "[y x][y x]"


def test_trap_6_the_root_shows_leaves_only() -> None:
    keys = {"/leaf": "1", "/dir/x": "2"}
    assert render('{{ls "/"}}{{lsdir "/"}}{{lsdir "/dir"}}', keys) == "[leaf][][]"


def test_trap_7_getvs_sorts_by_value_and_gets_by_key() -> None:
    keys = {"/a/1": "z", "/a/2": "y"}
    assert render('{{getvs "/a/*"}} {{gets "/a/*"}}', keys) == "[y z] [{/a/1 z} {/a/2 y}]"


def test_trap_9_a_missing_subtree_is_silent_and_a_missing_key_is_not(tmp_path: Path) -> None:
    """The backend env, for no store is needed to see it."""
    dest = resource(tmp_path, '[{{gets "/k/none/*"}}{{ls "/none"}}]')
    assert confd(tmp_path, "-onetime", "-backend", "env").returncode == 0
    assert dest.read_text() == "[[][]]"
    with pytest.raises(TemplateError, match="key does not exist: /none"):
        render('{{getv "/none"}}')


def test_trap_15_env_and_no_keys_render_when_watching(tmp_path: Path) -> None:
    dest = resource(tmp_path, "x")
    command = [
        sys.executable,
        "-m",
        "confd",
        "-watch",
        "-backend",
        "env",
        "-confdir",
        str(tmp_path),
    ]
    with subprocess.Popen([*command, "-state-dir", "", "-admin-socket", ""]) as process:
        try:
            for _ in range(200):
                if dest.exists():
                    break
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.05)
        finally:
            process.terminate()
    assert dest.read_text() == "x"


LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d) \S+ \S+\[\d+\]: (\w+) (.*)")


def test_trap_17_the_log_goes_to_stderr_as_the_original_writes_it(tmp_path: Path) -> None:
    """Lines that people grep, of a run that works and of one whose check fails."""
    dest = resource(tmp_path, "x", check_cmd="test ! -e {{.src}}.no; exit 3")
    failed = confd(tmp_path, "-onetime", "-backend", "env")
    found = [match.groups() for line in failed.stderr.splitlines() if (match := LINE.match(line))]
    assert failed.stdout == ""
    assert ("INFO", "Backend set to env") in found
    assert ("INFO", "Starting confd") in found
    assert ("INFO", f"Target config {dest} out of sync") in found
    assert any(
        level == "ERROR" and text.startswith("Config check failed: exit status 3")
        for level, text in found
    )
    assert ("FATAL", "Config check failed: exit status 3") in found
    resource(tmp_path, "x")
    good = confd(tmp_path, "-onetime", "-backend", "env")
    assert f"INFO Target config {dest} has been updated" in good.stderr
    assert "FATAL" not in good.stderr
    refused = confd(tmp_path, "-onetime", "-backend", "nope")
    (line,) = refused.stderr.splitlines()
    match = LINE.match(line)
    assert match is not None
    assert match[1] == "FATAL"
    assert match[2].endswith("Invalid backend")


def test_a_config_file_that_is_missing_is_fine(tmp_path: Path) -> None:
    """Units of old estates name it whether it is there or not (§6.1)."""
    dest = resource(tmp_path, "x")
    done = confd(tmp_path, "-onetime", "-backend", "env", "-config-file", str(tmp_path / "none"))
    assert done.returncode == 0
    assert dest.read_text() == "x"
    assert "no such file; going on without it" in done.stderr


@pytest.mark.parametrize("words", [("-onetime", "-backend", "env"), ("env", "--onetime")])
def test_trap_18_the_exit_status_is_1_not_the_commands(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    resource(tmp_path, "x", reload_cmd="exit 7")
    assert confd(tmp_path, *words).returncode == 1


def test_trap_21_seq_does_not_count_down() -> None:
    assert render("{{seq 5 1}}{{seq 1 2}}") == "[][1 2]"


def test_the_forks_command_line() -> None:
    words = both_syntaxes(["--prefix", "p", "file", "--file", "a.yaml", "-n", "x", "--onetime"])
    values = SETTINGS.parse(words, {})
    assert (values.text("backend"), values.many("file")) == ("file", ("a.yaml",))
    assert (values.text("prefix-mode"), values.flag("onetime")) == ("join", True)

# SPDX-License-Identifier: Apache-2.0
"""Both command lines, their refusals, and what reaches the etcd layer (specs/confd.md §5, §6)."""

from __future__ import annotations

from pathlib import Path

import pytest

from confd.check import run_checks
from confd.config import Config, configure
from confd.settings import SETTINGS, both_syntaxes
from confd.world import Machine
from fairlead.configfile import parse
from fairlead.errors import ConfigErrors
from fairlead.etcd.options import Options
from fairlead.flags import UsageError


def config(*words: str, environ: dict[str, str] | None = None, toml: str = "") -> Config:
    env = environ or {}
    values = SETTINGS.parse(both_syntaxes(words), env, parse("confd.toml", toml))
    return configure(values, env)


def etcd(*words: str, environ: dict[str, str] | None = None) -> Options:
    found = config(*words, environ=environ).etcd
    assert found is not None
    return found


def test_defaults() -> None:
    found = config()
    assert (found.mode, found.interval, found.defaults.prefix_mode) == ("interval", 600, "override")
    assert found.sources[""].backend.nodes == ("http://127.0.0.1:2379",)
    assert found.confdir == Path("/etc/confd")


def test_the_forks_syntax_joins_prefixes() -> None:
    """Trap 1; global flags stand before or after the backend."""
    found = config("--prefix", "etcd", "etcd", "--watch", "-n", "h:1", "--node=h:2")
    assert (found.defaults.prefix, found.defaults.prefix_mode, found.mode) == (
        "etcd",
        "join",
        "watch",
    )
    assert found.sources[""].backend.nodes == ("h:1", "h:2")


def test_nodes() -> None:
    """Traps 19 and 20."""
    assert etcd("-node", "a:1,b:2").endpoints == ("a:1", "b:2")
    assert etcd("-node", "a", "-scheme", "https").endpoints == ("https://a",)
    assert etcd("-node", "unix:/run/e").endpoints == ("unix:///run/e",)
    peers = {"ETCDCTL_PEERS": "http://p:1,http://q:1"}
    assert etcd(environ=peers).endpoints == ("http://p:1", "http://q:1")
    peers["ETCDCTL_ENDPOINTS"] = "http://e:1"
    assert etcd(environ=peers).endpoints == ("http://e:1",)


def test_a_password_is_sent_only_with_basic_auth() -> None:
    words = ("-username", "u", "-password", "p")
    assert etcd(*words).login() is None
    assert etcd(*words, "-basic-auth").login() == ("u", "p")


def test_flag_beats_file() -> None:
    """Trap 2."""
    toml = 'prefix = "/file"\nnodes = ["f:1"]\ninterval = 5\nsync_only = true\nlog_level = "debug"'
    found = config("-prefix", "/flag", toml=toml)
    assert (found.defaults.prefix, found.interval, found.sync_only) == ("/flag", 5, True)
    assert (found.sources[""].backend.nodes, found.log_level) == (("f:1",), "debug")


def test_onetime_beats_watch() -> None:
    assert config("-watch", "-onetime").mode == "onetime"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-backend", "dynamodb"), "not built"),
        (("-backend", "file"), "needs one"),
        (("-exec", "true", "-exec-reload-signal", "NOPE"), "no such signal"),
        (("-exec", "true", "-onetime"), "goes with -watch"),
        (("-backend", "nonsense"), "Invalid backend"),
        (("-log-level", "loud"), 'not a valid level: "loud"'),
        (("-interval", "0"), "at least 1"),
        (("-client-cert", "/none"), "needs -client-key beside it"),
        (("-client-ca-keys", "/none"), "-client-ca-keys .* no such file"),
        (("-node", "ftp://x"), "scheme"),
    ],
)
def test_refused_values(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigErrors, match=said):
        config(*words)


def test_srv_records_name_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def services(self: Machine, name: str) -> list[tuple[str, int, int, int]]:
        asked.append(name)
        return [("b.", 2, 2, 1), ("a.", 1, 1, 1)] if "none" not in name else []

    monkeypatch.setattr(Machine, "services", services)
    assert etcd("-srv-record", "_e._tcp.x.").endpoints == ("http://a:1", "http://b:2")
    found = config("-backend", "redis", "-srv-domain", "d.example")
    assert found.sources[""].backend.nodes == ("a:1", "b:2")
    assert asked == ["_e._tcp.x", "_redis._tcp.d.example"]
    with pytest.raises(ConfigErrors, match="Cannot get nodes from SRV records"):
        config("-srv-record", "none")


def test_named_sources(tmp_path: Path) -> None:
    file = tmp_path / "sources.toml"
    file.write_text('[one]\nbackend = "env"\n[two]\nbackend = "etcd"\nnodes = ["h:1"]\n')
    found = config("-confdir", str(tmp_path))
    assert set(found.sources) == {"", "one", "two"}
    assert found.defaults.sources == {"one", "two"}
    assert (found.sources["two"].etcd or Options()).endpoints == ("h:1",)
    assert found.loose_sources == {"one"}
    file.write_text('[one]\nbackend = "nonsense"\n["a b"]\nx = 1\n')
    with pytest.raises(ConfigErrors) as caught:
        config("-confdir", str(tmp_path))
    assert len(caught.value.errors) == 2


@pytest.mark.parametrize("flag", ["-secret-keyring=x", "-table=x"])
def test_refused_flags(flag: str) -> None:
    with pytest.raises(UsageError, match="not supported"):
        config(flag)


def test_check_config_tells_of_resources_and_templates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "bad.tmpl").write_text("{{nofn}}")
    for name, lines in {
        "a": 'src = "bad.tmpl"\ndest = "/nowhere/x"',
        "b": 'src = "none.tmpl"\ndest = "/tmp/x"\ncheck_cmd = "{{"',
        "c": 'mode = 1\nsrc = "gone.tmpl"',
    }.items():
        (tmp_path / "conf.d" / f"{name}.toml").write_text(f"[template]\n{lines}\n")
    values = SETTINGS.parse(["-check-config", "-confdir", str(tmp_path)], {})
    assert run_checks(values) == 1
    said = capsys.readouterr()
    assert len([line for line in said.err.splitlines() if str(tmp_path) in line]) == 7, said.err
    assert 'function "nofn" not defined' in said.err
    assert "Missing template" in said.err
    assert "gone.tmpl" in said.err, "a faulty resource's other faults are told, too"
    assert "Validation complete: 0/3 files passed" in said.out
    (tmp_path / "conf.d" / "c.toml").write_text(
        '[template]\nsrc = "good.tmpl"\ndest = "/tmp/x"\nkeys = ["/k"]'
    )
    (tmp_path / "templates" / "good.tmpl").write_text('{{getv "/k"}}')
    one = ("-check-config", "-confdir", str(tmp_path), "-resource", f"{tmp_path}/conf.d/c.toml")
    assert run_checks(SETTINGS.parse(one, {})) == 0
    assert f"OK: {tmp_path}/conf.d/c.toml" in capsys.readouterr().out
    mock = tmp_path / "mock.json"
    mock.write_text('{"other": 1}')
    assert run_checks(SETTINGS.parse([*one, "-validate", "-mock-data", str(mock)], {})) == 1
    mock.write_text('{"k": 1}')
    assert run_checks(SETTINGS.parse([*one, "-validate", "-mock-data", str(mock)], {})) == 0

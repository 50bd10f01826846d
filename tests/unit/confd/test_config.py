# SPDX-License-Identifier: Apache-2.0
"""Both command lines, their refusals, and what reaches the etcd layer (specs/confd.md §5, §6)."""

from __future__ import annotations

from pathlib import Path

import pytest

from confd.config import SETTINGS, Config, both_syntaxes, configure
from fairlead.configfile import parse
from fairlead.errors import ConfigErrors
from fairlead.flags import UsageError


def config(*words: str, environ: dict[str, str] | None = None, toml: str = "") -> Config:
    env = environ or {}
    values = SETTINGS.parse(both_syntaxes(words), env, parse("confd.toml", toml))
    return configure(values, env)


def test_defaults() -> None:
    found = config()
    assert (found.mode, found.interval, found.prefix_mode) == ("interval", 600, "override")
    assert found.etcd.endpoints == ("http://127.0.0.1:2379",)
    assert found.confdir == Path("/etc/confd")


def test_the_forks_syntax_joins_prefixes() -> None:
    """Trap 1; global flags stand before or after the backend."""
    found = config("--prefix", "etcd", "etcd", "--watch", "-n", "h:1", "--node=h:2")
    assert (found.prefix, found.prefix_mode, found.mode) == ("etcd", "join", "watch")
    assert found.etcd.endpoints == ("h:1", "h:2")


def test_nodes() -> None:
    """Traps 19 and 20."""
    assert config("-node", "a:1,b:2").etcd.endpoints == ("a:1", "b:2")
    assert config("-node", "a", "-scheme", "https").etcd.endpoints == ("https://a",)
    assert config("-node", "unix:/run/e").etcd.endpoints == ("unix:///run/e",)
    peers = {"ETCDCTL_PEERS": "http://p:1,http://q:1"}
    assert config(environ=peers).etcd.endpoints == ("http://p:1", "http://q:1")
    peers["ETCDCTL_ENDPOINTS"] = "http://e:1"
    assert config(environ=peers).etcd.endpoints == ("http://e:1",)


def test_a_password_is_sent_only_with_basic_auth() -> None:
    words = ("-username", "u", "-password", "p")
    assert config(*words).etcd.login() is None
    assert config(*words, "-basic-auth").etcd.login() == ("u", "p")


def test_flag_beats_file() -> None:
    """Trap 2."""
    toml = 'prefix = "/file"\nnodes = ["f:1"]\ninterval = 5\nsync_only = true\nlog_level = "debug"'
    found = config("-prefix", "/flag", toml=toml)
    assert (found.prefix, found.interval, found.sync_only) == ("/flag", 5, True)
    assert (found.etcd.endpoints, found.log_level) == (("f:1",), "debug")


def test_onetime_beats_watch() -> None:
    assert config("-watch", "-onetime").mode == "onetime"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-backend", "redis"), "not built yet"),
        (("-backend", "nonsense"), "Invalid backend"),
        (("env", "--onetime"), "not built yet"),
        (("-log-level", "loud"), 'not a valid level: "loud"'),
        (("-interval", "0"), "at least 1"),
        (("-client-cert", "/none"), "go together"),
        (("-client-ca-keys", "/none"), "cannot be read"),
        (("-node", "ftp://x"), "scheme"),
    ],
)
def test_refused_values(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigErrors, match=said):
        config(*words)


@pytest.mark.parametrize("flag", ["-secret-keyring=x", "--debounce=1s", "-file=x", "--diff"])
def test_refused_flags(flag: str) -> None:
    with pytest.raises(UsageError, match="not supported"):
        config(flag)


def test_check_config_tells_of_resources_and_templates(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "bad.tmpl").write_text("{{nofn}}")
    for name, lines in {
        "a": 'src = "bad.tmpl"\ndest = "/nowhere/x"',
        "b": 'src = "none.tmpl"\ndest = "/tmp/x"\ncheck_cmd = "{{"',
        "c": "mode = 1",
    }.items():
        (tmp_path / "conf.d" / f"{name}.toml").write_text(f"[template]\n{lines}\n")
    with pytest.raises(ConfigErrors) as caught:
        config("-check-config", "-confdir", str(tmp_path))
    said = [error.reason for error in caught.value.errors]
    assert len(said) == 7
    assert any('function "nofn" not defined' in reason for reason in said)
    assert any("Missing template" in reason for reason in said)

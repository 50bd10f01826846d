# SPDX-License-Identifier: Apache-2.0
"""Go's flag syntax: flannel spec §2, confd spec §6.1, skydns spec §13.3, vulcand spec §12."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead import flags
from fairlead.configfile import parse as parse_file
from fairlead.errors import ConfigErrors
from fairlead.etcd.options import Options
from fairlead.flags import Kind, Setting, Settings, UsageError, Values

SETTINGS = Settings(
    "proxy",
    (
        Setting("addr", default="127.0.0.1:53", help="Listen here.", file_key="addr"),
        Setting("watch", Kind.BOOL, False, "Watch.", file_key="watch"),
        Setting("interval", Kind.INT, 600, "Poll.", file_key="interval", unit="seconds"),
        Setting("ratio", Kind.FLOAT, 0.5, "Ratio.", file_key="ratio"),
        Setting("rtimeout", Kind.DURATION, 2.0, "Wait.", file_key="read_timeout"),
        Setting("machines", Kind.COMMA, ("http://127.0.0.1:2379",), "etcd.", file_key="machines"),
        Setting("iface", Kind.REPEAT, help="Interface."),
        Setting("etcd", Kind.LIST, help="Endpoints."),
        Setting("password", secret=True, help="Password.", file_key="password"),
        Setting("log", default="console", help="Log.", choices=("console", "json")),
        Setting("node", aliases=("n",), help="Node."),
        Setting("kubernetes", Kind.BOOL, refused="gone since 2.1; use etcd"),
        Setting("etcd3", Kind.BOOL, ignored="etcd v3 is always used"),
        Setting("age", Kind.DURATION, 5.0, "Age.", empty=0.0),
        *flags.common(rename={"plan": "show-plan"}, drop=("log-level",)),
    ),
    env_prefix="PROXY_",
)


def parse(argv: Sequence[str], environ: dict[str, str] | None = None, file: str = "") -> Values:
    return SETTINGS.parse(argv, environ or {}, parse_file("p.toml", file))


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["-addr", "x"], "addr", "x"),
        (["--addr=x"], "addr", "x"),
        (["-addr="], "addr", ""),
        (["-addr", "-x"], "addr", "-x"),  # the next word is the value, whatever it looks like
        (["-watch"], "watch", True),
        (["-watch=false"], "watch", False),
        (["-watch=T"], "watch", True),
        (["-interval", "0x10"], "interval", 16),
        (["-interval=1_000"], "interval", 1000),
        (["-interval=010"], "interval", 8),
        (["-interval=-0b11"], "interval", -3),
        (["-rtimeout=1m30s"], "rtimeout", 90.0),
        (["-ratio", "1e-1"], "ratio", 0.1),
        (["-machines=a,b", "-machines=c, d"], "machines", ("c", "d")),
        (["-iface=a,b", "-iface", "c"], "iface", ("a,b", "c")),
        (["-etcd=a,b", "-etcd", "c"], "etcd", ("a", "b", "c")),
        (["-n", "x"], "node", "x"),
        (["-age="], "age", 0.0),
        (["-addr=a", "-addr=b"], "addr", "b"),
    ],
)
def test_syntax(argv: list[str], name: str, value: Any) -> None:
    values = parse(argv)
    assert values[name] == value
    assert str(values.source(name)) == "command line"


@pytest.mark.parametrize(
    ("argv", "args"),
    [
        (["-watch", "false", "-addr=x"], ("false", "-addr=x")),  # a boolean takes no word
        (["--", "-addr=x"], ("-addr=x",)),
        (["-", "x"], ("-", "x")),
        (["word"], ("word",)),
    ],
)
def test_stops(argv: list[str], args: tuple[str, ...]) -> None:
    values = parse(argv)
    assert values.args == args
    assert values["addr"] == "127.0.0.1:53"


@pytest.mark.parametrize(
    ("argv", "faults"),
    [
        (["-adr=x"], ["flag provided but not defined: -adr; did you mean -addr?"]),
        (["-zzz"], ["flag provided but not defined: -zzz"]),
        (["-addr"], ["flag needs an argument: -addr"]),
        (["---addr"], ["bad flag syntax: ---addr"]),
        (["-=x"], ["bad flag syntax: -=x"]),
        (["-watch=yes"], ['invalid boolean value "yes" for -watch: neither true nor false']),
        (["-interval=1.5"], ['invalid value "1.5" for flag -interval: not a whole number']),
        (["-interval=9223372036854775808"], ["value out of range"]),
        (["-interval=1__0"], ["not a whole number"]),
        (["-ratio=x"], ["not a number"]),
        (["-rtimeout=5"], ['missing unit in duration "5"; write 5s or 5m']),
        (["-kubernetes"], ["flag -kubernetes is not supported: gone since 2.1; use etcd"]),
        (["-watch=no", "-interval=x", "-zzz"], ["-watch", "-interval", "-zzz"]),  # all at once
    ],
)
def test_bad_flags(argv: list[str], faults: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        parse(argv)
    assert len(caught.value.faults) == len(faults)
    for fault, part in zip(caught.value.faults, faults, strict=True):
        assert part in fault


@pytest.mark.parametrize("word", ["-h", "--help", "-help"])
def test_help(word: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse([word])
    assert caught.value.help_asked


def test_precedence_and_sources() -> None:
    file = '# a comment\naddr = "file"\ninterval = 5\nread-timeout = "3s"\n'
    values = parse(["-interval=7"], {"PROXY_ADDR": "env", "PROXY_LOG": ""}, file)
    assert (values["addr"], str(values.source("addr"))) == ("env", "environment PROXY_ADDR")
    assert (values["interval"], str(values.source("interval"))) == (7, "command line")
    assert (values["rtimeout"], str(values.source("rtimeout"))) == (3.0, "p.toml:4")
    assert str(values.source("log")) == "default"
    assert not values.given("log")
    assert values.warnings == ('p.toml:3: key "interval" is overridden by -interval',)


def test_ours_have_two_variables() -> None:
    assert parse([], {"FAIRLEAD_STATE_DIR": "/a"})["state-dir"] == "/a"
    assert parse([], {"PROXY_STATE_DIR": "/b", "FAIRLEAD_STATE_DIR": "/a"})["state-dir"] == "/b"


def test_unknown_keys_are_errors_in_our_files_and_warnings_in_the_originals() -> None:
    file = "[log]\nx = 1\n[other]\n"
    assert parse([], None, "intervall = 5\n").warnings == (
        'p.toml:1: key "intervall": unknown; did you mean "interval"?',
    )
    own = Settings("own", SETTINGS.all, own_file=True)
    with pytest.raises(ConfigErrors) as caught:
        own.parse([], {}, parse_file("p.toml", file + "y = 2\n"))
    assert [str(error) for error in caught.value.errors] == [
        'p.toml:2: key "log.x": unknown',
        'p.toml:4: key "other.y": unknown',
    ]


def test_all_faults_at_once() -> None:
    file = 'interval = "soon"\nwatch = 1\nmachines = 3\nread_timeout = 4\n'
    with pytest.raises(ConfigErrors) as caught:
        parse(["-log=jsn"], {"PROXY_RATIO": "x", "PROXY_MAX_REMOVALS": "7"}, file)
    assert sorted(str(error) for error in caught.value.errors) == [
        'command line: -log "jsn": not one of console, json; did you mean "json"?',
        'environment PROXY_MAX_REMOVALS: -max-removals "7.0": must lie between 0 and 1',
        'environment PROXY_RATIO: -ratio "x": not a number',
        'p.toml:1: key "interval": "soon" is not a whole number',
        'p.toml:2: key "watch": 1 is not true or false',
        'p.toml:3: key "machines": 3 is not a list of strings',
        'p.toml:4: key "read_timeout": 4 is not a duration such as "1m30s"',
    ]


def test_bad_variable_of_an_original_is_a_warning() -> None:
    settings = Settings("s", SETTINGS.all, env_prefix="S_", bad_env_fatal=False)
    values = settings.parse([], {"S_INTERVAL": "x"})
    assert values["interval"] == 600
    assert values.warnings == (
        'environment S_INTERVAL: -interval "x": not a whole number; ignored',
    )


def test_without_effect_is_said() -> None:
    assert parse(["-etcd3"]).warnings == (
        "command line: -etcd3 has no effect: etcd v3 is always used",
    )


def test_secrets_are_masked_everywhere() -> None:
    values = parse(["-password=hunter2"])
    assert "hunter2" not in flags.print_config(values)
    assert 'password = "********"' in flags.print_config(values)
    assert "hunter2" not in str(values.error("password", "too short"))
    with pytest.raises(ConfigErrors) as caught:
        parse([], None, "password = 12345\n")
    assert "12345" not in str(caught.value)


def test_print_config_shows_value_and_source() -> None:
    lines = flags.print_config(parse(["-iface=a"], {"PROXY_WATCH": "1"})).splitlines()
    rows = {
        left.split(" = ")[0]: (left.split(" = ")[1], right)
        for left, right in (line.split("  # ") for line in lines)
    }
    plain = {name: (value.strip(), source) for name, (value, source) in rows.items()}
    assert plain["iface"] == ('["a"]', "command line")
    assert plain["watch"] == ("true", "environment PROXY_WATCH")
    assert plain["rtimeout"] == ('"2s"', "default")


def test_usage_and_table_name_every_setting() -> None:
    usage, table = flags.usage(SETTINGS), flags.table(SETTINGS)
    for setting in SETTINGS.all:
        assert f"`-{setting.name}`" in table
        assert (f"  -{setting.name}" in usage) is not bool(setting.refused or setting.ignored)
    assert '(default "127.0.0.1:53"; env PROXY_ADDR)' in usage
    assert "(default 600 seconds;" in usage


def test_error_names_the_source() -> None:
    values = parse([], None, 'addr = "x"\n')
    assert (
        str(values.error("addr", "must be IP:port")) == 'p.toml:1: key "addr" "x": must be IP:port'
    )


def test_twice_declared_is_refused() -> None:
    with pytest.raises(ValueError, match="declared twice: plan"):
        Settings("p", (Setting("plan"), *flags.common()))
    with pytest.raises(ValueError, match="no such common settings: nope"):
        flags.common(drop=["nope"])


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.sampled_from(["d", "#x", "#o", "#b"]))
def test_integers_round_trip(number: int, style: str) -> None:
    assert flags.parse_int(format(number, style)) == number


def test_json_file_lines() -> None:
    keys = parse_file(
        "c.json", '{\n "addr": "x",\n "a": {"b":\n 1}, "list": [{"addr": 2}],\n "e": {}}'
    )
    assert [(item.key, item.where) for item in keys] == [
        ("addr", "c.json:2"),
        ("a.b", "c.json:3"),
        ("list", "c.json:4"),
        ("e", "c.json:5"),
    ]


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("c.toml", "a = 1\nb = \n", "c.toml:2: file"),
        ("c.toml", "a = ", "c.toml:1: file"),
        ("c.json", '{"a": 1,\n x}', "c.json:2: file"),
        ("c.json", "[1]", "c.json:1: file"),
    ],
)
def test_broken_files(path: str, text: str, message: str) -> None:
    with pytest.raises(ConfigErrors, match=message):
        parse_file(path, text)


def test_toml_lines_skip_long_texts() -> None:
    keys = parse_file("c.toml", 'a = """\nb = 1\n"""\n"b" = 2\n[t]\nc.d = 3\n')
    assert [(item.key, item.where) for item in keys] == [
        ("a", "c.toml:1"),
        ("b", "c.toml:4"),
        ("t.c.d", "c.toml:6"),
    ]


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("", True),
        (":9100", True),
        ("127.0.0.1:0", True),
        ("[::1]:9100", True),
        ("host:65536", False),
        ("host", False),
        ("::1:9100", False),
        ("host:x", False),
    ],
)
def test_admin_address(address: str, good: bool) -> None:
    if good:
        assert parse([f"-admin-addr={address}"])["admin-addr"] == address
        return
    with pytest.raises(ConfigErrors, match="admin-addr"):
        parse([f"-admin-addr={address}"])


def test_faults_of_the_way_to_etcd_are_named() -> None:
    files = {"ca": "node", "cert": "password", "key": "admin-addr"}
    values = parse(["-machines=a:1,http://[::1]:2,ftp://x,b:99999", "-node=/none"])

    def found(**named: str) -> list[tuple[str, str]]:
        options = Options(endpoints=values.many("machines"), **named)
        faults = flags.etcd_faults(values.error, options, "machines", files)
        return [(fault.setting, fault.reason) for fault in faults]

    endpoints = [
        ("-machines", '"ftp://x" scheme "ftp" is not one of http, https, unix, unixs'),
        ("-machines", '"b:99999" port 99999 is not between 1 and 65535'),
    ]
    assert found() == endpoints
    for files_given, fault in (
        ({"ca": "/none"}, ("-node", "cannot be used: no such file or directory")),
        ({"cert": "/none"}, ("-password", "needs -admin-addr beside it")),
        ({"key": "/none"}, ("-admin-addr", "needs -password beside it")),
        (
            {"cert": "/none", "key": "/none"},
            ("-password", "cannot be used: no such file or directory"),
        ),
    ):
        assert found(**files_given) == [*endpoints, fault]

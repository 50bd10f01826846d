# SPDX-License-Identifier: Apache-2.0
import ipaddress
import subprocess
import sys

import pytest

from fairlead.errors import ConfigErrors, RecordError
from fairlead.etcd.types import KeyValue, Revision
from fairlead.flags import UsageError
from skydns import addresses, config, keys, names, stored
from skydns.cli import main
from skydns.policy import Policy
from skydns.settings import SETTINGS

POLICY = Policy(frozenset(keys.zones("skydns.local")))


def decode(value):
    return stored.decode(
        b"/skydns", KeyValue(b"/skydns/config", value.encode(), Revision(1), Revision(5), 1)
    )


@pytest.mark.parametrize(("value", "field", "merged"), [
    ('{"domain":"A.test,b.test"}', "zones", frozenset(keys.zones("a.test,b.test"))),
    ('{"TTL":5}', "ttl", 5),
    ('{"ttl":0}', "ttl", 300),
    ('{"min_ttl":7}', "min_ttl", 7),
    ('{"priority":20}', "priority", 20),
    ('{"round_robin":false}', "rotate", False),
    ('{"local":"X.skydns.local"}', "local", names.from_text("x.skydns.local")),
    ('{"hostmaster":"root@example.org"}', "hostmaster", names.from_text("root.example.org")),
    ('{"hostmaster":""}', "hostmaster", b""),
    ('{"path-prefix":"x","etcd3":true,"unknown":[1]}', "ttl", 300),
])  # fmt: skip
def test_the_key_wins_over_the_flags(value, field, merged):
    assert getattr(stored.merge(POLICY, decode(value)), field) == merged


@pytest.mark.parametrize(("value", "reason"), [
    ('{"read_timeout":"2s"}', 'field "read_timeout": string'),  # trap 2
    ('{"ttl":"5"}', 'field "ttl": string'),
    ('{"ttl":-1}', 'field "ttl": -1 is not within'),
    ('{"nameservers":"127.0.0.1:53"}', 'field "nameservers": string'),
    ('{"nameservers":[1]}', 'field "nameservers[0]"'),
    ('{"domain":"a..b"}', 'field "domain"'),
    ('{"dns_addr":"localhost:53"}', 'field "dns_addr"'),
    ("{", "not JSON"),
])  # fmt: skip
def test_a_bad_key_names_its_field(value, reason):
    with pytest.raises(RecordError, match="config") as caught:
        decode(value)
    assert reason in caught.value.reason


def test_trap_2_ndot_and_ndots():
    assert decode('{"ndot":3}').ndot == decode('{"ndots":3}').ndot == 3


def test_what_needs_a_restart_is_named():
    assert stored.different(None, decode('{"dns_addr":"127.0.0.1:54","ttl":5}')) == ("dns_addr",)


def configured(*argv, **environ):
    return config.configure(SETTINGS.parse(argv, environ))


def test_flags_and_variables():
    found = configured(
        "-domain=a.test,10.0.0.0/24", "--addr", "[::1]:5300", "-no-rec", "-path-prefix", "/skydns/ka2/", "-compat=strict",
        ETCD_MACHINES="http://192.0.2.1:2379,http://192.0.2.2:2379", SKYDNS_NAMESERVERS="192.0.2.53:53", SKYDNS_NDOTS="1", SKYDNS_ADDR="127.0.0.1:1",
    )  # fmt: skip
    assert found.policy.zones == frozenset(keys.zones("a.test,10.0.0.0/24"))
    assert found.address == ("::1", 5300)
    assert found.prefix == b"/skydns/ka2"
    assert found.etcd.endpoints == ("http://192.0.2.1:2379", "http://192.0.2.2:2379")
    assert found.routes.default.servers == (addresses.Server("192.0.2.53", 53),)
    assert found.routes.default.ndots == 1
    assert not found.recursion
    assert found.policy.profile.name == "strict"


def test_defaults():
    found = configured()
    assert found.policy.zones == frozenset(keys.zones("skydns.local"))
    assert found.address == ("127.0.0.1", 53)
    assert found.etcd.endpoints == ("http://127.0.0.1:2379",)
    assert (found.policy.ttl, found.policy.min_ttl) == (300, 30)


@pytest.mark.parametrize(
    "flag",
    [
        "-kubernetes",
        "-master=x",
    ],
)
def test_what_is_not_built_is_refused_by_name(flag):
    with pytest.raises(UsageError, match=flag.partition("=")[0]):
        configured(flag)


@pytest.mark.parametrize("flag", ["-etcd3", "-discover"])
def test_what_has_no_effect_is_said(flag):
    values = SETTINGS.parse((flag,), {})
    assert flag in values.warnings[0]


@pytest.mark.parametrize("argv", [("-addr=localhost:53",), ("-addr=127.0.0.1:0x",), ("-domain=a..b",), ("-nameservers=dns.example.org:53",),
    ("-dns.port=54",), ("-catalog=c.skydns.local", "-transfer-to=127.0.0.1"), ("-catalog=c.example",), ("-machines=http://",), ("-tls-key=/x",), ("-ca-cert=/x",), ("-rtimeout=0s",), ("-forward-from=10.0.0.0/99",), ("-path-prefix=/",)])  # fmt: skip
def test_faults_are_named(argv):
    with pytest.raises(ConfigErrors, match=argv[0].partition("=")[0]):
        configured(*argv)


def test_15_2_the_flag_that_lists_the_plugins(capsys):
    assert main(["-plugins"]) == 0
    assert {"etcd", "forward", "cache"} <= set(capsys.readouterr().out.split())


@pytest.mark.parametrize(("text", "server"), [
    ("192.0.2.1:5353", ("192.0.2.1", 5353)), ("192.0.2.1", ("192.0.2.1", 53)), ("[2001:db8::1]:54", ("2001:db8::1", 54)),
    ("2001:db8::1", ("2001:db8::1", 53)), ("[::1]", ("::1", 53)),
])  # fmt: skip
def test_parse_server(text, server):
    assert addresses.parse_server(text) == addresses.Server(*server)
    assert addresses.parse_server(str(addresses.Server(*server))) == addresses.Server(*server)


@pytest.mark.parametrize(
    "text", ["", "x", "host:53", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:http", "[::1"]
)
def test_what_is_no_server_is_refused(text):
    if text == "[::1":
        text = "[::1:x"
    with pytest.raises(ValueError, match=r"address|port"):
        addresses.parse_server(text)


def test_resolv_conf():
    text = "# c\nsearch a\nnameserver 192.0.2.1\nnameserver  2001:db8::1 # x\nnameserver fe80::1%eth0\nnameserver bad\noptions ndots:5\n"
    found = addresses.resolv_conf(text)
    assert [server.host for server in found] == ["192.0.2.1", "2001:db8::1", "fe80::1%eth0"]
    assert addresses.without(found, [addresses.Server("192.0.2.1", 53)]) == found[1:]


def test_keys_of_secondaries(tmp_path):
    path = tmp_path / "keys"
    path.write_text('key "k.example" { algorithm hmac-sha256; secret "YWJj"; };')
    given = (f"-tsig-keys={path}", "-transfer-to=192.0.2.0/24,key:K.example", "-notify=192.0.2.1,k.example@192.0.2.2:54")  # fmt: skip
    found = config.configure(SETTINGS.parse(given, {}))
    zone, key = names.from_text("a.test"), names.from_text("k.example")
    assert found.shared_keys[key].secret == b"abc"
    assert found.peers.may("192.0.2.9", zone)
    assert found.peers.may("198.51.100.1", zone, key)
    assert not found.peers.may("198.51.100.1", zone, names.from_text("other.example"))
    assert [(each.host, each.port, each.key) for each in found.peers.told(zone)] == [
        ("192.0.2.1", 53, b""),
        ("192.0.2.2", 54, key),
    ]
    for flags, said in (
        (("-transfer-to=key:k.example",), 'key "k.example." is not in -tsig-keys'),
        (("-notify=k@192.0.2.1",), 'key "k." is not in -tsig-keys'),
        (("-tsig-keys=/nowhere",), 'cannot read "/nowhere"'),
    ):
        with pytest.raises(ConfigErrors, match=said):
            config.configure(SETTINGS.parse(flags, {}))


def test_who_is_forwarded_for():
    clients = configured("-forward-from=10.0.0.0/8,fc00::/7").routes.default
    assert clients.serves("10.1.2.3")
    assert clients.serves("::ffff:10.1.2.3")
    assert clients.serves("fd00::1%eth0")
    assert not clients.serves("127.0.0.1")
    assert all(
        isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network)
        for network in clients.clients
    )


def test_checking_the_configuration_loads_no_event_loop():
    """`-check-config` in 300 ms: asyncio, and what a Corefile needs, are for those who use them."""
    code = "import sys, skydns.cli; print(*{'asyncio', 'ssl', 're2', 'dns'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_words_that_hide_flags_are_named(capsys):
    assert main(["-check-config", "-verbose", "false", "-addr", "nonsense"]) == 0
    assert "words without effect: false -addr nonsense (the first" in capsys.readouterr().err

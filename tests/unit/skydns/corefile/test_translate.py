# SPDX-License-Identifier: Apache-2.0
"""A CoreDNS user's file: its grammar, what it becomes, what is refused by name."""

import pytest

from fairlead.errors import ConfigErrors
from skydns import config, keys, names
from skydns.addresses import Server
from skydns.corefile.grammar import CorefileError, parse
from skydns.corefile.translate import translate
from skydns.logformat import COMBINED, EVERYTHING
from skydns.policy import Apex
from skydns.settings import SETTINGS

# specs/skydns.md §15.1: what users bring
TYPICAL = """
skydns.local 10.0.0.0/24 {
    etcd {
        path /skydns
        endpoint http://127.0.0.1:2379
        fallthrough
    }
    cache 30
    loadbalance
    prometheus :9153
    errors
    log
}
. {
    forward . 192.0.2.1 192.0.2.2:5353
    cache
    health :8080
    ready :8181
    reload
    loop
}
"""


def configured(tmp_path, text, *flags):
    (tmp_path / "Corefile").write_text(text)
    return config.configure(SETTINGS.parse((f"-conf={tmp_path}/Corefile", *flags), {}))


def test_the_typical_file_starts_unchanged(tmp_path):
    found = configured(tmp_path, TYPICAL)
    assert found.policy.zones == frozenset(keys.zones("skydns.local,10.0.0.0/24"))
    assert found.prefix == b"/skydns"
    assert found.etcd.endpoints == ("http://127.0.0.1:2379",)
    assert found.address == ("0.0.0.0", 53)
    assert found.routes.default.servers == (Server("192.0.2.1", 53), Server("192.0.2.2", 5353))
    assert found.routes.default.ndots == 0
    assert found.routes.bounds.most == 9984
    assert found.pages == (("health", "", 8080), ("ready", "", 8181))
    assert found.metrics.addresses == (("", 9153, "/metrics"),)
    assert found.policy.rotate
    assert found.log_every == 1
    assert found.watched == ((f"{tmp_path}/Corefile", 30.0),)
    assert not found.policy.fallthrough  # no forward in that block: nothing to fall through to


def test_flags_win(tmp_path):
    found = configured(
        tmp_path, TYPICAL, "-addr=127.0.0.1:5300", "-machines=http://192.0.2.9:2379", "-no-rec"
    )
    assert found.address == ("127.0.0.1", 5300)
    assert found.etcd.endpoints == ("http://192.0.2.9:2379",)
    assert not found.recursion


@pytest.mark.parametrize("flag", ["-p", "-dns.port"])
def test_15_2_the_port_of_blocks_that_name_none(tmp_path, flag):
    assert configured(tmp_path, TYPICAL, flag, "1053").address == ("0.0.0.0", 1053)
    named = TYPICAL.replace("skydns.local 10.0.0.0/24 {", "skydns.local:54 {").replace("\n. {", "\n.:54 {")  # fmt: skip
    assert configured(tmp_path, named, flag, "1053").address == ("0.0.0.0", 54)
    with pytest.raises(ConfigErrors, match=r"blocks on several ports \(54, 1053\)"):
        configured(tmp_path, TYPICAL.replace("\n. {", "\n.:54 {"), flag, "1053")
    with pytest.raises(ConfigErrors, match="is there twice"):
        configured(tmp_path, TYPICAL.replace("\n. {", "\nskydns.local:1053 {"), flag, "1053")


def test_every_property_of_etcd(tmp_path):
    found = configured(tmp_path, """
        a.test:1053 {
            etcd b.test c.test {
                path /skydns/ka2
                endpoint http://192.0.2.1:2379 http://192.0.2.2:2379
                credentials me secret
                min-lease-ttl 5s
                max-lease-ttl 2h30m
                no_apex_fallback
                fallthrough b.test
                stubzones
                upstream
                debug
            }
            forward . tls://192.0.2.5%dns.example {
                except x.test
                force_tcp
                max_fails 5
                policy sequential
                read_timeout 1s
            }
            bind 127.0.0.1 127.0.0.2
            bufsize
            minimal
            chaos "Some Thing 1.0"
            transfer {
                to 192.0.2.53 198.51.100.1:5353
            }
        }
        """)  # fmt: skip
    assert found.policy.zones == frozenset(keys.zones("b.test,c.test"))
    assert found.prefix == b"/skydns/ka2"
    assert (found.etcd.user, found.etcd.password) == ("me", "secret")
    profile = found.policy.profile
    assert (profile.least_lease, profile.most_lease, profile.apex) == (5, 9000, Apex.EXACT)
    assert found.policy.fallthrough == frozenset(keys.zones("b.test"))
    assert found.policy.minimal
    assert found.policy.version == "Some Thing 1.0"
    route = found.routes.by_zone[names.from_text("a.test")]
    assert route.servers == (Server("192.0.2.5", 853, tls=True, name="dns.example"),)
    assert (route.tcp, route.fails, route.rotate, route.timeout) == (True, 5, False, 1.0)
    assert route.excepted == frozenset(keys.zones("x.test"))
    assert found.address == ("127.0.0.1", 1053)
    assert found.binds == (Server("127.0.0.2", 1053),)
    zone = names.from_text("a.test")
    assert found.peers.may("192.0.2.53", zone)
    assert not found.peers.may("192.0.2.54", zone)
    assert not found.peers.may("192.0.2.53", names.from_text("b.test"))  # another block's
    assert found.peers.told(zone) == (Server("192.0.2.53", 53), Server("198.51.100.1", 5353))


def test_keys_and_what_must_be_signed(tmp_path):
    (tmp_path / "more").write_text('key "b.example" { algorithm hmac-sha512; secret "YWJj"; };')
    text = """
        a.test {
            etcd a.test b.test
            tsig b.test {
                secret K.example. YWJj
                secrets %s/more
                require AXFR IXFR
            }
            transfer a.test b.test {
                to *
            }
        }
        """
    found = configured(tmp_path, text % tmp_path)
    a, b, key = map(names.from_text, ("a.test", "b.test", "k.example"))
    assert found.shared_keys.keys() == {key, names.from_text("b.example")}
    assert found.shared_keys[key].algorithm == b""  # any
    assert found.peers.may("192.0.2.1", a)
    assert not found.peers.may("192.0.2.1", b)
    assert found.peers.may("192.0.2.1", b, key)


def test_two_blocks_may_spell_the_path_in_two_ways(tmp_path):
    found = configured(tmp_path, "a.test {\n etcd {\n  path skydns/\n }\n}\nb.test {\n etcd\n}")
    assert found.prefix == b"/skydns"


def test_a_zone_of_ipv6_has_colons_and_no_port(tmp_path):
    found = configured(tmp_path, "2001:db8::/32:1053 a.test:1053 {\n etcd\n bind ::1\n}")
    assert found.policy.zones == frozenset(keys.zones("2001:db8::/32,a.test"))


def test_servers_over_https(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "skydns.corefile.upstreams._looked_up", {"dns.example": ["192.0.2.7"]}.__getitem__
    )
    found = configured(tmp_path, """
        . {
            etcd a.test
            forward . https://192.0.2.5 https://[2001:db8::1]:8443 https://dns.example tls://dns.example:8853 {
                doh_method GET
            }
        }
        """)  # fmt: skip
    route = found.routes.by_zone.get(names.ROOT, found.routes.default)
    assert route.get
    assert route.servers == (
        Server("192.0.2.5", 443, tls=True, https=True),
        Server("2001:db8::1", 8443, tls=True, https=True),
        Server("192.0.2.7", 443, tls=True, name="dns.example", https=True),
        Server("192.0.2.7", 8853, tls=True, name="dns.example"),
    )
    assert list(map(str, route.servers[:2])) == ["https://192.0.2.5:443", "https://[2001:db8::1]:8443"]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), [
    ("a.test {\n etcd\n kubernetes\n}", 'line 3: plugin "kubernetes" is not supported'),
    ("a.test {\n etcd {\n  nonsense 1\n }\n}", "line 3: etcd: unknown property 'nonsense'"),
    ("a.test {\n etcd {\n  credentials me\n }\n}", "line 3: credentials requires 2 arguments"),
    ("a.test {\n etcd {\n  endpoint\n }\n}", "line 3: endpoint takes at least one"),
    ("a.test {\n etcd {\n  min-lease-ttl 1y\n }\n}", 'line 3: "1y"'),
    ("a.test {\n etcd\n", "line 1: the { of"),
    ("a.test:x {\n etcd\n}", 'line 1: "a.test:x": port x is not within'),
    ("2001:db8::/32:70000 {\n etcd\n}", "port 70000 is not within"),
    ("a.test {\n etcd\n}\na.test {\n etcd\n}", 'line 4: "a.test" is there twice'),
    ("a.test:53 {\n etcd\n}\nb.test:54 {\n etcd\n}", "several ports"),
    ("a.test {\n forward . 192.0.2.1\n}", "no block has the plugin etcd"),
    ("a.test {\n etcd\n forward . no-such-host.invalid\n}", 'forward: "no-such-host.invalid"'),
    ("a.test {\n etcd\n forward . quic://192.0.2.1\n}", 'forward: "quic://192.0.2.1" is neither'),
    ("a.test {\n etcd\n forward . https://no-such-host.invalid\n}", 'forward: "no-such-host.invalid"'),
    ("a.test {\n etcd\n forward . 192.0.2.1 {\n  doh_method PUT\n }\n}", 'property "doh_method"'),
    ("a.test {\n etcd\n forward . 192.0.2.1 {\n  next NONSENSE\n }\n}", '"NONSENSE" is no rcode'),
    ("a.test {\n etcd\n forward . 192.0.2.1 {\n  failover NOERROR\n }\n}", "NOERROR is no failure"),
    ("a.test {\n etcd\n forward . 192.0.2.1 {\n  health_check 1s twice\n }\n}", '"twice" is not supported'),
    ("a.test {\n etcd\n forward . 192.0.2.1 {\n  max_idle_conns some\n }\n}", "max_idle_conns takes a number from 0"),
    ("quic://a.test {\n etcd\n}", "scheme quic"),
    ("a.test {\n etcd\n import nothing\n}", 'import "nothing": no such'),
    ('a.test {\n chaos "x\n}', "line 2: a quoted string does not end"),
    ("a.test {\n etcd\n bufsize 500\n}", "bufsize 500 is not within 512 and 4096"),
    ("a.test {\n etcd\n bind no-such\n}", '"no-such" is no address and no interface'),
    ("a.test {\n etcd\n cache {\n  disable all\n }\n}", 'cache: property "disable"'),
    ("a.test {\n etcd\n cache {\n  serve_stale_policy prefer_positive\n }\n}", "needs serve_stale"),
    ("a.test {\n etcd\n cache {\n  serve_stale 1h sometimes\n }\n}", '"sometimes" is neither immediate'),
    ("a.test {\n etcd\n cache {\n  prefetch 1 1m 95%\n }\n}", '"95%" is not within'),
    ("a.test {\n etcd\n log {\n  class good\n }\n}", '"good" is no class of replies'),
    ("a.test {\n etcd\n loadbalance least\n}", "loadbalance [round_robin | weighted FILE]"),
    ("a.test {\n etcd\n file nowhere.zone\n}", 'file: "nowhere.zone": [Errno 2]'),
    ("a.test {\n etcd\n tsig {\n  secret k ?\n }\n}", 'line 4: tsig: key "k"'),
    ("a.test {\n etcd\n tsig {\n  secrets nowhere\n }\n}", 'line 4: tsig: cannot read "nowhere"'),
    ("a.test {\n etcd\n tsig {\n  require all\n }\n}", "require takes AXFR, IXFR or none"),
    ("a.test {\n etcd\n tsig {\n  secret k\n }\n}", 'tsig: property "secret"'),
    ("a.test {\n etcd\n tls a b\n}", "in a tls:// or https:// block"),
    ("tls://a.test {\n etcd\n tls a b c {\n  client_auth require\n }\n}", "proves nothing"),
    ("tls://a.test {\n etcd\n tls a b {\n  client_auth require_and_verify\n }\n}", "needs a CA"),
    ("a.test {\n etcd {\n path /a\n }\n}\nb.test {\n etcd {\n path /b\n }\n}", "another block has another path-prefix"),
])  # fmt: skip
def test_what_is_refused_names_line_and_plugin(tmp_path, text, said):
    with pytest.raises(ConfigErrors) as caught:
        configured(tmp_path, text)
    assert said in str(caught.value)


def test_grammar(tmp_path):
    (tmp_path / "more").write_text("errors # from a file\n")
    blocks = parse(
        """
        (common) {
            log
            import more
        }
        a.test, b.test,
        {$ZONE}:1053 {  # a comment
            import common
            etcd {
                credentials "a user" "p\\"w"
                path {%PATH%}/x{$NOTHING}
            }
        }
        """.replace("a.test, b.test,", "a.test:1053, b.test:1053,"),
        {"ZONE": "c.test", "PATH": "/p"},
        tmp_path,
    )
    (block,) = blocks
    assert block.zones == ("a.test", "b.test", "c.test")
    assert [plugin.name for plugin in block.plugins] == ["log", "errors", "etcd"]
    credentials, path = block.plugins[2].properties
    assert credentials.args == ("a user", 'p"w')
    assert path.args == ("/p/x",)
    (bare,) = parse("a.test:1053\netcd\nlog\n", {}, tmp_path)
    assert (bare.zones, bare.port, len(bare.plugins)) == (("a.test",), 1053, 2)


def test_imports_that_go_round_end(tmp_path):
    (tmp_path / "round").write_text("import round\n")
    with pytest.raises(CorefileError, match="ends somewhere"):
        parse("a.test {\n import round\n}", {}, tmp_path)


def test_properties_of_forward(tmp_path):
    found = configured(tmp_path, """
        . {
            etcd a.test
            forward . 192.0.2.1 {
                health_check 2s no_rec domain Probe.test
                prefer_udp
                expire 10s
                max_idle_conns 5
            }
        }
        """)  # fmt: skip
    assert found.routes.default.probe == (2.0, False, names.from_text("probe.test"))
    assert (found.routes.default.expire, found.routes.default.idle) == (10.0, 5)
    assert not found.warnings


def test_more_of_forward(tmp_path):
    found = configured(tmp_path, """
        . {
            etcd a.test
            forward . 192.0.2.1 localhost:5353 {
                max_connect_attempts 3
                max_concurrent 50
                failover SERVFAIL 9
                next NXDOMAIN
                next_on_nodata
                failfast_all_unhealthy_upstreams
                source_address 192.0.2.9
                tls /cert /key /ca
            }
            forward . 192.0.2.2
            bufsize 1100
            nsid Use The Force
            chaos One Two Three
            errors {
                stacktrace
                consolidate 5m ".* timeout$" warning
            }
            bind lo {
                except ::1
            }
            reload 30s 15s
        }
        """)  # fmt: skip
    route = found.routes.default
    assert route.servers[0] == Server("192.0.2.1", 53)
    assert {server.port for server in route.servers[1:]} == {5353}
    assert {server.host for server in route.servers[1:]} <= {"127.0.0.1", "::1"}
    assert (route.attempts, route.concurrent, route.failfast) == (3, 50, True)
    assert route.failover == {2, 5, 9}
    assert (route.next_rcodes, route.next_on_nodata) == ({3}, True)
    assert route.files == ("/ca", "/cert", "/key")
    assert route.source == "192.0.2.9"
    assert route.following.servers == (Server("192.0.2.2", 53),)
    assert route.following.following is None
    assert found.policy.bufsize == 1100
    assert found.policy.nsid == b"Use The Force"
    assert (found.policy.version, found.policy.authors) == ("One", ("Two", "Three"))
    assert found.address == ("127.0.0.1", 53)
    assert [warning.partition("Corefile: ")[2].split(":")[0] for warning in found.warnings] == [
        "line 20", "line 25",
    ]  # fmt: skip


def test_what_one_block_lets_out_another_keeps(tmp_path):
    found = configured(tmp_path, """
        open.test {
            etcd
            transfer {
                to *
            }
        }
        closed.test {
            etcd
        }
        """, "-transfer-to=127.0.0.1")  # fmt: skip
    assert found.peers.may("203.0.113.9", names.from_text("open.test"))
    assert not found.peers.may("203.0.113.9", names.from_text("closed.test"))
    assert found.peers.may("203.0.113.9", names.from_text("below.open.test"))
    assert not found.peers.may("203.0.113.9", names.from_text("below.closed.test"))
    assert found.peers.may("127.0.0.1", names.from_text("closed.test"))  # a flag is for all
    everywhere = ". {\n etcd\n transfer {\n to *\n }\n}\nclosed.test {\n etcd\n}\n"
    found = configured(tmp_path, everywhere)
    assert found.peers.may("203.0.113.9", names.from_text("a.test"))
    assert not found.peers.may("203.0.113.9", names.from_text("closed.test"))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_cache_of_the_block_that_forwards_counts(tmp_path, order):
    blocks = ("a.test {\n etcd\n cache 30\n}\n", ". {\n forward . 192.0.2.1\n cache 600\n}\n")
    text = "".join(blocks[at] for at in order)
    assert configured(tmp_path, text).routes.bounds.positive == 600
    bounds = configured(tmp_path, text, "-rcache-ttl=7", "-rcache=3").routes.bounds
    assert (bounds.most, bounds.positive) == (3, 7)


def test_verbose_without_log_in_the_file_logs_all(tmp_path):
    found = configured(tmp_path, "a.test {\n etcd\n}\n", "-verbose")
    assert (found.log_every, found.logged) == (1, EVERYTHING)


def test_unknown_plugins_can_be_ignored(tmp_path):
    text = "a.test {\n etcd\n kubernetes cluster.local\n}"
    found = configured(tmp_path, text, "-ignore-unknown-plugins")
    assert [warning.partition(": ")[2] for warning in found.warnings] == [
        "line 3: kubernetes: not supported, as if it were not there"
    ]
    assert ("dns://:53", "a.test.", "etcd") in found.plugins


def test_log_names_formats_and_classes(tmp_path):
    found = configured(tmp_path, """
        a.test {
            etcd
            log b.a.test "{name} {combined}"
            log . {
                class denial error
            }
        }
        """)  # fmt: skip
    first, second = found.logged[names.from_text("a.test.")]
    assert first.zones == frozenset(keys.zones("b.a.test"))
    assert first.text == "{name} " + COMBINED
    assert second.classes == {"denial", "error"}
    assert found.log_every == 1


def test_cache_and_stale():
    (block,) = parse(
        "a.test {\n etcd\n cache 60 {\n success 5000 600 10\n denial 100 20\n prefetch 5 1m 10%\n"
        " serve_stale 2h verify\n servfail 3s\n keepttl\n }\n}", {}, None,
    )  # fmt: skip
    found = translate((block,)).bounds
    assert (found.positive, found.negative, found.least) == (600, 20, 10)
    assert (found.prefetch, found.stale, found.failure, found.keep_ttl) == (5, 7200, 3, True)
    assert (found.gap, found.share, found.stale_first) == (60.0, 0.1, False)
    (block,) = parse(
        "a.test {\n etcd\n cache a.test {\n denial 100 20 7\n disable success\n"
        " serve_stale 1h immediate 10s 30s\n prefetch 2 30s 20%\n }\n}", {}, None,
    )  # fmt: skip
    said = translate((block,))
    found = said.bounds
    assert (found.least, found.least_negative) == (5, 7)
    assert found.no_data == frozenset((names.ROOT,))
    assert found.only == frozenset(keys.zones("a.test"))
    assert (found.stale_first, found.stale_ttl, found.recheck) == (True, 10, 30.0)
    assert (found.gap, found.share) == (30.0, 0.2)
    assert said.idle == []
    (block,) = parse(
        "a.test {\n etcd\n cache {\n disable denial b.test c.test\n serve_stale\n"
        " serve_stale_policy prefer_positive\n }\n}", {}, None,
    )  # fmt: skip
    found = translate((block,)).bounds
    assert found.no_denial == frozenset(keys.zones("b.test,c.test"))
    assert found.prefer_positive

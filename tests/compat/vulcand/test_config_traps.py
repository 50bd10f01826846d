# SPDX-License-Identifier: Apache-2.0
"""Traps of keys, JSON and configuration, each named by its section of specs/vulcand.md. No IO."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from fairlead.etcd.types import KeyValue, Revision
from fairlead.records import Records
from lb import config, desired, keys, plan, problems, reading, records, writing
from lb.catalog import Catalog
from lb.fields import Invalid
from lb.keys import ROOTS, Kind, Ref
from lb.plan import PutFrontend
from lb.policy import FrontendPolicy
from lb.records import Stored
from lb.secret import Box, KeyPair, new_key
from lb.settings import SETTINGS
from lb.state import Traffic

FRONT = {"Type": "http", "BackendId": "b", "Route": "Path(`/`)"}
LIMIT = {
    "Type": "ratelimit",
    "Middleware": {"PeriodSeconds": 1, "Requests": 1, "Variable": "client.ip"},
}


class Etcd:
    """What etcd holds, and what becomes of it."""

    def __init__(self, first: Mapping[str, Any] = {}, roots: tuple[str, ...] = ROOTS) -> None:
        self.roots = roots
        self.decoded: Records[Stored] = Records(lambda kv: reading.decode(kv, roots))
        self.catalog = Catalog(roots, self.decoded.good, self.decoded.rejected)
        for key, value in first.items():
            self.put(key, value)

    def put(self, key: str, value: Any) -> frozenset[Ref]:
        """Write a value (None: delete it) below /vulcand, or at a whole key."""
        full = (key if key.startswith(("/", "vulcand")) else f"/vulcand/{key}").encode()
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        kv = None if value is None else KeyValue(full, raw, Revision(1), Revision(1), 1)
        changed = self.decoded.apply([(full, kv)])
        return self.catalog.update(changed, [full])

    def delete(self, *names: str) -> frozenset[Ref]:
        """Delete keys below /vulcand in one transaction."""
        whole = [f"/vulcand/{name}".encode() for name in names]
        changed = self.decoded.apply([(key, None) for key in whole])
        return self.catalog.update(changed, whole)

    def traffic(self, box: Box | None = None) -> Traffic:
        return desired.traffic(self.catalog, desired.Defaults(listen=None, box=box))

    def problems(self) -> dict[str, str]:
        return {str(ref): why for ref, why in problems.problems(self.catalog).items()}


def configured(*argv: str) -> config.Config:
    return config.configure(SETTINGS.parse(argv, {}))


# ---------------------------------------------------------------------- §2 keys


def test_2_trap_the_leading_slash() -> None:  # V1
    both = configured()
    assert both.roots == ("/vulcand", "vulcand")
    for given in ("vulcand", "/vulcand", "/edge/lb"):  # given, it is obeyed literally
        assert configured(f"-etcdKey={given}").roots == (given,)
    etcd = Etcd({"vulcand/frontends/f/frontend": FRONT}, roots=("/vulcand",))
    assert etcd.traffic().frontends == {}


def test_2_1_trap_a_delete_of_f1_spares_f10_and_f1_canary() -> None:  # V2
    below = keys.below("/vulcand", Ref(Kind.FRONTEND, "f1"))
    for other in ("f10", "f1-canary"):
        key = keys.build("/vulcand", Ref(Kind.FRONTEND, other))
        assert not any(one.holds(key) for one in below)


def test_2_1_trap_web_does_not_get_the_servers_of_web_admin() -> None:
    etcd = Etcd({
        "backends/web/backend": {"Type": "http"},
        "backends/web/servers/s": {"URL": "http://a:1"},
        "backends/web-admin/backend": {"Type": "http"},
        "backends/web-admin/servers/t": {"URL": "http://b:1"},
    })  # fmt: skip
    assert [s.id for s in etcd.traffic().pools["web"].servers] == ["s"]


def test_2_1_trap_another_root_deletes_nothing_here() -> None:
    etcd = Etcd({"frontends/f/frontend": FRONT})
    etcd.put("/vulcand-staging/frontends/f/frontend", None)
    assert list(etcd.traffic().frontends) == ["f"]
    assert not keys.range_of("/vulcand").holds(b"/vulcand-staging/frontends/f/frontend")


def test_2_2_trap_a_bad_host_or_listener_costs_itself_only() -> None:
    etcd = Etcd({
        "hosts/bad/host": {"Settings": 1},
        "listeners/bad": {"Protocol": "http"},
        "listeners/good": {"Protocol": "http", "Address": {"Network": "tcp", "Address": ":80"}},
    })  # fmt: skip
    assert list(etcd.traffic().listeners) == ["good"]
    assert len(etcd.decoded.rejected) == 2


def test_2_2_trap_a_frontend_waits_for_its_backend() -> None:  # V3
    etcd = Etcd({"frontends/f/frontend": FRONT})
    assert etcd.traffic().frontends["f"].pool == "b"
    assert etcd.problems()['frontend "f"'].startswith('backend "b" is missing')
    etcd.put("backends/b/backend", {"Type": "http"})
    assert etcd.problems() == {}


def test_2_2_trap_a_middleware_waits_for_its_frontend() -> None:
    etcd = Etcd({"frontends/f/middlewares/m": LIMIT})
    assert etcd.problems()['middleware "f/m"'] == 'frontend "f" is missing'
    etcd.put("frontends/f/frontend", FRONT)
    assert [m.id for m in etcd.traffic().frontends["f"].middlewares] == ["m"]


def test_2_2_trap_a_frontend_that_comes_back_has_its_middlewares() -> None:
    etcd = Etcd({"frontends/f/frontend": FRONT, "frontends/f/middlewares/m": LIMIT})
    etcd.put("frontends/f/frontend", None)  # its lease ran out
    assert etcd.traffic().frontends == {}
    etcd.put("frontends/f/frontend", FRONT)
    assert [m.id for m in etcd.traffic().frontends["f"].middlewares] == ["m"]


def test_2_2_servers_without_a_backend_make_one() -> None:
    etcd = Etcd({"backends/b/servers/s": {"URL": "http://a:1"}})
    pool = etcd.traffic().pools["b"]
    assert (pool.read_timeout, pool.max_idle) == (60.0, 2)


def test_2_2_a_backend_deleted_while_in_use_serves_on() -> None:
    etcd = Etcd({"frontends/f/frontend": FRONT})
    settings = {"Type": "http", "Settings": {"Timeouts": {"Read": "5s"}}}
    for key, value in (("backend", settings), ("servers/s", {"URL": "http://a:1"})):
        etcd.put(f"backends/b/{key}", value)
    before = etcd.traffic()
    etcd.delete("backends/b/backend", "backends/b/servers/s")  # etcdctl del --prefix: one batch
    assert etcd.traffic() == before
    assert "was deleted" in etcd.problems()['frontend "f"']
    etcd.put("backends/b/servers/t", {"URL": "http://t:1"})  # whoever writes it anew is obeyed
    (server,) = etcd.traffic().pools["b"].servers
    assert server.id == "t"
    etcd.delete("backends/b/servers/t")
    assert etcd.traffic().pools == {}
    # without its servers it keeps its settings; unused, it goes
    for key, value in (("backend", settings), ("servers/s", {"URL": "http://a:1"})):
        etcd.put(f"backends/b/{key}", value)
    etcd.delete("backends/b/backend")
    assert etcd.traffic() == before
    etcd.delete("backends/b/servers/s")
    assert etcd.traffic().pools["b"].servers == ()
    scope = etcd.put("frontends/f/frontend", None)
    assert Ref(Kind.BACKEND, "b") in scope
    assert etcd.traffic().pools == {}


def test_2_2_a_bad_value_leaves_the_last_good_one() -> None:
    etcd = Etcd({"backends/b/servers/s": {"URL": "http://a:1"}})
    etcd.put("backends/b/servers/s", b"{")
    assert etcd.traffic().pools["b"].servers[0].host == "a"


def test_2_3_a_heartbeat_changes_nothing() -> None:
    server = {"URL": "http://a:1"}
    etcd = Etcd({"backends/b/servers/s": server})
    assert etcd.put("backends/b/servers/s", server) == frozenset()


# ---------------------------------------------------------------------- §3 JSON


def backend(**settings: Any) -> records.Stored:
    return reading.build(Ref(Kind.BACKEND, "b"), {"Type": "http", "Settings": settings})


@pytest.mark.parametrize(
    ("raw", "field", "value"),
    [
        (b'{"Type":"http","BackendId":"b","Route":"Path(`/`)","id":"x"}', "backend", "b"),
        (b'{"type":"http","backendid":"b","ROUTE":"Path(`/`)"}', "route", "Path(`/`)"),
        (b'{"Type":"http","BackendId":"a","BackendId":"b","Route":"Path(`/`)"}', "backend", "b"),
        (b'{"Type":"http","BackendId":"b","Route":"Path(`/`)","Settings":null}', "stream", False),
        (b'{"Type":"http","BackendId":"b","Route":"Path(`/`)","Settings":{"Hostname":null}}', "hostname", ""),
        (b'{"Type":"http","BackendId":"b","Route":"Path(`/`)","New":{"x":[1]}}', "extra", {"New": {"x": [1]}}),
    ],
)  # fmt: skip
def test_3_rules(raw: bytes, field: str, value: object) -> None:
    record = reading.read(Ref(Kind.FRONTEND, "f"), raw)
    assert getattr(record, field) == value
    assert isinstance(record, records.Frontend)
    assert record.ref.id == "f"  # the key's, whatever the JSON says


@pytest.mark.parametrize(
    "settings",
    [
        {"KeepAlive": {"MaxIdleConnsPerHost": "1"}},
        {"KeepAlive": {"MaxIdleConnsPerHost": 1.0}},
        {"KeepAlive": {"MaxIdleConnsPerHost": 1 << 63}},
        {"Timeouts": {"Read": 5}},
        {"Timeouts": []},
    ],
)
def test_3_types_are_strict(settings: Mapping[str, Any]) -> None:
    with pytest.raises(Invalid):
        backend(**settings)


def test_3_written_compact_unescaped_and_with_a_newline() -> None:
    record = reading.build(Ref(Kind.FRONTEND, "f"), {**FRONT, "Route": "Path(`/<x>`)"})
    assert isinstance(record, records.Frontend)
    raw = writing.encode(record)
    assert raw.startswith(b'{"Id":"f","Route":"Path(`/<x>`)","Type":"http","BackendId":"b",')
    assert raw.endswith(b"}\n")


def test_3_1_trap_endpoint_read_timeout_counts_when_given() -> None:
    assert configured().endpoint_read_timeout == 60.0
    assert configured("-serverReadTimeout=7s").endpoint_read_timeout == 7.0
    assert configured("-endpointReadTimeout=9s").endpoint_read_timeout == 9.0


def test_3_2_trap_a_servers_path_is_ignored_and_doubles_count_once() -> None:
    etcd = Etcd({
        "backends/b/servers/s1": {"URL": "http://a:1/path?query"},
        "backends/b/servers/s2": {"URL": "http://a:1"},
    })  # fmt: skip
    (server,) = etcd.traffic().pools["b"].servers
    assert (server.id, server.authority) == ("s1", "a:1")
    assert sorted(etcd.catalog.servers["b"]) == ["s1", "s2"]  # both are listed


def test_3_3_trap_negative_limits_are_refused() -> None:
    with pytest.raises(Invalid, match="must not be negative"):
        reading.build(
            Ref(Kind.FRONTEND, "f"), {**FRONT, "Settings": {"Limits": {"MaxBodyBytes": -1}}}
        )


@pytest.mark.parametrize(
    "settings", [{"PassHostHeader": True}, {"Stream": True}, {"Hostname": "edge"}]
)
def test_3_3_trap_every_change_applies(settings: dict[str, Any]) -> None:  # V5
    etcd = Etcd({"frontends/f/frontend": FRONT})
    before = etcd.traffic()
    etcd.put("frontends/f/frontend", {**FRONT, "Settings": settings})
    (action,) = plan.traffic(etcd.traffic(), before)
    assert isinstance(action, PutFrontend)


def test_3_3_trap_two_frontends_with_one_route() -> None:
    etcd = Etcd({"backends/b/backend": {"Type": "http"}})
    for name in ("g", "f"):
        etcd.put(f"frontends/{name}/frontend", FRONT)
    assert etcd.problems()['frontend "g"'] == 'frontend "f" has the same route and wins'
    etcd.put("frontends/f/frontend", None)
    assert list(etcd.traffic().frontends) == ["g"]


def test_3_3_stream_means_no_limit_no_retry_and_no_predicate() -> None:
    settings = {"Stream": True, "FailoverPredicate": "no predicate", "Limits": {"MaxBodyBytes": 5}}
    etcd = Etcd({"frontends/f/frontend": {**FRONT, "Settings": settings}})
    spec = etcd.traffic().frontends["f"]
    assert (spec.failover, spec.max_body, spec.replay) == (None, 0, 0)
    assert spec.policy == FrontendPolicy()


def test_3_4_trap_three_forms_of_a_key_pair() -> None:
    box, pair = Box(new_key()), KeyPair(b"key", b"cert")
    sealed = box.seal(pair)
    for form in (sealed.text(), sealed.tree(), pair.tree()):
        etcd = Etcd({"hosts/h/host": {"Settings": {"KeyPair": form}}})
        assert etcd.traffic(box).hosts["h"].pair == pair


def test_3_4_trap_autocert_is_kept() -> None:
    given = {"Settings": {"AutoCert": {"Email": "a@example.org", "RenewBefore": 3600000000000}}}
    record = reading.build(Ref(Kind.HOST, "a.example.org"), given)
    assert isinstance(record, records.Host)
    again = reading.read(record.ref, writing.encode(record))
    assert again == record
    assert isinstance(again, records.Host)
    assert again.auto is not None
    assert (again.auto.email, again.auto.renew_before) == ("a@example.org", 3600.0)


@pytest.mark.parametrize(
    ("ref", "given", "stored"),
    [
        (Ref(Kind.HOST, "h1"), {},
         '{"Name":"h1","Settings":{"Default":false,"KeyPair":null,"OCSP":{"Enabled":false,"Period":"","Responders":null,"SkipSignatureCheck":false}}}'),
        (Ref(Kind.HOST, "h2"), {"Settings": {"Default": True, "OCSP": {"Enabled": True, "Period": "1h", "Responders": ["http://x"]}}},
         '{"Name":"h2","Settings":{"Default":true,"KeyPair":null,"OCSP":{"Enabled":true,"Period":"1h","Responders":["http://x"],"SkipSignatureCheck":false}}}'),
        (Ref(Kind.LISTENER, "l2"),
         {"Protocol": "https", "Scope": "Host(`a`)", "ProxyProtocol": "proxy_v1", "Address": {"Network": "tcp", "Address": "127.0.0.1:38002"},
          "Settings": {"TLS": {"MinVersion": "VersionTLS11", "SessionCache": {"Type": "LRU", "Settings": {"Capacity": 12}}}}},
         '{"Id":"l2","Protocol":"https","Address":{"Network":"tcp","Address":"127.0.0.1:38002"},"Scope":"Host(`a`)","Settings":{"TLS":{"PreferServerCipherSuites":false,"InsecureSkipVerify":false,"MinVersion":"VersionTLS11","MaxVersion":"","SessionTicketsDisabled":false,"SessionCache":{"Type":"LRU","Settings":{"Capacity":12}},"CipherSuites":null}},"ProxyProtocol":"PROXY_V1"}'),
    ],
)  # fmt: skip
def test_3_values_are_the_originals_to_the_byte(ref: Ref, given: object, stored: str) -> None:
    """What a vulcand 0.9.2 stored for the same call of its API."""
    assert writing.encode(reading.build(ref, given)) == stored.encode() + b"\n"


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        ({"Encryption": "rot13", "Value": {}}, "unsupported encryption type: 'rot13'"),
        (base64.b64encode(b"{").decode(), "no sealed value"),
        ({"Key": "a2V5"}, "go together"),
    ],
)
def test_3_5_bad_pairs(pair: object, reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        reading.build(Ref(Kind.HOST, "h"), {"Settings": {"KeyPair": pair}})


def test_3_5_sealed_with_another_key() -> None:
    pair = Box(new_key()).seal(KeyPair(b"k", b"c"))
    with pytest.raises(Invalid, match="unable to decrypt message"):
        Box(new_key()).open(pair)
    with pytest.raises(Invalid, match="wrong key length: 2"):
        Box("abcd")


def test_3_7_protocols_networks_and_headers() -> None:
    def listener(**more: Any) -> records.Stored:
        given = {"Protocol": "HTTP", "Address": {"Network": "TCP", "Address": ":80"}, **more}
        return reading.build(Ref(Kind.LISTENER, "l"), given)

    plain = listener(ProxyProtocol="none")
    assert isinstance(plain, records.Listener)
    assert (plain.protocol, plain.network, plain.proxy) == ("http", "tcp", "")
    assert getattr(listener(ProxyProtocol="proxy_v1"), "proxy", "") == "PROXY_V1"
    for more, reason in (
        ({"Protocol": "tcp"}, "unsupported protocol 'tcp', supported protocols are http and https"),
        ({"Address": {"Network": "udp", "Address": ":1"}}, "unsupported network 'udp'"),
        ({"Address": {"Network": "tcp", "Address": ""}}, "supply a non empty address"),
        ({"Scope": "x"}, "Scope should be a valid route expression"),
        ({"ProxyProtocol": "v9"}, "Unsupported Proxy Header 'V9'"),
        ({"Settings": {"ClientAuth": {"CA": "é"}}}, "ClientAuth.CA: PEM certificates"),
    ):
        with pytest.raises(Invalid, match=reason):
            listener(**more)


def test_3_8_trap_a_middleware_that_cannot_be_used() -> None:  # V13
    rewrite = {"Type": "rewrite", "Middleware": {"Regexp": "("}}
    etcd = Etcd({"frontends/f/frontend": FRONT, "frontends/f/middlewares/m": rewrite})
    spec = etcd.traffic().frontends["f"]
    assert (spec.middlewares, spec.refuse) == ((), "")  # left out, the frontend serves
    broken = {"Type": "ratelimit", "Middleware": {"PeriodSeconds": 0}}
    etcd.put("frontends/f/middlewares/m", broken)
    assert "period seconds should be > 0" in etcd.traffic().frontends["f"].refuse  # closed: 503
    etcd.put("frontends/f/middlewares/m", LIMIT)
    etcd.put("frontends/f/middlewares/m", broken)
    assert etcd.traffic().frontends["f"].refuse == ""  # the last good version stays


def test_3_8_order_by_priority_then_id() -> None:
    etcd = Etcd({"frontends/f/frontend": FRONT})
    for name, priority in (("b", 1), ("a", 1), ("z", 0), ("c", 2)):
        etcd.put(f"frontends/f/middlewares/{name}", {**LIMIT, "Priority": priority})
    assert [m.id for m in etcd.traffic().frontends["f"].middlewares] == ["z", "a", "b", "c"]


# ---------------------------------------------------------------------- §5, §6.3


def test_5_servers_stand_in_order_of_their_ids() -> None:
    etcd = Etcd({f"backends/b/servers/{n}": {"URL": f"http://{n}:1"} for n in ("c", "a", "b")})
    assert [s.id for s in etcd.traffic().pools["b"].servers] == ["a", "b", "c"]


def test_6_3_aliases() -> None:
    aliases = configured('-aliases=Host("localhost")=Host("node7"),Path=Path').aliases
    assert aliases[0] == ('Host("localhost")', 'Host("node7")')
    etcd = Etcd({"frontends/f/frontend": {**FRONT, "Route": 'Host("localhost") && Path("/")'}})
    found = desired.traffic(etcd.catalog, desired.Defaults(listen=None, aliases=aliases)).frontends
    routes = {spec.route for spec in found.values()}
    assert routes == {'Host("localhost") && Path("/")', 'Host("node7") && Path("/")'}
    odd = configured("-aliases=a=b=c,x,d=e")  # as the original: said, and skipped
    assert odd.aliases == (("d", "e"),)
    assert len(odd.warnings) == 2


# ---------------------------------------------------------------------- §12 flags


@pytest.mark.parametrize(
    ("argv", "field", "value"),
    [
        (("-port", "80"), "listen", ":80"),
        (("--port=80", "-interface=::1"), "listen", "[::1]:80"),
        (("-default-listener=false",), "listen", None),
        (("-etcd=a:1,b:2", "-etcd", "c:3"), "etcd.endpoints", ("a:1", "b:2", "c:3")),
        (("-etcdEnableTLS", "-etcd=a:1"), "etcd.endpoints", ("https://a:1",)),
        (("-readTimeout=1m30s",), "read_timeout", 90.0),
        (("-writeTimeout=1m30s",), "write_timeout", 90.0),
        (("-logSeverity=WARNING",), "log_level", "warning"),
        (("-logSeverity=Fatal",), "log_level", "error"),
        (("-engine=memng",), "memory", True),
        ((), "drain", 0.0),  # §12.1: without limit
        (("-drain-timeout=5s",), "drain", 5.0),
        (("-memProfileRate=5", "-certPath=/x", "-etcdConsistency=WEAK"), "roots", ROOTS),
    ],
)
def test_12_flags(argv: tuple[str, ...], field: str, value: object) -> None:
    found: object = configured(*argv)
    for name in field.split("."):
        found = getattr(found, name)
    assert found == value


def test_12_a_write_timeout_that_is_too_short_is_warned_of() -> None:
    assert configured().warnings == ()
    assert "above" in configured("-serverWriteTimeout=20s").warnings[0]
    assert "counts as console" in configured("-log=zap").warnings[0]


def test_13_a_default_host_without_a_key_pair_is_named() -> None:
    etcd = Etcd({"hosts/h/host": {"Settings": {"Default": True}}, "hosts/i/host": {}})
    assert etcd.problems() == {'host "h"': "default host 'h' certificate is not passed"}


def test_lint_names_what_an_operator_may_mend() -> None:
    etcd = Etcd({
        "backends/b/backend": {"Type": "http"},
        "backends/spare/backend": {"Type": "http"},
        "backends/spare/servers/s": {"URL": "http://a:1"},
        "frontends/f/frontend": FRONT,
        "frontends/g/frontend": {**FRONT, "Priority": 5},
        "frontends/h/frontend": {**FRONT, "BackendId": "gone", "Route": "Path(`/h`)"},
        "hosts/a.example.org/host": {"Settings": {"KeyPair": KeyPair(b"k", b"c").tree()}},
        "hosts/sealed/host": {"Settings": {"KeyPair": Box(new_key()).seal(KeyPair(b"k", b"c")).text()}},
        "listeners/l": {"Protocol": "zip"},
        "vulcand/frontends/f/frontend": FRONT,
    })  # fmt: skip
    found = problems.lint(etcd.catalog, etcd.decoded.rejected, 0.0)
    told = dict(found)
    assert told["/vulcand/listeners/l"].startswith("unsupported protocol 'zip'")
    assert told['backend "b"'] == "has no servers: 503"
    assert told['backend "spare"'] == "no frontend uses it"
    assert told['frontend "h"'].startswith('backend "gone" is missing')
    whys = [why for what, why in found if what == 'frontend "f"']
    assert whys == [
        'frontend "g" has the same route and wins',  # its priority is higher
        "key /vulcand/frontends/f/frontend is in force, not vulcand/frontends/f/frontend",
    ]
    host = [why for what, why in found if what == 'host "a.example.org"']
    assert host[0] == "its private key stands in etcd in the clear"
    assert "does not load" in host[1]
    assert 'host "sealed"' not in told
    assert found == sorted(found)

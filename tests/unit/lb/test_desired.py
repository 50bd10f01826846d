# SPDX-License-Identifier: Apache-2.0
"""lb/catalog.py, desired.py, plan.py: any order of keys, one bad object costs itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.etcd.types import KeyValue, Revision
from fairlead.records import Records
from lb import desired, plan, problems, reading
from lb.catalog import Catalog
from lb.keys import ROOTS, Kind, Ref
from lb.records import Stored
from lb.state import Listener, Traffic

T = TypeVar("T")

KEYS = {
    "/vulcand/backends/b1/backend": '{"Type":"http","Settings":{"Timeouts":{"Read":"5s"}}}',
    "/vulcand/backends/b1/servers/s2": '{"URL":"http://10.0.0.2:80","Weight":2}',
    "/vulcand/backends/b1/servers/s1": '{"URL":"http://10.0.0.1:80/ignored"}',
    "/vulcand/backends/b1/servers/s3": '{"URL":"http://10.0.0.1:80"}',
    "/vulcand/backends/b10/servers/x": '{"URL":"http://10.0.0.9:80"}',
    "/vulcand/frontends/f1/frontend": '{"Type":"http","BackendId":"b1","Route":"Path(`/`)"}',
    "/vulcand/frontends/f2": '{"Type":"http","BackendId":"none","Route":"Path(`/2`)"}',
    "vulcand/frontends/f1/frontend": '{"Type":"http","BackendId":"other","Route":"Path(`/`)"}',
    "/vulcand/frontends/f3/frontend": '{"Type":"http","BackendId":"b1","Route":"Path(`/`)"}',
    "/vulcand/frontends/f3/middlewares/bad": '{"Type":"ratelimit"}',
    "/vulcand/frontends/f4/middlewares/t": '{"Type":"trace","Middleware":{"Addr":"syslog://"}}',
    "/vulcand/frontends/f5/frontend": '{"Type":"http","BackendId":"b1","Route":"Path(`/5`)","Middlewares":["f6/t","f7/h"]}',
    "/vulcand/frontends/f7/middlewares/h": '{"Type":"trace","Middleware":{"Addr":"syslog://"}}',
    "/vulcand/frontends/f6/frontend": '{"Type":"http","BackendId":"b1","Route":"Path(`/6`)","Settings":{"Headers":{"Response":{"Set":{"X":"1"}}}}}',
    "/vulcand/frontends/f6/middlewares/t": '{"Type":"trace","Middleware":{"Addr":"syslog://"}}',
    "/vulcand/frontends/f8/frontend": '{"Type":"http","BackendId":"b1","Route":"Path(`/8`)","Middlewares":["f9/none"]}',
    "/vulcand/listeners/l1": '{"Protocol":"HTTP","Address":{"Network":"tcp","Address":":80"}}',
    "/vulcand/hosts/a/host": '{"Settings":{}}',
    "/vulcand/backends/bad/backend": '{"Type":"zip"}',
    "/vulcand/backends/b1/servers/bad": "{",
    "/vulcand/frontends/bad/frontend": '{"Type":"http","BackendId":"b1","Route":"Pth(`/`)"}',
    "/vulcand/frontends/f1/middlewares/bad": '{"Type":"zap"}',
    "/vulcand/listeners/bad": '{"Protocol":"http","Address":{"Network":"tcp","Address":"x"}}',
    "/vulcand/hosts/bad/host": "[]",
}


def kv(key: str, value: str) -> KeyValue:
    return KeyValue(key.encode(), value.encode(), Revision(1), Revision(1), 1)


def load(keys: Sequence[str]) -> tuple[Catalog, Records[Stored]]:
    decoded: Records[Stored] = Records(lambda kv: reading.decode(kv, ROOTS))
    catalog = Catalog(ROOTS, decoded.good, decoded.rejected)
    for key in keys:
        catalog.update(decoded.apply([(key.encode(), kv(key, KEYS[key]))]), [key.encode()])
    return catalog, decoded


def test_traffic() -> None:
    catalog, decoded = load(list(KEYS))
    want = desired.traffic(catalog, desired.Defaults())
    assert sorted(want.pools) == [
        "b1",
        "b10",
    ]  # b10's server is not b1's (§2.1); it has no backend key
    pool = want.pools["b1"]
    assert [(s.id, s.host, s.weight) for s in pool.servers] == [
        ("s1", "10.0.0.1", 1),
        ("s2", "10.0.0.2", 2),
    ]
    assert (pool.read_timeout, pool.dial_timeout, pool.max_idle) == (5.0, 5.0, 2)
    assert want.frontends["f1"].pool == "b1"  # /vulcand wins over vulcand
    assert want.frontends["f2"].pool == "none"  # pending, V3
    assert "period seconds should be > 0" in want.frontends["f3"].refuse  # fails closed
    assert [m.id for m in want.frontends["f5"].middlewares] == ["f6/t", "f7/h"]  # shared
    assert [(m.id, m.type) for m in want.frontends["f6"].middlewares] == [
        ("/headers", "header"),
        ("t", "trace"),
    ]
    assert '"f9/none" that it shares is missing' in want.frontends["f8"].refuse
    assert want.listeners == {
        "l1": Listener("l1", "tcp", ":80"),
        "DefaultListener": Listener("DefaultListener", "tcp", ":8181"),
    }
    bad = [key for key in KEYS if "/bad" in key]
    assert sorted(decoded.rejected) == sorted(key.encode() for key in bad)


def test_problems_name_what_is_not_served_as_written() -> None:
    found = {str(ref): why for ref, why in problems.problems(load(list(KEYS))[0]).items()}
    assert found['frontend "f2"'].startswith('backend "none" is missing')
    assert "503" in found['frontend "f3"']
    assert found['middleware "f4/t"'] == 'frontend "f4" is missing'
    assert "/vulcand/frontends/f1/frontend is in force" in found['frontend "f1"']
    assert "f9/none" in found['frontend "f8"']
    assert 'middleware "f7/h"' not in found  # f5 shares it: it needs no frontend of its own
    assert "no backend key" in found['backend "b10"']


def test_the_catalog_may_change_while_it_is_looked_at() -> None:
    decoded: Records[Stored] = Records(lambda kv: reading.decode(kv, ROOTS))
    catalog = Catalog(ROOTS, decoded.good, decoded.rejected)

    def put(number: int, value: bytes | None) -> None:
        key = f"/vulcand/frontends/f{number}/frontend".encode()
        entry = kv(key.decode(), value.decode()) if value is not None else None
        catalog.update(decoded.apply([(key, entry)]), [key])

    for number in range(400):
        put(number, b'{"Type":"http","BackendId":"none","Route":"Path(`/%d`)"}' % number)
    found = []
    for number, step in enumerate(problems.steps(catalog, None)):
        found.append(step)
        put(number, None)
        put(1000 + number, b'{"Type":"http","BackendId":"none","Route":"Path(`/`)"}')
    assert len(found) > 8
    assert max(map(len, found)) <= 128
    assert len(problems.joined(found)) >= 400 - len(found)


@settings(deadline=None)
@given(st.permutations(list(KEYS)))
def test_any_order_of_keys_gives_the_same(order: list[str]) -> None:
    assert desired.traffic(load(order)[0], desired.Defaults()) == desired.traffic(
        load(list(KEYS))[0], desired.Defaults()
    )


@settings(deadline=None)  # the first middleware loads its modules
@given(st.permutations(list(KEYS)), st.integers(0, len(KEYS)))
def test_scoped_passes_lead_where_a_whole_one_does(order: list[str], gone: int) -> None:
    decoded: Records[Stored] = Records(lambda kv: reading.decode(kv, ROOTS))
    catalog = Catalog(ROOTS, decoded.good, decoded.rejected)
    defaults = desired.Defaults(listen=None)
    now = Traffic()
    for key in [*order, *order[:gone]]:
        known = key.encode() in decoded.good
        scope = catalog.update(
            decoded.apply([(key.encode(), None if known else kv(key, KEYS[key]))]), [key.encode()]
        )
        part = desired.traffic(catalog, defaults, scope)
        now = carry_out(now, plan.traffic(part, within(now, scope)))
    assert now == desired.traffic(catalog, defaults)
    assert plan.traffic(desired.traffic(catalog, defaults), now) == ()


def within(now: Traffic, scope: frozenset[Ref]) -> Traffic:
    def part(objects: dict[str, T], kind: Kind) -> dict[str, T]:
        return {n: o for n, o in objects.items() if Ref(kind, n) in scope}

    return Traffic(
        part(dict(now.listeners), Kind.LISTENER),
        part(dict(now.frontends), Kind.FRONTEND),
        part(dict(now.pools), Kind.BACKEND),
    )


def carry_out(now: Traffic, actions: Sequence[plan.Action]) -> Traffic:
    listeners, frontends, pools = dict(now.listeners), dict(now.frontends), dict(now.pools)
    for action in actions:
        match action:
            case plan.Listen(listener=listener):
                listeners[listener.id] = listener
            case plan.Close(id=name):
                del listeners[name]
            case plan.PutFrontend(frontend=frontend):
                frontends[frontend.id] = frontend
            case plan.DropFrontend(id=name):
                del frontends[name]
            case plan.PutPool(pool=pool):
                pools[pool.id] = pool
            case plan.DropPool(id=name):
                del pools[name]
    return Traffic(listeners, frontends, pools)


def test_plan_puts_before_it_drops() -> None:
    catalog, _ = load(list(KEYS))
    want = desired.traffic(catalog, desired.Defaults())
    old = Traffic(
        {"l0": Listener("l0", "tcp", ":1")},
        {"f0": want.frontends["f1"]},
        {"b0": want.pools["b10"]},
    )
    kinds = [type(action).__name__ for action in plan.traffic(want, old)]
    order = ["PutPool", "PutFrontend", "Listen", "DropFrontend", "Close", "DropPool"]
    assert kinds == sorted(kinds, key=order.index)
    assert {type(a).__name__ for a in plan.traffic(want, old) if plan.removes(a)} == set(order[3:])


@pytest.mark.parametrize(
    ("before", "after", "actions"),
    [
        pytest.param(
            '{"URL":"http://a:1"}', '{"URL":"http://a:1"}', [], id="heartbeat: nothing to do"
        ),
        pytest.param(
            '{"URL":"http://a:1"}', '{"url":"http://a:1/x"}', [], id="same server, other text"
        ),
        pytest.param(
            '{"URL":"http://a:1"}', '{"URL":"http://b:1"}', ["put pool b: b:1"], id="moved"
        ),
        pytest.param('{"URL":"http://a:1"}', "{", [], id="broken: the last good one stays"),
    ],
)
def test_server_rewritten(before: str, after: str, actions: list[str]) -> None:
    key = b"/vulcand/backends/b/servers/s"
    decoded: Records[Stored] = Records(lambda kv: reading.decode(kv, ROOTS))
    catalog = Catalog(ROOTS, decoded.good, decoded.rejected)
    catalog.update(decoded.apply([(key, kv(key.decode(), before))]))
    old = desired.traffic(catalog, desired.Defaults())
    scope = catalog.update(decoded.apply([(key, kv(key.decode(), after))]))
    part = desired.traffic(catalog, desired.Defaults(), scope)
    assert [str(a) for a in plan.traffic(part, within(old, scope))] == actions

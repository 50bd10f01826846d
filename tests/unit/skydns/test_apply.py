# SPDX-License-Identifier: Apache-2.0
import asyncio
import contextlib

from fairlead.etcd.types import LeaseID, Revision
from fairlead.testing.clock import ManualClock
from fairlead.testing.etcd import fake_etcd
from skydns import apply, desired, keys, names, observe, plan
from skydns.compiled import Answers
from skydns.policy import PROFILES, Policy
from skydns.records import Service
from skydns.state import Served

ZONE = keys.zones("z.test")[0]


def service(label, octet=1, lease=0):
    key = f"/skydns/test/z/{label}".encode()
    return Service(
        key,
        names.from_text(f"{label}.z.test"),
        address=bytes([10, 0, 0, octet]),
        lease=LeaseID(lease),
    )


def publisher(clock=lambda: 0.0):
    at = {"revision": 5}
    answers = Answers(Served(), Policy(frozenset([ZONE]), profile=PROFILES["strict"]), clock)
    return apply.Publisher(answers, lambda: Revision(at["revision"])), at


async def settle(one, wanted, scope=None):
    actions = plan.index(
        desired.services(wanted, scope), await observe.services(one.answers.served, scope)
    )
    assert await one.carry_out(actions) == ()
    one.passed("answers", None)
    return actions


async def test_what_is_desired_is_published_and_serials_follow():
    one, at = publisher()
    first = {s.key: s for s in (service("a"), service("b"))}
    await settle(one, first)
    assert dict(one.answers.served.index.services) == first
    assert one.answers.served.serial(ZONE) == 5
    assert one.answers.loaded
    at["revision"] = 9
    assert await settle(one, first) == ()
    assert one.answers.served.serial(ZONE) == 5  # nothing changed
    later = {service("b", 2).key: service("b", 2)}
    await settle(one, later)
    assert dict(one.answers.served.index.services) == later
    assert one.answers.served.serial(ZONE) == 9


async def test_a_scope_leaves_the_rest():
    one, _ = publisher()
    first = {s.key: s for s in (service("a"), service("b"))}
    await settle(one, first)
    await settle(one, {}, frozenset({service("a").key}))
    assert list(one.answers.served.index.services) == [service("b").key]


async def test_leases_are_looked_at_once_and_then_slowly():
    clock = ManualClock()
    async with fake_etcd(clock) as store:
        granted = await store.grant(60)
        one, _ = publisher(clock.monotonic)
        held = service("a", lease=granted.id)
        await settle(one, {held.key: held})
        task = asyncio.create_task(apply.follow_leases(one, apply.of_store(store), clock))
        for _ in range(20):
            await asyncio.sleep(0)
        leases = one.answers.served.leases
        assert abs(leases[granted.id] - clock.monotonic() - 60) <= 1
        assert store.faults.calls["time_to_live"] == 1
        await settle(one, {})
        assert leases == {}
        assert one.by_lease == {}
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannelpy import plan
from flannelpy.state import PROTO_OURS, Address, Fdb, File, Link, Neighbour, Route, Vxlan, mac_text

DEV = "flannel.1"


def route(n, via=None, dev=DEV):
    dst = IPv4Network(f"10.5.{n}.0/24")
    return Route(
        dst,
        IPv4Address(via) if via else dst[0],
        dev,
        onlink=dev == DEV,
        proto=3 if dev == DEV else PROTO_OURS,
    )


def neigh(n, mac):
    return Neighbour(DEV, IPv4Address(f"10.5.{n}.0"), mac)


def fdb(mac, dst):
    return Fdb(DEV, mac, IPv4Address(dst))


A, B = "2e:00:00:00:00:0a", "2e:00:00:00:00:0b"
PEER = [neigh(2, A), fdb(A, "192.0.2.2"), route(2)]
OTHER = [neigh(3, B), fdb(B, "192.0.2.3"), route(3)]
LINK = Link(DEV, Vxlan(1, "eth0", IPv4Address("192.0.2.1")), 1450, "2e:00:00:00:00:01")
OWN = [LINK, Address(DEV, IPv4Interface("10.5.1.0/32"))]


def state(things):
    return {thing.key: thing for thing in things}


@pytest.mark.parametrize(
    ("desired", "actual", "expected"),
    [
        pytest.param([], [], [], id="nothing"),
        pytest.param(PEER, PEER, [], id="agreed: silent"),
        pytest.param(
            PEER,
            [],
            [
                "put neigh 10.5.2.0 dev flannel.1 lladdr 2e:00:00:00:00:0a PERMANENT",
                "put fdb 2e:00:00:00:00:0a dev flannel.1 dst 192.0.2.2 self permanent",
                "put 10.5.2.0/24 via 10.5.2.0 dev flannel.1 onlink",
            ],
            id="peer joined",
        ),
        pytest.param(
            [],
            PEER,
            [
                "del 10.5.2.0/24 via 10.5.2.0 dev flannel.1 onlink",
                "del fdb 2e:00:00:00:00:0a dev flannel.1 dst 192.0.2.2 self permanent",
                "del neigh 10.5.2.0 dev flannel.1 lladdr 2e:00:00:00:00:0a PERMANENT",
            ],
            id="peer left",
        ),
        pytest.param(
            [neigh(2, B), fdb(B, "192.0.2.9"), route(2)],
            PEER,
            [
                "put neigh 10.5.2.0 dev flannel.1 lladdr 2e:00:00:00:00:0b PERMANENT",
                "put fdb 2e:00:00:00:00:0b dev flannel.1 dst 192.0.2.9 self permanent",
                "del fdb 2e:00:00:00:00:0a dev flannel.1 dst 192.0.2.2 self permanent",
            ],
            id="peer moved: replaced, never absent (trap T17)",
        ),
        pytest.param(
            [route(2, "192.0.2.2", "eth0")],
            PEER,
            [
                "put 10.5.2.0/24 via 192.0.2.2 dev eth0 proto 102",
                "del fdb 2e:00:00:00:00:0a dev flannel.1 dst 192.0.2.2 self permanent",
                "del neigh 10.5.2.0 dev flannel.1 lladdr 2e:00:00:00:00:0a PERMANENT",
            ],
            id="direct routing now: the tunnel's entries go",
        ),
        pytest.param(
            OWN,
            [],
            [
                "put link flannel.1 mtu 1450 address 2e:00:00:00:00:01 vxlan id 1 dev eth0 local 192.0.2.1",
                "put address 10.5.1.0/32 dev flannel.1",
            ],
            id="cold start",
        ),
        pytest.param(
            [*OWN, *PEER],
            [replace(LINK, tunnel=replace(LINK.tunnel, vni=7)), *OWN[1:], *PEER, *OTHER],
            [
                "remake link flannel.1 mtu 1450 address 2e:00:00:00:00:01 vxlan id 1 dev eth0 local 192.0.2.1",
                "put address 10.5.1.0/32 dev flannel.1",
                "put neigh 10.5.2.0 dev flannel.1 lladdr 2e:00:00:00:00:0a PERMANENT",
                "put fdb 2e:00:00:00:00:0a dev flannel.1 dst 192.0.2.2 self permanent",
                "put 10.5.2.0/24 via 10.5.2.0 dev flannel.1 onlink",
            ],
            id="VNI differs: device anew, all on it again, nothing to delete",
        ),
        pytest.param(
            [*OWN, *PEER],
            [replace(LINK, tunnel=replace(LINK.tunnel, lower="x0")), *OWN[1:], *PEER],
            [
                "put link flannel.1 mtu 1450 address 2e:00:00:00:00:01 vxlan id 1 dev eth0 local 192.0.2.1"
            ],
            id="another uplink: set in place, nothing on the device is touched",
        ),
        pytest.param(
            [LINK],
            [replace(LINK, mtu=1400, learning=True, tunnel=replace(LINK.tunnel, port=8472))],
            [
                "put link flannel.1 mtu 1450 address 2e:00:00:00:00:01 vxlan id 1 dev eth0 local 192.0.2.1"
            ],
            id="trap T15: MTU and learning drift mended in place; port 0 agrees with any",
        ),
        pytest.param(
            [File("/run/f", "x")],
            [File("/run/f", "y")],
            ["put file /run/f (1 bytes)"],
            id="subnet file",
        ),
    ],
)
def test_plan(desired, actual, expected):
    assert [str(action) for action in plan.host_state(state(desired), state(actual))] == expected


def test_only_routes_count_as_withdrawn():
    actions = plan.host_state({}, state(PEER))
    assert [plan.withdraws(action) for action in actions] == [True, False, False]


def apply(actions, actual):
    """Do to a dict what the kernel would do."""
    now = dict(actual)
    for action in actions:
        match action:
            case _ if plan.makes_link(action):  # a new device has nothing on it
                wanted = action.wanted
                now = {
                    k: v
                    for k, v in now.items()
                    if k.dev != wanted.name and getattr(v, "dev", "") != wanted.name
                }
                now[wanted.key] = wanted
            case plan.Put(wanted):
                now[wanted.key] = wanted
            case plan.Delete(gone):
                del now[gone.key]
    return now


macs = st.integers(1, 5).map(mac_text)
ips = st.integers(1, 4).map(IPv4Address)
things = st.one_of(
    st.builds(Neighbour, st.sampled_from([DEV, "flannel.2"]), ips, macs),
    st.builds(Fdb, st.sampled_from([DEV, "flannel.2"]), macs, ips),
    st.builds(
        Route,
        st.sampled_from([IPv4Network("10.5.2.0/24"), IPv6Network("fd00::/64")]),
        st.none(),
        st.sampled_from([DEV, "eth0"]),
    ),
    st.builds(
        Link,
        st.sampled_from([DEV]),
        st.builds(Vxlan, st.integers(1, 2), st.just("eth0"), ips),
        st.integers(1000, 1002),
        macs,
    ),
)
states = st.lists(things, max_size=12).map(state)


@given(states, states)
def test_applying_a_plan_reaches_what_was_wanted_and_then_there_is_none(desired, actual):
    reached = apply(plan.host_state(desired, actual), actual)
    assert plan.host_state(desired, reached) == ()
    assert reached.keys() == desired.keys()

# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface

import pytest

from fairlead.etcd.types import KeyValue, LeaseID, Revision
from flannelpy import backends, keys
from flannelpy.backends import Hop, Host, Underlay, Uplink
from flannelpy.desired import Overlay
from flannelpy.fields import FieldError
from flannelpy.keys import Subnets
from flannelpy.records import decode_lease, encode_attributes, parse_config

UPLINK = Uplink(
    "eth0",
    2,
    1500,
    IPv4Interface("192.0.2.1/24"),
    IPv6Interface("2001:db8::1/64"),
    IPv4Address("192.0.2.1"),
    IPv6Address("2001:db8::1"),
)
MAC = "2e:00:00:00:00:01"
OWN = Subnets(IPv4Network("10.5.1.0/24"))


def host(backend='{"Type":"vxlan"}', extra="", **kw):
    config = parse_config(f'{{"Network":"10.5.0.0/16"{extra},"Backend":{backend}}}'.encode())
    return Host(config, kw.pop("uplink", UPLINK), fresh_mac=MAC, **kw)


def overlay(backend='{"Type":"vxlan"}', own=OWN, **kw):
    it = host(backend, **kw)
    return Overlay(it.config, backends.build(it), own)


def lease(subnet, value, revision=5):
    key = b"/n/subnets/" + subnet.encode()
    r = Revision(revision)
    return decode_lease(KeyValue(key, value.encode(), r, r, 1, LeaseID(1)))


def vxlan_peer(n, mac, public, revision=5):
    return lease(
        f"10.5.{n}.0-24",
        f'{{"PublicIP":"{public}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}}}',
        revision,
    )


def shown(state):
    return [str(state[key]) for key in sorted(state)]


A, B = "2e:00:00:00:00:0a", "2e:00:00:00:00:0b"


def test_vxlan_peer_has_the_three_objects_of_the_spec():
    it = overlay()
    peer = vxlan_peer(2, A, "192.0.2.2")
    touched = it.update(peer.key, peer)
    assert shown(it.within(touched)) == [
        "neigh 10.5.2.0 dev flannel.1 lladdr 2e:00:00:00:00:0a PERMANENT",
        "fdb 2e:00:00:00:00:0a dev flannel.1 dst 192.0.2.2 self permanent",
        "10.5.2.0/24 via 10.5.2.0 dev flannel.1 onlink",
    ]
    assert it.update(peer.key, None) == touched
    assert it.within(touched) == {}


def test_trap_t14_device_address_is_the_base_with_32():
    assert shown(overlay().within(None)) == [
        "link flannel.1 mtu 1450 address 2e:00:00:00:00:01 vxlan id 1 dev eth0 local 192.0.2.1",
        "address 10.5.1.0/32 dev flannel.1",
    ]


def test_dual_stack_has_a_second_device():
    extra = ',"EnableIPv6":true,"IPv6Network":"fd00:5::/48"'
    own = keys.parse_lease(b"10.5.1.0-24&fd00:5:0:1::-64")
    it = overlay(own=own, extra=extra)
    assert shown(it.within(None)) == [
        "link flannel-v6.1 mtu 1430 address 2e:00:00:00:00:00 vxlan id 1 dev eth0 local 2001:db8::1",
        "link flannel.1 mtu 1450 address 2e:00:00:00:00:01 vxlan id 1 dev eth0 local 192.0.2.1",
        "address fd00:5:0:1::/128 dev flannel-v6.1",
        "address 10.5.1.0/32 dev flannel.1",
    ]
    peer = lease(
        "10.5.2.0-24&fd00:5:0:2::-64",
        '{"PublicIP":"192.0.2.2","PublicIPv6":"2001:db8::2","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"2e:00:00:00:00:0a"},"BackendV6Data":{"VNI":1,"VtepMAC":"2e:00:00:00:00:0b"}}',
    )
    assert shown(it.within(it.update(peer.key, peer))) == [
        "neigh fd00:5:0:2:: dev flannel-v6.1 lladdr 2e:00:00:00:00:0b PERMANENT",
        "neigh 10.5.2.0 dev flannel.1 lladdr 2e:00:00:00:00:0a PERMANENT",
        "fdb 2e:00:00:00:00:0b dev flannel-v6.1 dst 2001:db8::2 self permanent",
        "fdb 2e:00:00:00:00:0a dev flannel.1 dst 192.0.2.2 self permanent",
        "10.5.2.0/24 via 10.5.2.0 dev flannel.1 onlink",
        "fd00:5:0:2::/64 via fd00:5:0:2:: dev flannel-v6.1 onlink",
    ]


def test_trap_t10_mtu_is_the_outer_one_and_the_smaller_is_published():
    assert backends.build(host('{"Type":"vxlan","MTU":1400}')).mtu == 1350
    extra = ',"EnableIPv6":true,"IPv6Network":"fd00:5::/48"'
    assert backends.build(host(extra=extra)).mtu == 1430
    assert backends.build(host('{"Type":"vxlan","MTU":9000}')).mtu == 1450  # as the kernel clamps


def test_trap_t26_tunnel_source_is_the_interface_address_behind_nat():
    natted = replace(UPLINK, ext_v4=IPv4Address("198.51.100.7"))
    it = backends.build(host(uplink=natted))
    assert it.own(OWN)[0].tunnel.local == IPv4Address("192.0.2.1")
    assert encode_attributes(it.attributes()).startswith(
        b'{"PublicIP":"198.51.100.7","PublicIPv6":null'
    )


def test_own_lease_value_is_byte_exact():
    made = backends.build(
        host(
            macs={"flannel.1": "2e:6f:0b:91:c4:07"},
            uplink=replace(UPLINK, ext_v4=IPv4Address("192.0.2.11")),
        )
    )
    assert encode_attributes(made.attributes()) == (
        b'{"PublicIP":"192.0.2.11","PublicIPv6":null,"BackendType":"vxlan",'
        b'"BackendData":{"VNI":1,"VtepMAC":"2e:6f:0b:91:c4:07"}}'
    )


def test_trap_t15_a_device_keeps_its_mac():
    assert backends.build(host(macs={"flannel.1": B})).own(OWN)[0].mac == B


def test_trap_t7_alloc_has_no_backend_type_and_null_ipv6():
    made = backends.build(host('{"Type":"alloc"}'))
    assert encode_attributes(made.attributes()) == b'{"PublicIP":"192.0.2.1","PublicIPv6":null}'


def test_trap_t9_port_is_left_to_the_kernel():
    link = backends.build(host()).own(OWN)[0]
    assert link.tunnel.port == 0
    assert "dstport" not in str(link)


def test_trap_t17_old_fdb_entry_is_withdrawn_when_a_peer_changes():
    it = overlay()
    old, new = vxlan_peer(2, A, "192.0.2.2"), vxlan_peer(2, B, "192.0.2.9", 6)
    it.update(old.key, old)
    touched = it.update(new.key, new)
    assert len(touched) == 4
    assert shown(it.within(touched)) == [
        "neigh 10.5.2.0 dev flannel.1 lladdr 2e:00:00:00:00:0b PERMANENT",
        "fdb 2e:00:00:00:00:0b dev flannel.1 dst 192.0.2.9 self permanent",
        "10.5.2.0/24 via 10.5.2.0 dev flannel.1 onlink",
    ]


def test_two_leases_of_one_mac_the_later_wins_and_the_other_comes_back():
    it = overlay()
    old, new = vxlan_peer(2, A, "192.0.2.2", 5), vxlan_peer(3, A, "192.0.2.3", 9)
    for order in ((old, new), (new, old)):
        for each in order:
            it.update(each.key, each)
        assert "fdb 2e:00:00:00:00:0a dev flannel.1 dst 192.0.2.3 self permanent" in shown(
            it.within(None)
        )
    touched = it.update(new.key, None)
    assert "fdb 2e:00:00:00:00:0a dev flannel.1 dst 192.0.2.2 self permanent" in shown(
        it.within(touched)
    )


def test_trap_t25_peers_of_another_type_are_ignored_by_name():
    it = overlay()
    other = lease("10.5.2.0-24", '{"PublicIP":"192.0.2.2","BackendType":"host-gw"}')
    assert it.update(other.key, other) == set()
    assert it.ignored == {other.key: 'BackendType: "host-gw" is not ours, "vxlan"'}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ('{"PublicIP":"192.0.2.2","BackendType":"vxlan"}', "BackendData: not a JSON object"),
        (
            '{"PublicIP":"192.0.2.2","BackendType":"vxlan","BackendData":{"VtepMAC":"x"}}',
            'VtepMAC: "x"',
        ),
        (
            '{"PublicIP":"192.0.2.2","BackendType":"vxlan","BackendData":{"VtepMAC":"01:00:00:00:00:01"}}',
            "not the address of one",
        ),
        (
            '{"BackendType":"vxlan","BackendData":{"VtepMAC":"2e:00:00:00:00:01"}}',
            "PublicIP: missing",
        ),
    ],
)
def test_a_peer_that_cannot_be_used_costs_only_itself(value, reason):
    it = overlay()
    bad, good = lease("10.5.2.0-24", value), vxlan_peer(3, B, "192.0.2.3")
    it.update(bad.key, bad)
    it.update(good.key, good)
    assert reason in it.ignored[bad.key]
    assert it.peers == 1


@pytest.mark.parametrize("text", ["2E-6F-0B-91-C4-07", "2e6f.0b91.c407", "2E:6f:0B:91:c4:07"])
def test_mac_in_every_form_that_go_reads(text):
    it = overlay()
    peer = vxlan_peer(2, text, "192.0.2.2")
    it.update(peer.key, peer)
    assert "lladdr 2e:6f:0b:91:c4:07" in shown(it.within(None))[2]


def test_a_lease_outside_the_network_gets_no_route():
    it = overlay()
    wild = lease(
        "0.0.0.0-1",
        '{"PublicIP":"192.0.2.2","BackendType":"vxlan","BackendData":{"VtepMAC":"2e:00:00:00:00:0a"}}',
    )
    assert it.update(wild.key, wild) == set()
    assert "not in Network" in it.ignored[wild.key]


def test_own_lease_makes_no_objects():
    it = overlay()
    own = vxlan_peer(1, MAC, "192.0.2.1")
    assert it.update(own.key, own) == set()
    assert it.ignored == {}


def test_direct_routing_for_hosts_on_the_segment():
    underlay = Underlay(
        (
            Hop(IPv4Network("0.0.0.0/0"), "eth0", gateway=True),
            Hop(IPv4Network("192.0.2.0/24"), "eth0", gateway=False),
        )
    )
    it = overlay('{"Type":"vxlan","DirectRouting":true}', underlay=underlay)
    near, far = vxlan_peer(2, A, "192.0.2.2"), vxlan_peer(3, B, "198.51.100.3")
    for each in (near, far):
        it.update(each.key, each)
    assert shown(it.within(None))[2:] == [
        "neigh 10.5.3.0 dev flannel.1 lladdr 2e:00:00:00:00:0b PERMANENT",
        "fdb 2e:00:00:00:00:0b dev flannel.1 dst 198.51.100.3 self permanent",
        "10.5.2.0/24 via 192.0.2.2 dev eth0 proto 102",
        "10.5.3.0/24 via 10.5.3.0 dev flannel.1 onlink",
    ]


def test_host_gw_routes_through_the_peers_address():
    it = overlay('{"Type":"host-gw"}')
    peer = lease(
        "10.5.2.0-24", '{"PublicIP":"192.0.2.2","PublicIPv6":null,"BackendType":"host-gw"}'
    )
    it.update(peer.key, peer)
    assert shown(it.within(None)) == ["10.5.2.0/24 via 192.0.2.2 dev eth0 proto 102"]
    assert backends.build(host('{"Type":"host-gw"}')).mtu == 1500


def test_trap_t22_host_gw_refuses_nat():
    natted = replace(UPLINK, ext_v4=IPv4Address("198.51.100.7"))
    with pytest.raises(FieldError, match="host-gw needs the public address on eth0 itself"):
        backends.build(host('{"Type":"host-gw"}', uplink=natted))


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ("{}", 'unknown backend ""'),
        ('{"Type":"vxlam"}', 'unknown backend "vxlam"'),
        ('{"Type":"../x"}', "unknown backend"),
        ('{"Type":"gce"}', "removed from flannel"),
        ('{"Type":"ipsec"}', "not built yet"),
        ('{"Type":"vxlan","VNI":16777216}', "Backend: VNI: 16777216"),
        ('{"Type":"vxlan","Port":70000}', "Backend: Port: 70000"),
        ('{"Type":"vxlan","Learning":"yes"}', "Backend: Learning:"),
        ('{"Type":"vxlan","MTU":500}', "Backend: MTU: 500"),
    ],
)
def test_backend_refused_by_name(backend, reason):
    with pytest.raises(FieldError, match=reason):
        backends.build(host(backend))


def test_one_peer_costs_the_same_among_thousands():
    it = overlay()
    for n in range(2000):
        peer = lease(
            f"10.5.{n // 16}.{n % 16 * 16}-28",
            f'{{"PublicIP":"192.0.2.2","BackendType":"vxlan","BackendData":{{"VtepMAC":"2e:00:00:00:{n >> 8:02x}:{n & 255:02x}"}}}}',
        )
        it.update(peer.key, peer)
    peer = vxlan_peer(250, A, "192.0.2.2")
    assert len(it.update(peer.key, peer)) == 3

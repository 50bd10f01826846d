"""WireGuard's two protocols, and which endpoint a peer gets."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_network

import pytest
from pyroute2.netlink.generic.wireguard import wgmsg

from fairlead.etcd.types import KeyValue, LeaseID, Revision
from flannelpy import backends, nlmsg
from flannelpy.backends import Host, Uplink
from flannelpy.fields import FieldError
from flannelpy.records import decode_lease, encode_attributes, parse_config
from flannelpy.wireguard import genl, uapi
from flannelpy.wireguard.keyfile import Keys, public_of
from flannelpy.wireguard.objects import Endpoint, Identity, Peer, in_order, text

PRIVATE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645dd4c1f2f6b5d7a0b8a9c2c8f2a9f2e2a")
PUBLIC = public_of(PRIVATE)
PSK = bytes(range(32))
PEERS = (
    Peer(
        "flannel-wg",
        bytes([7] * 32),
        Endpoint(ip_address("192.0.2.12"), 51820),
        in_order([ip_network("10.5.2.0/24"), ip_network("fd00:5:0:2::/64")]),
        PSK,
        25,
    ),
    Peer(
        "flannel-wg",
        bytes([8] * 32),
        Endpoint(ip_address("2001:db8::12"), 51821),
        (ip_network("fd00:5:0:3::/64"),),
    ),
)


@pytest.mark.skipif(shutil.which("wg") is None, reason="wg is not installed")
def test_a_public_key_is_what_wg_says() -> None:
    done = subprocess.run(
        ["wg", "pubkey"], input=text(PRIVATE), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == text(PUBLIC)


def test_uapi_reads_back_what_it_writes() -> None:
    answer = (
        f"private_key={PRIVATE.hex()}\nlisten_port=51820\n"
        + uapi.peers(PEERS, []).removeprefix("set=1\n").replace("replace_allowed_ips=true\n", "")
        + "errno=0\n\n"
    )
    assert uapi.device("flannel-wg", answer) == (PRIVATE, 51820, PEERS)
    assert uapi.refused("errno=-98\n\n") == 98
    assert "remove=true" in uapi.peers([], PEERS)


def oracle(request: bytes) -> wgmsg:
    message = wgmsg(request)
    message.decode()
    return message


def test_genl_is_what_pyroute2_reads() -> None:
    first = oracle(genl.put(30, 7, PEERS[0]))
    assert first["cmd"] == 1
    assert first.get_attr("WGDEVICE_A_IFINDEX") == 7
    (peer,) = first.get_attr("WGDEVICE_A_PEERS")
    assert peer.get_attr("WGPEER_A_PUBLIC_KEY") == text(PEERS[0].public).encode()
    assert peer.get_attr("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL") == 25
    assert peer.get_attr("WGPEER_A_FLAGS") == 2
    assert peer.get_attr("WGPEER_A_ENDPOINT")["addr"] == "192.0.2.12"
    assert peer.get_attr("WGPEER_A_ENDPOINT")["port"] == 51820
    nets = [it["addr"] for it in peer.get_attr("WGPEER_A_ALLOWEDIPS")]
    assert nets == ["10.5.2.0/24", "fd00:5:0:2::/64"]
    gone = oracle(genl.delete(30, 7, PEERS[1]))
    assert gone.get_attr("WGDEVICE_A_PEERS")[0].get_attr("WGPEER_A_FLAGS") == 1
    mine = oracle(genl.identity(30, 7, Identity("flannel-wg", PUBLIC, 51820, PRIVATE)))
    assert mine.get_attr("WGDEVICE_A_LISTEN_PORT") == 51820


def test_genl_reads_back_what_it_writes() -> None:
    data = b"".join(nlmsg.numbered(genl.put(30, 7, it), 1) for it in PEERS)
    data += nlmsg.numbered(genl.identity(30, 7, Identity("x", PUBLIC, 51820, PRIVATE)), 1)
    assert genl.device("flannel-wg", nlmsg.replies(data)) == (PRIVATE, 51820, PEERS)


def backend(fields: str, v4: str = "192.0.2.1/24", v6: str = "2001:db8::1/64", dual: bool = True):
    six = ',"EnableIPv6":true,"IPv6Network":"fd00:5::/48"' if dual else ""
    config = parse_config(
        f'{{"Network":"10.5.0.0/16"{six},"Backend":{{"Type":"wireguard"{fields}}}}}'.encode()
    )
    uplink = Uplink(
        "eth0", 2, 1500, IPv4Interface(v4), IPv6Interface(v6),
        IPv4Address(v4.split("/")[0]), IPv6Address(v6.split("/")[0]),
    )  # fmt: skip
    return backends.build(Host(config, uplink, prepared=Keys(PUBLIC, PRIVATE)))


def lease(value: str, key: str = "10.5.2.0-24&fd00:5:0:2::-64"):
    kv = KeyValue(
        f"/x/subnets/{key}".encode(), value.encode(), Revision(1), Revision(1), 1, LeaseID(0)
    )
    return decode_lease(kv)


DATA = f'{{"PublicKey":"{text(bytes([7] * 32))}","Port":51820}}'


def value(v4: str, v6: str = "null", data: str = DATA) -> str:
    six = v6 if v6 == "null" else f'"{v6}"'
    return f'{{"PublicIP":"{v4}","PublicIPv6":{six},"BackendType":"wireguard","BackendData":{data},"BackendV6Data":{data.replace("51820", "51821")}}}'


def test_a_lease_is_written_as_the_original_does() -> None:
    written = encode_attributes(backend("", dual=False).attributes()).decode()
    assert written == (
        '{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"wireguard",'
        f'"BackendData":{{"PublicKey":"{text(PUBLIC)}","Port":51820}}}}'
    )


@pytest.mark.parametrize(
    ("mode", "own4", "own6", "peer", "endpoints"),
    [
        ("separate", "192.0.2.1/24", "2001:db8::1/64", ("192.0.2.2", "2001:db8::2"), ["192.0.2.2:51820", "[2001:db8::2]:51821"]),
        ("ipv4", "192.0.2.1/24", "2001:db8::1/64", ("192.0.2.2", "2001:db8::2"), ["192.0.2.2:51820"]),
        ("ipv6", "192.0.2.1/24", "2001:db8::1/64", ("192.0.2.2", "2001:db8::2"), ["[2001:db8::2]:51820"]),
        ("auto", "192.0.2.1/24", "2001:db8::1/64", ("192.0.2.2", "2001:db8::2"), ["192.0.2.2:51820"]),
        ("auto", "10.0.0.1/24", "2001:db8::1/64", ("10.0.0.2", "2001:db8::2"), ["[2001:db8::2]:51820"]),
        ("auto", "10.0.0.1/24", "fd99::1/64", ("10.0.0.2", "2001:db8::2"), ["10.0.0.2:51820"]),
        ("auto", "10.0.0.1/24", "2001:db8::1/64", ("10.0.0.2", "fd99::2"), ["10.0.0.2:51820"]),
    ],
)  # fmt: skip
def test_mode_chooses_where_a_peer_is(mode, own4, own6, peer, endpoints) -> None:
    made = backend(f',"Mode":"{mode}"', own4, own6)
    assert [str(it.endpoint) for it in made.peer(lease(value(*peer)))] == endpoints


def test_a_lease_without_port_has_our_own() -> None:
    old = DATA.replace(',"Port":51820', "")
    (peer,) = backend(',"ListenPort":4500', dual=False).peer(
        lease(value("192.0.2.2", data=old), "10.5.2.0-24")
    )
    assert str(peer.endpoint) == "192.0.2.2:4500"


def test_one_device_with_a_v4_only_network_needs_no_v6() -> None:
    made = backend(',"Mode":"auto"', dual=False)
    (peer,) = made.peer(lease(value("192.0.2.2"), "10.5.2.0-24"))
    assert peer.allowed == (ip_network("10.5.2.0/24"),)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (',"Mode":"Auto"', "Mode"),
        (',"PSK":"c2hvcnQ="', "PSK: a key has 32 octets"),
        (',"MTU":600', "MTU"),
        (',"ListenPort":70000', "ListenPort"),
    ],
)
def test_options_refused_by_name(fields, reason) -> None:
    with pytest.raises(FieldError, match=reason):
        backend(fields)


def test_trap_t27_another_networks_devices_have_other_names() -> None:
    made = backend("")
    other = backends.build(replace(made.host, suffix="-3f2a9c"))
    assert not {*made.devices} & {*other.devices}
    assert all(len(name) <= 15 for name in other.devices)


def test_secrets_do_not_show() -> None:
    shown = repr(Identity("x", PUBLIC, 1, PRIVATE)) + repr(PEERS[0]) + repr(Keys(PUBLIC, PRIVATE))
    assert PRIVATE.hex() not in shown
    assert repr(PRIVATE) not in shown
    assert repr(PSK) not in shown

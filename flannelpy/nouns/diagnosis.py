# SPDX-License-Identifier: Apache-2.0
"""`fairlead net doctor`: what keeps packets from arriving, and the command that mends it.

Judgements are pure functions of what was read or probed; `examine` reads and probes. Probes go
to each peer's overlay address (its subnet's base, on its own device), so an answer proves tunnel
port, routes and MTU at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from fairlead.doctor import clock, synchronised
from flannelpy.nouns import daemons, dropping, firewalld, probe
from flannelpy.nouns.finding import Finding

_PROC = Path("/proc/sys/net")
_AT_ONCE = 16  # probes


def examine(named: Sequence[Path], *, probes: bool) -> list[Finding]:
    """Look at this host, at its flannelds, and at their peers."""
    it = clock(time.time(), synchronised())
    fix = "" if it.level == "ok" else "timedatectl set-ntp true"
    found = [Finding(it.level, it.about, it.text, fix)]
    told = daemons.status(named)
    found += forwarding(any(":" in row.get("subnet", "") for row in told))
    if not told:
        text = "no flanneld runs here (no admin socket found)"
        return [*found, Finding("error", "flanneld", text, "systemctl start flanneld")]
    for row in told:
        found += list(_daemon(row))
    found += checksums(
        _udp_errors(Path("/proc/net/snmp")), [dev for row in told for dev in row.get("devices", ())]
    )
    if probes:
        for row, answer in zip(told, daemons.peers(named), strict=True):
            if "error" not in row and "subnet" in row:
                found += list(_peers(row, answer.get("peers", [])))
    return found


def forwarding(v6: bool, root: Path = _PROC) -> Iterator[Finding]:
    """Judge the forwarding sysctls."""
    wanted = {"ipv4/ip_forward": "net.ipv4.ip_forward"}
    if v6:
        wanted["ipv6/conf/all/forwarding"] = "net.ipv6.conf.all.forwarding"
    for path, name in wanted.items():
        value = _read(root / path)
        if value == "0":
            text = f"{name} is 0: containers reach no other host"
            fix = f"sysctl -w {name}=1, or flanneld -set-forwarding"
            yield Finding("error", "forwarding", text, fix)
        elif value is not None:
            yield Finding("ok", "forwarding", f"{name} is {value}")


def _daemon(row: Mapping[str, Any]) -> Iterator[Finding]:
    where = Path(row["socket"]).stem
    if "error" in row:
        text = f"{where}: {row['error']}"
        yield Finding("error", "flanneld", text, "systemctl restart flanneld")
        return
    if "subnet" not in row:
        yield Finding("error", "flanneld", f"{where} waits: {row['conditions']}")
        return
    level = "ok" if row["ready"] and not row["conditions"] else "warning"
    why = "; ".join(f"{name}: {reason}" for name, reason in row["conditions"].items())
    yield Finding(level, "flanneld", f"{where} has {row['subnet']}{': ' if why else ''}{why}")
    yield from duplicates(row["duplicates"])
    for dev in (row["interface"], *row["devices"]):
        yield from rp_filter(dev)
    yield from firewalld.examine(row)
    yield from dropping.examine(row)
    if row["drift"]:
        yield Finding("warning", "drift", f"{len(row['drift'])} actions due: {row['drift'][0]}")


def duplicates(found: Mapping[str, str]) -> Iterator[Finding]:
    """Judge other leases with our public address."""
    for key, address in found.items():
        text = f"{key} has our address {address} too: a cloned host, NAT, or a lease left behind"
        fix = "give the other host its own -public-ip; a lease left behind: fairlead net leases gc --yes"
        yield Finding("error", "duplicate", text, fix)


def rp_filter(dev: str, root: Path = _PROC) -> Iterator[Finding]:
    """Judge the source check: strict drops what comes back by another interface."""
    values = [_read(root / f"ipv4/conf/{name}/rp_filter") for name in ("all", dev)]
    if "1" in values and "2" not in values:  # the kernel takes the larger of both
        text = f"strict on {dev}: drops packets that come in by another way than answers leave"
        fix = f"sysctl -w net.ipv4.conf.{dev}.rp_filter=2"
        yield Finding("warning", "rp_filter", text, fix)
    elif values[1] is not None:
        yield Finding("ok", "rp_filter", f"not strict on {dev}")


_KEPT = "flanneld -vxlan-checksum=off keeps it so"


def checksums(errors: int | None, devices: Sequence[str]) -> Iterator[Finding]:
    """Judge the count of UDP packets that came with a wrong checksum."""
    if errors is None:
        return
    if errors:
        text = f"{errors} UDP packets came with a wrong checksum: a peer's card or driver, or NAT between"
        fix = "; ".join(f"ethtool -K {dev} tx-checksum-ip-generic off" for dev in devices)
        yield Finding("warning", "checksum", text, f"on the peers: {fix} ({_KEPT})")
    else:
        yield Finding("ok", "checksum", "no UDP packet came with a wrong checksum")


def _udp_errors(path: Path) -> int | None:
    rows = [line.split() for line in (_read(path) or "").splitlines() if line.startswith("Udp:")]
    if len(rows) < 2 or "InCsumErrors" not in rows[0]:
        return None
    return int(rows[1][rows[0].index("InCsumErrors")])


@dataclass(frozen=True, slots=True)
class Probed:
    """What came back from one peer.

    Attributes:
        largest: the largest packet that was answered, with DF set; 0: none at all.
        udp: whether a datagram to a closed port was refused, as it should be.
    """

    subnet: str
    public: str
    largest: int
    udp: bool


def _peers(row: Mapping[str, Any], peers: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    own = IPv4Network(row["subnet"].split("&")[0]) if "." in row["subnet"] else None
    if own is None:
        yield Finding("warning", "probe", "IPv6-only networks are not probed")
        return
    targets = [peer for peer in peers if not peer["ignored"] and "." in peer["subnet"]]
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            seen = list(
                pool.map(lambda peer: _probe(peer, own.network_address, row["mtu"]), targets)
            )
    except PermissionError:
        text = "probes need CAP_NET_RAW"
        yield Finding("warning", "probe", text, "run it as root, or with --no-probes")
        return
    for one in seen:
        yield from judge(one, row["mtu"], row["backend"], row["devices"])


def _probe(peer: Mapping[str, Any], source: IPv4Address, mtu: int) -> Probed:
    target = IPv4Network(peer["subnet"].split("&")[0]).network_address
    largest = search(lambda size: probe.echo(source, target, size), mtu)
    udp = bool(largest) and probe.refused(source, target)
    return Probed(peer["subnet"], peer["public_ip"], largest, udp)


def search(answered: Callable[[int], bool], most: int) -> int:
    """Return the largest size up to `most` that is answered; 0: none. At most about ten probes."""
    if answered(most):
        return most
    low, high = 84, most  # 84: ping's own size, answered wherever anything is
    if not answered(low):
        return 0
    while high - low > 4:
        middle = (low + high) // 2
        if answered(middle):
            low = middle
        else:
            high = middle
    return low


def judge(it: Probed, mtu: int, backend: str, devices: Sequence[str]) -> Iterator[Finding]:
    """Say what the probes of one peer mean."""
    who = f"{it.subnet} at {it.public}"
    if not it.largest:
        port = {
            "vxlan": "udp dport 8472 (or Backend.Port)",
            "wireguard": "udp dport 51820",
            "udp": "udp dport 8285",
        }
        text = f"{who} does not answer: is it up, and is its tunnel port open?"
        fix = f"there: nft add rule inet filter input {port.get(backend, 'ip protocol 4')} accept"
        yield Finding("error", "reach", text, fix)
        return
    if it.largest < mtu:
        text = f"{who}: packets over {it.largest} bytes are lost, MTU here is {mtu}"
        lower = it.largest + 50 if backend == "vxlan" else it.largest
        fix = (
            f'set "MTU": {lower} in the Backend of the network configuration, or mend the underlay'
        )
        yield Finding("error", "mtu", text, fix)
    else:
        yield Finding("ok", "reach", f"{who} answers packets of {mtu} bytes")
    if not it.udp:
        text = f"{who} answers ping but refuses no UDP: a firewall there, or checksums offloaded wrongly here"
        fix = "; ".join(f"ethtool -K {dev} tx-checksum-ip-generic off" for dev in devices)
        yield Finding("warning", "checksum", text, f"{fix} ({_KEPT})")


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None

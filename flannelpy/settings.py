# SPDX-License-Identifier: Apache-2.0
"""flanneld's flags and FLANNELD_* variables, each declared once (specs/flannel.md §2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fairlead.flags import Kind, Setting, Settings, common

_GONE: Final = "it went with flannel 0.8"
_KUBE: Final = "this daemon takes its network from etcd; there is no kube mode"


def _not_built(what: str) -> Callable[[Any], str | None]:
    """Refuse a true value: the flag's work is not built yet."""

    def check(value: Any) -> str | None:
        return f"not built yet: {what}" if value else None

    return check


FLANNEL: Final = (
    Setting(
        "etcd-endpoints",
        Kind.COMMA,
        ("http://127.0.0.1:4001", "http://127.0.0.1:2379"),
        "Comma-separated list of etcd endpoints.",
    ),
    Setting("etcd-prefix", default="/coreos.com/network", help="Prefix of flannel's keys."),
    Setting("etcd-keyfile", help="Key of the client certificate."),
    Setting("etcd-certfile", help="Client certificate."),
    Setting("etcd-cafile", help="Certificates that may sign etcd's."),
    Setting("etcd-username", help="User for etcd."),
    Setting("etcd-password", help="Password for etcd.", secret=True),
    Setting(
        "iface", Kind.REPEAT, help="Interface (name or IP) to reach other hosts by; repeatable."
    ),
    Setting(
        "iface-regex",
        Kind.REPEAT,
        help="Regular expression on addresses, then names, of interfaces; tried after -iface; repeatable.",
    ),
    Setting("iface-can-reach", help="Use the interface that this address is reached by."),
    Setting("public-ip", help="IPv4 address that other hosts send to."),
    Setting("public-ipv6", help="IPv6 address that other hosts send to."),
    Setting("subnet-file", default="/run/flannel/subnet.env", help="File to write the subnet to."),
    Setting(
        "subnet-lease-renew-margin",
        Kind.INT,
        60,
        "Minutes before its expiry to renew the lease, 1 to 1439.",
        unit="minutes",
    ),
    Setting("ip-masq", Kind.BOOL, False, "Masquerade traffic that leaves the overlay."),
    Setting(
        "ip-masq-fully-random-disable", Kind.BOOL, False, "Masquerade without fully random ports."
    ),
    Setting(
        "iptables-resync",
        Kind.INT,
        5,
        "Seconds between repairs of iptables' rules; nftables tells when its are changed.",
        unit="seconds",
    ),
    Setting("iptables-forward-rules", Kind.BOOL, True, "Accept the overlay's traffic in FORWARD."),
    Setting(
        "ip-blackhole-route",
        Kind.BOOL,
        False,
        "Keep a blackhole route for the own subnet, for while no bridge has it.",
    ),
    Setting("healthz-ip", default="0.0.0.0", help="Address of the health server."),  # noqa: S104
    Setting("healthz-port", Kind.INT, 0, "Port of the health server; 0: none."),
    Setting("version", Kind.BOOL, False, "Print the version and exit.", env=""),
    Setting("v", Kind.INT, 0, "Verbosity; 1 and more: debug."),
    Setting("vmodule", help="Verbosity by file.", ignored="logs have one level here, -log-level"),
    Setting("log_backtrace_at", help="Trace at a line.", ignored="there are no such lines here"),
    Setting(
        "kube-subnet-mgr", Kind.BOOL, False, "Subnets from Kubernetes.", check=_not_built(_KUBE)
    ),
    *(
        Setting(name, help="Kubernetes only.", refused=_KUBE)
        for name in (
            "kube-api-url",
            "kubeconfig-file",
            "kube-annotation-prefix",
            "net-config-path",
            "set-node-network-unavailable",
        )
    ),
    *(
        Setting(name, help="Historic.", ignored=_GONE)
        for name in ("listen", "remote", "remote-keyfile", "remote-certfile", "remote-cafile")
    ),
    Setting("networks", help="Historic.", refused="run one daemon for each network instead"),
    Setting("subnet-dir", help="Historic.", ignored=_GONE),
    Setting(
        "use-multi-cluster-cidr", Kind.BOOL, False, "Historic.", ignored="it went with flannel 0.24"
    ),
)

OURS: Final = (
    Setting(
        "on-revoke",
        default="reacquire",
        help="When the lease is revoked: reacquire a subnet, or exit with status 0 as flannel does.",
        choices=("reacquire", "exit"),
        ours=True,
    ),
    Setting(
        "on-exhausted",
        default="wait",
        help="When every subnet is taken: wait for one, or exit with status 1 as flannel does.",
        choices=("wait", "exit"),
        ours=True,
    ),
    Setting(
        "set-forwarding",
        Kind.BOOL,
        False,
        "Switch on net.ipv4.ip_forward, and net.ipv6.conf.all.forwarding in a network with IPv6.",
        ours=True,
    ),
    Setting(
        "bridge",
        help="Make a bridge of this name for containers; keep it with the subnet's first address and the overlay's MTU.",
        ours=True,
    ),
    Setting(
        "takeover-bridge",
        Kind.COMMA,
        (),
        "Bridges, e.g. cni0, from which to take the addresses of a subnet that this host no longer has.",
        ours=True,
    ),
    Setting(
        "vxlan-guard",
        Kind.BOOL,
        True,
        "Drop what comes in for the VXLAN port from others than the peers' public addresses.",
        ours=True,
    ),
    Setting(
        "vxlan-checksum",
        default="auto",
        help="Who makes the checksums of what goes into the VXLAN device: auto: the card where it can, off: software, for cards and drivers that get them wrong.",
        choices=("auto", "off"),
        ours=True,
    ),
    Setting(
        "masq-exclude",
        Kind.REPEAT,
        help="Destinations (CIDR) that see container addresses in spite of -ip-masq; repeatable.",
        ours=True,
    ),
    Setting(
        "firewall",
        default="auto",
        help="Whose rules to write; auto: nftables' when EnableNFTables is set or there is no iptables.",
        choices=("auto", "nftables", "iptables"),
        ours=True,
    ),
    Setting(
        "resync",
        Kind.DURATION,
        30.0,
        "Time between full comparisons of the kernel's tables; longer where they would take over a thousandth of it.",
        ours=True,
    ),
)

SETTINGS: Final = Settings(
    "flanneld",
    (*FLANNEL, *OURS, *common()),
    env_prefix="FLANNELD_",
    bad_env_fatal=False,
    summary="Leases this host a subnet of the overlay and programs the routes to the others.",
)

LIVE: Final = frozenset(
    {
        "iface",
        "iface-regex",
        "iface-can-reach",
        "public-ip",
        "public-ipv6",
        "subnet-lease-renew-margin",
        "on-revoke",
        "on-exhausted",
        "resync",
        "log-level",
    }
)
"""What SIGHUP applies; the rest needs a restart."""

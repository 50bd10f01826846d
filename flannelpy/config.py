# SPDX-License-Identifier: Apache-2.0
"""`Config`: what the command line asks for, checked across settings before anything starts."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeVar

from fairlead.errors import ConfigError, ConfigErrors
from fairlead.etcd.options import Options
from fairlead.flags import Values, etcd_faults
from flannelpy.firewall.wanted import Policy

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Config:
    """The daemon's configuration.

    Attributes:
        margin: seconds before its expiry to renew the lease.
        reacquire: get the subnet again when the lease is revoked; else end with status 0.
        wait: wait for a subnet when all are taken; else end with status 1.
        bridge: the containers' bridge, kept with the subnet's gateway; "": none.
        firewall: which rules, in which flavour.
        rules_resync: seconds between looks at iptables' rules.
        healthz_port: 0: no health server.
    """

    etcd: Options
    prefix: str
    iface: tuple[str, ...]
    iface_regex: tuple[str, ...]
    can_reach: IPv4Address | IPv6Address | None
    public_ip: IPv4Address | None
    public_ipv6: IPv6Address | None
    subnet_file: str
    margin: float
    ip_masq: bool
    firewall: Policy
    blackhole: bool
    software_checksums: bool
    rules_resync: float
    reacquire: bool
    wait: bool
    resync: float
    set_forwarding: bool
    takeover_bridges: tuple[str, ...]
    bridge: str
    healthz_ip: str
    healthz_port: int


def configure(values: Values) -> Config:
    """Return the configuration.

    Raises:
        ConfigErrors: all that is wrong with it.
    """
    faults: list[ConfigError] = []

    def optional(name: str, kind: Callable[[str], T], what: str) -> T | None:
        text = values.text(name)
        try:
            return kind(text) if text else None
        except ValueError:
            faults.append(values.error(name, f"not an {what} address"))
            return None

    margin = values.number("subnet-lease-renew-margin")
    if not 1 <= margin <= 1439:
        faults.append(values.error("subnet-lease-renew-margin", "must lie between 1 and 1439"))
    port = values.number("healthz-port")
    if not 0 <= port <= 65535:
        faults.append(values.error("healthz-port", "must lie between 0 and 65535"))
    if not values.text("subnet-file"):
        faults.append(values.error("subnet-file", "must not be empty"))
    if values.text("etcd-password") and not values.text("etcd-username"):
        faults.append(values.error("etcd-password", "needs -etcd-username beside it"))
    if not re.fullmatch(r"[^\s/:]{0,15}", values.text("bridge")):
        faults.append(values.error("bridge", "not an interface's name"))
    for pattern, reason in _bad_patterns(values.many("iface-regex")):
        faults.append(values.error("iface-regex", f'"{pattern}": {reason}'))
    excluded = []
    for word in _split(values.many("masq-exclude")):
        try:
            excluded.append(ip_network(word))
        except ValueError as error:
            faults.append(values.error("masq-exclude", f"{error}; write e.g. 192.0.2.0/24"))
    every = values.number("iptables-resync")
    if every < 1:
        faults.append(values.error("iptables-resync", "must be 1 or more"))
    options = Options(
        endpoints=values.many("etcd-endpoints"),
        user=values.text("etcd-username"),
        password=values.text("etcd-password"),
        ca=values.text("etcd-cafile"),  # honoured without a certificate too (trap T12)
        cert=values.text("etcd-certfile"),
        key=values.text("etcd-keyfile"),
    )
    files = {"ca": "etcd-cafile", "cert": "etcd-certfile", "key": "etcd-keyfile"}
    faults += etcd_faults(values.error, options, "etcd-endpoints", files)
    config = Config(
        etcd=options,
        prefix=values.text("etcd-prefix"),
        iface=_split(values.many("iface")),
        iface_regex=values.many("iface-regex"),
        can_reach=optional("iface-can-reach", ip_address, "IP"),
        public_ip=optional("public-ip", IPv4Address, "IPv4"),
        public_ipv6=optional("public-ipv6", IPv6Address, "IPv6"),
        subnet_file=values.text("subnet-file"),
        margin=60.0 * margin,
        ip_masq=values.flag("ip-masq"),
        firewall=Policy(
            masquerade=values.flag("ip-masq"),
            random=not values.flag("ip-masq-fully-random-disable"),
            forward=values.flag("iptables-forward-rules"),
            guard=values.flag("vxlan-guard"),
            exclude=tuple(excluded),
            flavour=values.text("firewall").lower(),
        ),
        blackhole=values.flag("ip-blackhole-route"),
        software_checksums=values.text("vxlan-checksum").lower() == "off",
        rules_resync=float(every),
        reacquire=values.text("on-revoke").lower() == "reacquire",
        wait=values.text("on-exhausted").lower() == "wait",
        resync=values.seconds("resync"),
        set_forwarding=values.flag("set-forwarding"),
        takeover_bridges=values.many("takeover-bridge"),
        bridge=values.text("bridge"),
        healthz_ip=values.text("healthz-ip"),
        healthz_port=port,
    )
    if faults:
        raise ConfigErrors(tuple(faults))
    return config


def _split(words: tuple[str, ...]) -> tuple[str, ...]:
    """Take commas too: no interface has one in its name, and FLANNELD_IFACE is but one word."""
    return tuple(filter(None, (part.strip() for word in words for part in word.split(","))))


def _bad_patterns(words: tuple[str, ...]) -> list[tuple[str, str]]:
    if not words:
        return []
    import re2  # only who gives a pattern pays for it at start

    bad = []
    for word in words:
        try:
            re2.compile(word)
        except re2.error as error:
            bad.append((word, str(error)))
    return bad

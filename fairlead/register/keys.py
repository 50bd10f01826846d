# SPDX-License-Identifier: Apache-2.0
"""What a registration writes: values that SkyDNS, vulcand and template users read. Pure.

The forms are those that others have written for years (specs/registration.md §1.1, §8.4, §8.5):
a SkyDNS record a DNS name, a server a vulcand backend, and whatever the user's own templates read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from string import Template
from typing import Final

from fairlead.errors import ConfigError

LABEL_LIMIT: Final = 54  # leaves room for "-" and 8 hex digits in a DNS label of 63


@dataclass(frozen=True, slots=True)
class Service:
    """What is announced.

    Attributes:
        id: names this instance among the service's others; made a label by `label`.
        port: 0 for a service without one.
        names: DNS names it answers for, without a final dot.
        backends: vulcand backends it is a server of.
        route: vulcand's route to the first backend; makes a frontend of its name when absent.
        extra: further keys and values, with ${id}, ${address}, ${port} and ${name} filled in.
        ttl, priority, weight, group, text: fields of the SkyDNS record; 0 and "" are left out.
    """

    id: str
    address: IPv4Address | IPv6Address
    port: int = 0
    scheme: str = "http"
    names: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    route: str = ""
    extra: tuple[tuple[str, str], ...] = ()
    ttl: int = 0
    priority: int = 0
    weight: int = 0
    group: str = ""
    text: str = ""
    skydns_prefix: str = "/skydns"
    vulcand_prefix: str = "/vulcand"


def label(text: str) -> str:
    """Return `text` as a DNS label: itself when it is one, else sanitised (§8.3).

    Equal texts give equal labels; one that had to be changed or cut carries the FNV-1a hash of
    the original, so that two different ids do not meet in one key.
    """
    clean = re.sub("[^a-z0-9-]", "-", text.lower()).strip("-")
    if clean == text and len(clean) <= LABEL_LIMIT:
        return clean
    return f"{clean[:LABEL_LIMIT].rstrip('-')}-{_fnv1a(text.encode()):08x}".lstrip("-")


def _fnv1a(data: bytes) -> int:
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def keys(service: Service) -> dict[bytes, bytes]:
    """Return the keys and values that stand under the lease."""
    leaf = label(service.id)
    found: dict[str, str] = {}
    for name in service.names:
        path = "/".join(reversed(name.split(".")))
        found[f"{_clean(service.skydns_prefix)}/{path}/{leaf}"] = _skydns(service)
    if service.backends:
        host = str(service.address)
        authority = f"[{host}]" if ":" in host else host
        server = _json({"URL": f"{service.scheme}://{authority}:{service.port}"}) + "\n"
        for backend in service.backends:
            found[f"{_clean(service.vulcand_prefix)}/backends/{backend}/servers/{leaf}"] = server
    words = {
        "id": leaf,
        "address": str(service.address),
        "port": str(service.port),
        "name": service.names[0] if service.names else "",
    }
    for key, value in service.extra:
        found[Template(key).substitute(words)] = Template(value).substitute(words)
    return {key.encode(): value.encode() for key, value in found.items()}


def standing(service: Service) -> dict[bytes, bytes]:
    """Return what must stand beside the lease, written only where it is absent.

    The original vulcand ignores servers of an unknown backend (§8.5), so the backend comes first.
    """
    prefix = _clean(service.vulcand_prefix)
    found = {
        f"{prefix}/backends/{backend}/backend": {"Id": backend, "Type": "http"}
        for backend in service.backends
    }
    if service.route and service.backends:
        name = service.backends[0]
        found[f"{prefix}/frontends/{name}/frontend"] = {
            "Id": name,
            "Type": "http",
            "BackendId": name,
            "Route": service.route,
        }
    return {key.encode(): (_json(value) + "\n").encode() for key, value in found.items()}


def _skydns(service: Service) -> str:
    # registrator's value, exactly (§1.1), when nothing else is asked for
    record: dict[str, object] = {"host": str(service.address)}
    fields = {
        "port": service.port,
        "priority": service.priority,
        "weight": service.weight,
        "text": service.text,
        "ttl": service.ttl,
        "group": service.group,
    }
    record.update((name, value) for name, value in fields.items() if value)
    return _json(record)


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _clean(prefix: str) -> str:
    return "/" + prefix.strip("/")


def faults(service: Service) -> list[ConfigError]:
    """Return what is wrong with the settings, all at once; empty when nothing is."""
    found: list[ConfigError] = []

    def fault(setting: str, value: object, reason: str) -> None:
        found.append(ConfigError(setting, str(value), "command line", reason))

    if not (service.names or service.backends or service.extra):
        fault("--dns", "", "nothing to register; give --dns, --backend or --put")
    if service.address.is_unspecified:
        fault("--address", service.address, "nobody can reach it")
    if not 0 <= service.port < 65536:
        fault("--port", service.port, "not between 0 and 65535")
    if service.backends and not service.port:
        fault("--backend", service.backends[0], "needs --port")
    if service.route and not service.backends:
        fault("--route", service.route, "needs --backend")
    for name in service.names:
        labels = name.split(".")
        if any(not 0 < len(part) <= 63 for part in labels) or len(name) > 253:
            fault("--dns", name, "a label has 1 to 63 characters, a name at most 253")
        elif not re.fullmatch("[a-z0-9_.-]+", name):
            fault("--dns", name, "only a-z, 0-9, - and _ are found by SkyDNS")
    for backend in service.backends:
        if not backend or "/" in backend:
            fault("--backend", backend, 'an id is not empty and holds no "/"')
    for key, value in service.extra:
        for text in (key, value):
            try:
                Template(text).substitute(id="", address="", port="", name="")
            except (KeyError, ValueError):
                fault("--put", text, "only ${id}, ${address}, ${port} and ${name} are known")
        if not key:
            fault("--put", f"{key}={value}", "the key is empty")
    return found

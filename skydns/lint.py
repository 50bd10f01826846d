# SPDX-License-Identifier: Apache-2.0
"""What is wrong, or surprising, with the records as they are stored. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fairlead.errors import RecordError
from skydns import keys, names
from skydns.records import Service
from skydns.state import Index


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to look at; `error`: the key serves nobody."""

    key: str
    level: str
    text: str


def lint(
    services: Iterable[Service],
    rejected: Iterable[RecordError],
    zones: Iterable[bytes],
    odd: Iterable[RecordError] = (),
) -> list[Finding]:
    """Return the findings, by key.

    Args:
        odd: what `records.decode` noted.
    """
    index = Index()
    every = sorted(services, key=lambda service: service.key)
    for service in every:
        index.put(service)
    found = [Finding(_text(error.key), "error", error.reason) for error in rejected]
    found += (Finding(_text(error.key), "warning", error.reason) for error in odd)
    ours = tuple(zones)
    for service in every:
        found += (Finding(_text(service.key), *each) for each in _look(service, index, ours))
    return sorted(found, key=lambda finding: (finding.key, finding.text))


def _look(service: Service, index: Index, zones: tuple[bytes, ...]) -> Iterable[tuple[str, str]]:
    name = service.name.lower()
    labels = list(names.labels(name))
    node = index.node(name)
    if not any(names.below(name, zone) for zone in zones) and not name.endswith(b"\x04arpa\0"):
        shown = ", ".join(map(names.to_text, zones))
        yield (
            "warning",
            f"lies in none of the zones ({shown}; --domain): nobody is answered from it",
        )
    if node is not None and node.children:
        yield (
            "warning",
            "has keys below it: they answer for the name, this record does not (trap 8)",
        )
    if node is not None and len(node.own) > 1:
        yield "warning", "another key differs from it in letter case only"
    if any(label in keys.WILDCARDS for label in labels):
        yield (
            "warning",
            'a stored "*" or "any" answers only questions that have it (trap 17); -compat strict makes "*" catch all',
        )
    if not service.address and not service.target and not service.text:
        yield "error", "has neither host nor text"
    if service.mail and not (service.address or service.target):
        yield "error", "mail without a host is no MX"
    if service.target and service.target.lower() == name:
        yield "error", "its host is its own name"
    if service.targetstrip < 0 or service.targetstrip >= names.count(
        service.target or service.name
    ):
        yield (
            "warning",
            f"targetstrip {service.targetstrip} strips nothing: it has not that many labels (trap 15)",
        )
    if not 0 <= service.weight <= 65535:
        yield "warning", f"weight {service.weight} is not within 0 and 65535"
    if not 0 <= service.priority <= 65535:
        yield "warning", f"priority {service.priority} is not within 0 and 65535"


def _text(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")

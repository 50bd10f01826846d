# SPDX-License-Identifier: Apache-2.0
"""The plugin `etcd`."""

from __future__ import annotations

from typing import Any, Final

from skydns import keys
from skydns.corefile.grammar import Block, CorefileError, Directive
from skydns.corefile.said import Said, one, seconds, zones

_NOTHING: Final = frozenset(("stubzones", "upstream", "debug"))  # no effect in the original either
_TLS: Final = {
    0: (), 1: ("ca-cert",), 2: ("tls-pem", "tls-key"), 3: ("tls-pem", "tls-key", "ca-cert"),
}  # fmt: skip


def etcd(plugin: Directive, block: Block, said: Said) -> None:
    """Take over where the records are, and what leases count."""
    settings: dict[str, Any] = {"path-prefix": "/skydns", "machines": ("http://localhost:2379",)}
    for each in plugin.properties:
        match each.name:
            case "path":
                # in its one form: other blocks may spell it otherwise
                settings["path-prefix"] = keys.clean(one(each)).decode() or one(each)
            case "endpoint":
                if not each.args:
                    raise CorefileError(f"line {each.line}: endpoint takes at least one argument")
                settings["machines"] = each.args
            case "credentials":
                if len(each.args) != 2:
                    raise CorefileError(f"line {each.line}: credentials requires 2 arguments")
                if all(each.args):
                    settings["username"], settings["password"] = each.args
            case "tls":
                if len(each.args) not in _TLS:
                    raise CorefileError(f"line {each.line}: tls takes at most three arguments")
                settings |= zip(_TLS[len(each.args)], each.args, strict=True)
            case "min-lease-ttl":
                said.least_lease = int(seconds(one(each), each.line)) or 30
            case "max-lease-ttl":
                said.most_lease = int(seconds(one(each), each.line)) or 86400
            case "fallthrough":
                if block.all("forward"):  # else there is nothing that it could fall through to
                    for zone in each.args or plugin.args or block.zones:
                        said.fallthrough.update(zones(zone, each.line))
            case "no_apex_fallback":
                if each.args:
                    raise CorefileError(f"line {each.line}: no_apex_fallback takes no argument")
                said.apex_fallback = False
            case name if name in _NOTHING:
                said.without_effect(each.line, f"etcd: {name} has no effect, as in the original")
            case name:
                raise CorefileError(f"line {each.line}: etcd: unknown property '{name}'")
    for name, value in settings.items():
        if said.settings.setdefault(name, value) != value:
            raise CorefileError(
                f"line {plugin.line}: etcd: another block has another {name}: run a skydns for each"
            )

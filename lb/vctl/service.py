# SPDX-License-Identifier: Apache-2.0
"""vctl log, top, route, export, import, diff, validate."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Final

from fairlead.flags import Kind, Setting, Values
from lb import masking, reading
from lb.fields import Invalid
from lb.keys import Kind as Object
from lb.keys import Ref
from lb.vctl import views
from lb.vctl.client import JSON, ApiError, Client
from lb.vctl.command import Command, Outcome

# ---------------------------------------------------------------------- log


def _set_severity(client: Client, values: Values) -> Outcome:
    answer = client.call("PUT", "log", "severity", form={"severity": values.text("severity")})
    return Outcome(answer, message="log severity updated")


def _get_severity(client: Client, values: Values) -> Outcome:
    answer = client.call("GET", "log", "severity")
    return Outcome(answer, message=f"severity: {answer.get('severity')}")


LOG: Final = {
    "set_severity": Command(
        "Set the log's severity.",
        _set_severity,
        (Setting("severity", help="info, warning, error, …", aliases=("s",)),),
    ),
    "get_severity": Command("Show the log's severity.", _get_severity),
}

# ---------------------------------------------------------------------- top


def _top(client: Client, values: Values) -> Outcome:
    limit, backend = values.number("limit"), values.text("backend")
    wait = values.number("refresh")
    while True:
        asked = {"limit": str(limit), "backendId": backend}
        frontends = client.call("GET", "top", "frontends", query=asked).get("Frontends") or []
        servers = client.call("GET", "top", "servers", query=asked).get("Servers") or []
        text = views.top(frontends, servers)
        if not wait or not sys.stdout.isatty():
            return Outcome({"Frontends": frontends, "Servers": servers}, text=text)
        sys.stdout.write(f"\x1b[2J\x1b[H{time.strftime('%Y-%m-%d %H:%M:%S')}\n{text}")
        sys.stdout.flush()
        try:
            time.sleep(wait)
        except KeyboardInterrupt:
            return Outcome({}, done=True)


TOP: Final = {
    "": Command(
        "Show frontends and servers with the most errors and requests.",
        _top,
        (
            Setting("limit", Kind.INT, 20, "How many."),
            Setting("refresh", Kind.INT, 1, "Seconds until the next look; 0: only one.", unit="s"),
            Setting("backend", help="Only of this backend.", aliases=("b",)),
        ),
    )
}

# ---------------------------------------------------------------------- route


def _route(client: Client, values: Values) -> Outcome:
    if len(values.args) not in (1, 2):
        raise ApiError("vctl route test [METHOD] URL")
    *method, url = values.args
    asked = {"method": method[0] if method else "GET", "url": url}
    answer = client.call("GET", "route", query=asked)
    lines = [f"{answer['Frontend'] or '404'}: {answer['Why']}"]
    if answer["Frontend"]:
        lines.append(f"  {answer['Route']} to backend {answer['Backend']}")
    lines += [f"  not {other['Id']}: {other['Route']}" for other in answer["Shadowed"]]
    return Outcome(answer, text="\n".join(lines) + "\n", good=bool(answer["Frontend"]))


ROUTE: Final = {
    "test": Command("Tell which frontend a request goes to: [METHOD] URL.", _route, words=True)
}

# ---------------------------------------------------------------------- export, import, diff, validate

_PLURALS: Final = ("Hosts", "Listeners", "Backends", "Frontends")
_INNER: Final = {"Backends": ("Servers", "servers"), "Frontends": ("Middlewares", "middlewares")}


def _gather(client: Client) -> JSON:
    """Return everything, servers and middlewares inside what they belong to."""
    whole: JSON = {}
    for plural in _PLURALS:
        asked = {"keys": "true"} if plural == "Hosts" and client.guarded else {}
        found = client.call("GET", plural.lower(), query=asked).get(plural) or []
        if plural in _INNER:
            inner, path = _INNER[plural]
            for one in found:
                found_inside = client.call("GET", plural.lower(), one["Id"], path).get(inner) or []
                # a frontend's field of this name lists the middlewares of others that it shares
                one[inner] = [*(one.get(inner) or ()), *found_inside]
        whole[plural] = found
    return whole


def _export(client: Client, values: Values) -> Outcome:
    whole = _gather(client)
    return Outcome(whole, text=json.dumps(whole, indent=2) + "\n")


def _read(values: Values) -> JSON:
    if len(values.args) != 1:
        raise ApiError("one FILE is wanted, - for stdin")
    path = values.args[0]
    try:
        whole = json.loads(sys.stdin.read() if path == "-" else Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ApiError(f"{path}: {error}") from error
    if not isinstance(whole, dict) or any(name not in _PLURALS for name in whole):
        raise ApiError(f"{path}: an object with {', '.join(_PLURALS)} is wanted")
    return whole


def _flat(whole: JSON) -> dict[Ref, JSON]:
    """Return every object of an export by its identity, parents first."""
    found: dict[Ref, JSON] = {}
    kinds = {"Hosts": Object.HOST, "Listeners": Object.LISTENER, "Backends": Object.BACKEND, "Frontends": Object.FRONTEND}  # fmt: skip
    inner = {"Servers": Object.SERVER, "Middlewares": Object.MIDDLEWARE}
    for plural in _PLURALS:
        for one in whole.get(plural) or []:
            name = str(one.get("Name" if plural == "Hosts" else "Id"))
            children = _INNER.get(plural, ("", ""))[0]
            inside = one.get(children) or []
            whole_one = {n: v for n, v in one.items() if n != children}
            shared = [child for child in inside if isinstance(child, str)]
            found[Ref(kinds[plural], name)] = whole_one | ({children: shared} if shared else {})
            for child in (child for child in inside if isinstance(child, dict)):
                found[Ref(inner[children], str(child.get("Id")), name)] = child
    return found


def _differences(client: Client, whole: JSON) -> list[tuple[str, Ref]]:
    wanted, standing = _flat(whole), _flat(_gather(client))
    put = [("+" if ref not in standing else "~", ref) for ref in wanted if standing.get(ref) != wanted[ref]]  # fmt: skip
    return put + [("-", ref) for ref in reversed([*standing]) if ref not in wanted]


_PATHS: Final = {
    Object.HOST: ("hosts", "Host"),
    Object.LISTENER: ("listeners", "Listener"),
    Object.BACKEND: ("backends", "Backend"),
    Object.FRONTEND: ("frontends", "Frontend"),
    Object.SERVER: ("servers", "Server"),
    Object.MIDDLEWARE: ("middlewares", "Middleware"),
}


def _path(ref: Ref) -> tuple[str, ...]:
    plural = _PATHS[ref.kind][0]
    if ref.kind is Object.SERVER:
        return "backends", ref.parent, plural
    return ("frontends", ref.parent, plural) if ref.kind is Object.MIDDLEWARE else (plural,)


def _diff(client: Client, values: Values) -> Outcome:
    found = _differences(client, _read(values))
    text = "".join(f"{sign} {ref}\n" for sign, ref in found)
    return Outcome([[sign, str(ref)] for sign, ref in found], text=text or "no difference\n", good=not found)  # fmt: skip


def _import(client: Client, values: Values) -> Outcome:
    whole = _read(values)
    wanted = _flat(whole)
    count = 0
    for sign, ref in _differences(client, whole):
        if sign == "-":
            if values.flag("prune"):
                client.call("DELETE", *_path(ref), ref.id)
                count += 1
            continue
        try:
            client.call("POST", *_path(ref), body={_PATHS[ref.kind][1]: wanted[ref]})
        except ApiError as error:
            raise ApiError(f"{ref}: {error}; {count} objects changed before it") from error
        count += 1
    return Outcome({"changed": count}, message=f"{count} objects changed")


def _without_masks(tree: JSON) -> JSON:
    """Return an object without what an export to a caller without rights left out of it."""

    def clear(value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {n: clear(v) for n, v in value.items() if not _masked(n, v)}

    return {name: clear(value) for name, value in tree.items()}


def _masked(name: str, value: object) -> bool:
    if not isinstance(value, dict):
        return name == "Key" and masking.is_mask(value)
    if name == "ExternalAccount":
        return not value.get("MACKey") or masking.is_mask(value["MACKey"])
    return "KeyFingerprint" in value and not value.get("Key")


def _validate(client: Client, values: Values) -> Outcome:
    faults = []
    for ref, tree in _flat(_read(values)).items():
        try:
            reading.build(ref, _without_masks(tree))
        except Invalid as error:
            faults.append(f"{ref}: {error}")
    text = "".join(f"{fault}\n" for fault in faults)
    return Outcome(faults, text=text, message="no faults", good=not faults)


EXPORT: Final = {"": Command("Print every object as one JSON document.", _export)}
IMPORT: Final = {
    "": Command(
        "Write what differs from a document of export: FILE.",
        _import,
        (Setting("prune", Kind.BOOL, False, "Remove what the document lacks, too."),),
        words=True,
    )
}
DIFF: Final = {
    "": Command("Tell what import would change: FILE; exit 1 where anything.", _diff, words=True)
}
VALIDATE: Final = {"": Command("Check a document without writing it: FILE.", _validate, words=True)}

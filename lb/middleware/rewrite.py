# SPDX-License-Identifier: Apache-2.0
"""rewrite: another path for the server, a redirect, a body run as a template (specs/vulcand.md §4.3).

The original executes the whole rewritten URL as a template, the client's own text in it too.
Here the template is the `Replacement` alone: braces that the client sent stay braces.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

from fairlead.flags import Kind, Setting, Values
from fairlead.gotemplate import Template, TemplateError
from lb.fields import Fields, Invalid
from lb.middleware import Answer, Exchange, Link, Reply, line
from lb.middleware.request import Data
from lb.middleware.types import Type
from lb.regexp import RegexpError, compiled

_REFERENCE: Final = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<braced>\w+)\}|(?P<name>\w+))", re.ASCII)
_MEMORY: Final = 1 << 20  # what a compiled expression may take in RE2
_BROKEN: Final = Reply(500, b"Internal Server Error")

Part = str | int  # text, or the number of a group


def parse_replacement(text: str, groups: dict[str, int], most: int) -> tuple[Part, ...]:
    """Return a replacement's parts by Go's rules: `$1x` is the group named `1x`, none is empty."""
    parts: list[Part] = []
    at = 0
    for found in _REFERENCE.finditer(text):
        parts.append(text[at : found.start()])
        at = found.end()
        if found["dollar"]:
            parts.append("$")
            continue
        name = found["braced"] or found["name"]
        number = int(name) if name.isdigit() else groups.get(name, most + 1)
        if number <= most:
            parts.append(number)
    parts.append(text[at:])
    return tuple(part for part in parts if part != "")


class Rewrite(Link):
    """See the module's words."""

    __slots__ = ("_body", "_parts", "_pattern", "_redirect", "_template")

    def __init__(self, regexp: str, replacement: str, *, body: bool, redirect: bool) -> None:
        try:
            self._pattern = compiled(regexp, _MEMORY) if regexp else None
        except RegexpError as error:
            raise Invalid(f"invalid regexp '{regexp}': {error}") from error
        self._template = "{{" in replacement
        self._body = body
        self._redirect = redirect
        self._parts: tuple[Part, ...] = ()
        if self._pattern is not None:
            groups = {str(name): int(number) for name, number in self._pattern.groupindex.items()}
            self._parts = parse_replacement(replacement, groups, self._pattern.groups)
        if self._template:
            try:
                _template(replacement)
            except TemplateError as error:
                raise Invalid(f"invalid template '{replacement}': {error}") from error

    def on_request(self, exchange: Exchange) -> Reply | None:
        """Rewrite what matches."""
        if self._pattern is None:
            exchange.notes[self] = True
            return None
        secure = exchange.tls is not None or exchange.header("X-Forwarded-Proto") == b"https"
        old = (b"https://" if secure else b"http://") + exchange.host + exchange.target
        new = self._replace(self._pattern, old.decode("utf-8", "replace"))
        if new is None:
            return None
        if self._template:
            try:
                new = _template(new).render(Data(exchange))
            except TemplateError:
                return _BROKEN
        parsed = _parsed(new)
        if parsed is None:
            return _BROKEN
        if self._redirect and new.encode("utf-8", "replace") != old:
            return Reply(302, b"Found", fields=line("Location", "".join(parsed)))
        _, path, query, _ = parsed
        exchange.target = (path if path.startswith("/") else "/" + path).encode() + query.encode()
        exchange.notes[self] = True
        return None

    def _replace(self, pattern: Any, subject: str) -> str | None:
        """Return the subject with all matches replaced, None where there is none."""
        out: list[str] = []
        at, seen = 0, -1
        keep = _literal if self._template else str
        for found in pattern.finditer(subject):
            start, end = found.span()
            if start == end == seen:
                continue  # as Go: an empty match next to another does not count
            out.append(keep(subject[at:start]))
            out += [
                part if isinstance(part, str) else keep(found.group(part) or "")
                for part in self._parts
            ]
            at = seen = end
        if seen < 0:
            return None
        out.append(keep(subject[at:]))
        return "".join(out)

    def on_response(self, exchange: Exchange, answer: Answer) -> None:
        """Have the body run as a template."""
        if not self._body or not exchange.notes.get(self):
            return
        data = Data(exchange)

        def render(body: bytes) -> bytes:
            try:
                text = _template(body.decode("utf-8", "surrogateescape")).render(data)
            except TemplateError as error:
                return str(getattr(error, "rendered", "")).encode("utf-8", "surrogateescape")
            return text.encode("utf-8", "surrogateescape")

        answer.filter = render


_KEPT: Final = "".join(map(chr, range(0x21, 0x7F)))
_PATH: Final = "/%:@!$&'()*+,;=[]~"  # beside letters, digits and _.-: as net/url has it
_URL: Final = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]*:(?://)?)?((?<=://)[^/?#]*)?([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL
)
_HOST: Final = re.compile(  # the last colon begins a port
    r"([^@]*@)?(\[[^\[\] <>\"]*\](:[0-9]*)?|[^\[\] <>\":%]*|[^\[\] <>\"%]*:[0-9]*)"
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_HALF_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def _literal(text: str) -> str:
    """Return text that a template renders as it is."""
    return text.replace("{{", '{{"{{"}}')


@lru_cache(maxsize=256)
def _template(text: str) -> Template:
    return Template("rewrite", text)


def _parsed(url: str) -> tuple[str, str, str, str] | None:
    """Return a URL's scheme and host, path, query and fragment, with what it must not hold escaped.

    None for what Go's net/url refuses: control bytes, half an escape in the path, a port that is no
    number, a colon in front of the first slash that ends no scheme.
    """
    found = _URL.fullmatch(url)
    if found is None or _CONTROL.search(url):
        return None
    begin, host, path, query, fragment = (part or "" for part in found.groups())
    if _HALF_ESCAPE.search(path) or (not begin and ":" in path.partition("/")[0]):
        return None
    if host and not _HOST.fullmatch(host):
        return None
    return (
        begin + quote(host, safe=_KEPT),
        quote(path, safe=_PATH, errors="surrogateescape"),
        quote(query, safe=_KEPT, errors="surrogateescape"),
        quote(fragment, safe=_KEPT, errors="surrogateescape"),
    )


def _make(fields: Fields) -> Link:
    return Rewrite(
        fields.text("Regexp"),
        fields.text("Replacement"),
        body=fields.flag("RewriteBody"),
        redirect=fields.flag("Redirect"),
    )


def _body(values: Values) -> dict[str, Any]:
    return {
        "Regexp": values.text("regexp"),
        "Replacement": values.text("replacement"),
        "RewriteBody": values.flag("rewriteBody"),
        "Redirect": values.flag("redirect"),
    }


TYPE: Final = Type(
    _make,
    (
        Setting("regexp", help="What to match in scheme://host/path?query, in RE2's syntax."),
        Setting("replacement", help="What to put there: $1, ${name}, templates."),
        Setting("rewriteBody", Kind.BOOL, False, "Run the response's body as a template."),
        Setting("redirect", Kind.BOOL, False, "Answer 302 instead of asking the server."),
    ),
    _body,
    zeros={"Regexp": "", "Replacement": "", "RewriteBody": False, "Redirect": False},
)

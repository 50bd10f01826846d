# SPDX-License-Identifier: Apache-2.0
"""Resource files, key paths and path patterns (specs/confd.md §3, §4; traps 1, 3, 8, 16)."""

from __future__ import annotations

import pytest

from confd.keys import effective_prefix, fetch_key, ranges, store_name
from confd.paths import BadPattern, base, clean, compile_pattern, directory, literal_prefix, matcher
from confd.records import Defaults, Dialect, Wait, decode_resource
from fairlead.errors import ConfigErrors
from fairlead.etcd.types import KeyRange

PLAIN = Defaults()
MINIMAL = 'src = "a.tmpl"\ndest = "/etc/a"\n'


def decode(lines: str, defaults: Defaults = PLAIN) -> object:
    return decode_resource("a.toml", f"[template]\n{MINIMAL}{lines}", defaults)


def test_all_fields() -> None:
    found = decode_resource(
        "a.toml",
        """[Template]
        SRC = "a.tmpl"
        Dest = "/etc/a"
        keys = ["/app/", "b", "/app"]
        prefix = "own"
        mode = "0600"
        uid = 33
        group = "www"
        check_cmd = "true"
        reload_cmd = "false"
        check_cmd_timeout = "1m30s"
        """,
    )
    assert (found.src, found.dest, found.prefix) == ("a.tmpl", "/etc/a", "/own")
    assert found.keys == ("/own/app", "/own/b")
    assert (found.mode, found.uid, found.gid, found.group) == (0o600, 33, None, "www")
    assert (found.check_seconds, found.reload_seconds) == (90, 60)
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("common", "own", "mode", "effective"),
    [
        ("/g", "r", "override", "/g"),
        ("", "r/", "override", "/r"),
        ("", "", "override", "/"),
        ("g", "/r", "join", "/g/r"),
        ("", "", "join", "/"),
    ],
)
def test_prefix_generations(common: str, own: str, mode: str, effective: str) -> None:
    """Trap 1."""
    assert effective_prefix(common, own, mode) == effective


@pytest.mark.parametrize(
    ("text", "mode", "warned"),
    [("0644", 0o644, 0), ("0o644", 0o644, 0), ("644", 0o204, 1), ("04755", 0o755, 0), ("0x1a4", 0o644, 0)],
)  # fmt: skip
def test_mode(text: str, mode: int, warned: int) -> None:
    """Trap 3: without a leading 0 it is decimal, and said so."""
    found = decode(f'mode = "{text}"')
    assert (found.mode, len(found.warnings)) == (mode, warned)  # type: ignore[attr-defined]


def test_octal_mode() -> None:
    """Trap 3 has a switch: files that were written for an octal reading."""
    lines = '[template]\nsrc = "a"\ndest = "/a"\nmode = "{}"\n'
    for text, mode in (("644", 0o644), ("0600", 0o600), ("0o640", 0o640)):
        found = decode_resource("a.toml", lines.format(text), Defaults(octal_mode=True))
        assert (found.mode, found.warnings) == (mode, ())
    with pytest.raises(ConfigErrors, match="octal"):
        decode_resource("a.toml", lines.format("689"), Defaults(octal_mode=True))


@pytest.mark.parametrize(
    ("lines", "faults"),
    [
        ('mode = "rw"\nkeys = "/a"\nuid = "root"', ["mode", "keys", "uid"]),
        ("mode = 420", ["mode"]),
        ('output_format = "ini"\ndebounce = "2"', ["output_format", "debounce"]),
        ('strict = "yes"\nwait = {min = "2s", max = "1s"}', ["strict", "wait"]),
        ('for_each = "/a/*"', ["dest"]),
        ('check_cmd_timeout = "soon"', ["check_cmd_timeout"]),
        ('keys = [" "]', ["keys"]),
    ],
)
def test_all_faults_at_once(lines: str, faults: list[str]) -> None:
    with pytest.raises(ConfigErrors) as caught:
        decode(lines)
    assert sorted(error.setting for error in caught.value.errors) == sorted(
        f'key "{name}"' for name in faults
    )


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("[template", "not TOML"),
        ("x = 1", "missing"),
        ('[template]\nsrc = "a"', 'key "dest"'),
        ('[template]\ndest = "/a"', "empty src template"),
        (f"[template]\n{MINIMAL}[backend]\nnodes = []", 'needs a key "backend"'),
        (f"[template]\n{MINIMAL}[group]\n", r"made of \[\[template\]\]"),
        (f"[[template]]\n{MINIMAL}[[template]]\n{MINIMAL}", "stands twice"),
        (f"[[template]]\n{MINIMAL}reload_cmd = 'x'", r"into the table \[group\]"),
        ('[template]\nsrc = "a"\ndest = "/etc/"', "must name a file"),
    ],
)
def test_refused(document: str, said: str) -> None:
    with pytest.raises(ConfigErrors, match=said):
        decode_resource("a.toml", document)


def test_our_own_keys() -> None:
    found = decode_resource(
        "a.toml",
        """[group]
        name = "web"
        check_cmd = "true"
        wait = {min = "1s", max = "3s"}
        splay = "2s"
        min_reload_interval = "1m"
        [[template]]
        src = "a"
        dest = "/etc/a"
        keys = ["/a", "vault:/db", "other:/x"]
        strict = true
        left_delimiter = "<<"
        [[template]]
        src = "b"
        dest = "/etc/b/{{.Name}}"
        for_each = "/b/*"
        [backend]
        backend = "env"
        """,
        Defaults(sources=frozenset({"vault"})),
    )
    assert (found.dest, found.check_cmd, found.wait) == ("web", "true", Wait(1, 3, 2))
    assert found.reload_interval == 60
    one, two = found.members
    assert (one.dialect, two.for_each) == (Dialect("<<", strict=True), "/b/*")
    assert one.keys == ("/a", "vault:/db", "/other:/x"), "an unknown name is part of the key"
    own = found.backend
    assert own == '{"backend": "env"}'
    assert found.fetches == {own: ("/a", "/other:/x"), "vault": ("/db",)}


def test_defaults_count_where_a_resource_says_nothing() -> None:
    given = Defaults(check_seconds=1, reload_seconds=2, debounce=3, prefix="/g")
    found = decode('keys = ["/k"]', given)
    assert (found.check_seconds, found.reload_seconds) == (1, 2)  # type: ignore[attr-defined]
    assert (found.wait, found.keys) == (Wait(3, 3), ("/g/k",))  # type: ignore[attr-defined]


def test_unknown_key_is_a_warning_with_a_hint() -> None:
    found = decode('reload_comand = "x"')
    assert found.warnings == (  # type: ignore[attr-defined]
        'key "reload_comand" is unknown and ignored; did you mean "reload_cmd"?',
    )


def test_ranges_need_no_rights_outside_the_keys() -> None:
    """Trap 16, and siblings that share the prefix are not read."""
    assert ranges(["/app", "/app/sub", "/b"]) == (
        KeyRange(b"/app/", b"/app0"),
        KeyRange(b"/b/", b"/b0"),
        KeyRange(b"/app"),
        KeyRange(b"/b"),
    )
    assert ranges(["/", "/app"]) == (KeyRange(b"/", b"0"),)
    assert ranges([]) == ()


def test_names_in_the_store_are_clean() -> None:
    """Trap 8: slashes matter in getv, not in keys."""
    assert fetch_key("/", "//app/./x/../") == "/app"
    assert store_name("/g", b"/g/u//v") == "/u/v"
    assert store_name("/", b"/t/") == "/t"
    assert store_name("/", b"/\xff") == "/\udcff"


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [("", "."), ("/", "/"), ("//a//b/", "/a/b"), ("a/../..", ".."), ("/../a", "/a"), ("./a", "a")],
)
def test_clean(path: str, cleaned: str) -> None:
    assert clean(path) == cleaned


def test_base_and_directory() -> None:
    assert [base(p) for p in ("/a/b", "/", "", "a/")] == ["b", "/", ".", "a"]
    assert [directory(p) for p in ("/a/b", "/", "a", "/a/b/")] == ["/a", "/", ".", "/a/b"]


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("/a/*", "/a/b", True),
        ("/a/*", "/a/b/c", False),
        ("/a/*", "/a/", True),
        ("/a/*", "/ab/", False),
        ("/a/b*", "/a/bc", True),
        ("/a/b*", "/a/bc/d", False),
        (r"/a\*", "/a*", True),
        ("*", "/a", False),
        ("/?", "/é", True),
        ("/[a-c]x", "/bx", True),
        ("/[^a-c]x", "/bx", False),
        (r"/\*", "/*", True),
        (r"/[\]]", "/]", True),
        ("/[!a]", "/!", True),
        ("/**", "/ab", True),
    ],
)
def test_match(pattern: str, name: str, matches: bool) -> None:
    assert bool(compile_pattern(pattern).fullmatch(name)) is matches
    assert bool(matcher(pattern)(name)) is matches


@pytest.mark.parametrize("pattern", ["[", "a\\", "[]", "[a", "[a-", "[]a]", "[-x]"])
def test_malformed_patterns(pattern: str) -> None:
    with pytest.raises(BadPattern):
        compile_pattern(pattern)
    assert literal_prefix("/a/b*c") == "/a/b"

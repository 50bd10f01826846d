# SPDX-License-Identifier: Apache-2.0
"""lb/route: the language (specs/vulcand.md §6), its precedence, the index against the reference."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lb import explain
from lb.expr import ExpressionError
from lb.route.match import Index, Query, host_subject, reference
from lb.route.order import ORDERS
from lb.route.parse import parse
from lb.state import Frontend


def query(method: str = "GET", host: str = "h", path: str = "/", **headers: str) -> Query:
    named = {name.replace("_", "-"): value.encode() for name, value in headers.items()}
    return Query(
        method.encode(), host_subject(host.encode()), path.encode(), lambda n: named.get(n, b"")
    )


def winner(routes: dict[str, str], request: Query) -> str | None:
    index: Index[str] = Index()
    for name, text in routes.items():
        index.put(name, parse(text), name)
    found = index.match(request)
    assert found == reference([(parse(text), name) for name, text in routes.items()], request)
    return found


MATCHES = [
    ('Path("/a")', query(path="/a"), True),
    ('Path("/a")', query(path="/a/"), False),
    ("Path(`/a`)", query(path="/a"), True),
    ('Path("/users/<id>")', query(path="/users/7"), True),
    ('Path("/users/<id>")', query(path="/users/"), True),  # trap 1: empty matches
    ('Path("/users/<id>")', query(path="/users/7/x"), False),
    ('Path("/users/<string:id>/x")', query(path="/users/7/x"), True),
    ('Path("/a/<path:rest>")', query(path="/a/b/c"), True),
    ('Path("/a/<path:rest>")', query(path="/a/"), True),
    ('Path("/x/<int:n>")', query(path="/x/12"), True),  # trap 3, V8
    ('Path("/x/<int:n>")', query(path="/x/a"), False),
    ('Path("/x/<int:n>/y")', query(path="/x/12/y"), True),
    ('Path("/a<b")', query(path="/a<b"), True),
    ('Path("/<>")', query(path="/<>"), True),
    ('Path("/<>")', query(path="/x"), False),
    ('Path("/<int:>")', query(path="/12"), True),
    ('Path("/a/<id>") && Method("GET")', query(path="/a/7"), True),  # trap 4, V8
    ('Host("<h>") && Method("GET")', query(), True),
    ('Host("Example.org")', query(host="EXAMPLE.org:8181"), True),
    ('Host("<sub>.example.org")', query(host="a.example.org"), True),
    ('Host("<sub>.example.org")', query(host="a.b.example.org"), False),
    ('Host("[2001:db8::1]")', query(host="[2001:DB8::1]:80"), True),
    ('HostRegexp("^\\\\S+\\\\.org$")', query(host="A.org"), True),  # \S stays \S
    ('PathRegexp("^/v[12]/")', query(path="/v1/x"), True),
    ('PathRegexp("v1")', query(path="/a/v1/x"), True),
    ('MethodRegexp("POST|PUT")', query(method="PUT"), True),
    ('Method("GET")', query(method="get"), False),
    ('Header("X-A", "1")', query(x_a="1"), True),
    ('Header("X-A", "<v>")', query(), True),  # trap 2: kept
    ('HeaderRegexp("x-a", "^1")', query(x_a="12"), True),
    ('(Path("/a"))&&((Method("GET")))', query(path="/a"), True),
]


@pytest.mark.parametrize(("text", "request_", "matches"), MATCHES)
def test_matches(text: str, request_: Query, matches: bool) -> None:
    assert winner({"f": text}, request_) == ("f" if matches else None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Path",
        "Path()",
        'Path("")',
        "Path(1)",
        'Path("/a") || Path("/b")',
        '!Path("/a")',
        'Path("/a") == "x"',
        'Path("/a") Path("/b")',
        'Path("/a"',
        'Path(Host("a"))',
        'Header("X")',
        'Header("", "x")',
        'Query("a")',
        'Path("/<foo:x>")',
        'Path("/<int:a:b>")',
        'Path("/<:x>")',
        'PathRegexp("(")',
        'PathRegexp("(?=a)")',
        'Path("\\q")',
        "'a'",
        "(" * 200 + 'Path("/a")' + ")" * 200,
        "!" * 5000 + 'Path("/a")',
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse(text)


PRECEDENCE = [  # specs/vulcand.md §6.2, by its points
    pytest.param(
        {"a": 'Path("/x")', "b": 'Host("h") && Path("/x")'}, "/x", "a", id="1 Path over Host"
    ),
    pytest.param(
        {"a": 'PathRegexp(".*")', "b": 'Path("/x")'}, "/x", "a", id="1 PathRegexp over Path"
    ),
    pytest.param({"a": "Path(`/x`)", "b": 'Path("/x")'}, "/x", "a", id="2 backquotes first"),
    pytest.param(
        {"a": 'Path("/v/<id>")', "b": 'Path("/v/1")'}, "/v/1", "a", id="3 parameter over digit"
    ),
    pytest.param(
        {"a": 'Path("/v/<id>")', "b": 'Path("/v/me")'}, "/v/me", "b", id="3 letter over parameter"
    ),
    pytest.param(
        {"a": 'Path("/x")', "b": 'Path("/x") && Method("GET")'}, "/x", "b", id="4 longer match wins"
    ),
    pytest.param(
        {"a": 'Host("h") && Path("/x")', "b": 'Host("h") && Method("GET")'},
        "/x",
        "a",
        id="5 both reachable",
    ),
    pytest.param({"b": 'Path("/x")', "a": 'Path("/x")'}, "/x", "a", id="alike: smallest id"),
]


@pytest.mark.parametrize(("routes", "path", "wins"), PRECEDENCE)
def test_precedence(routes: dict[str, str], path: str, wins: str) -> None:
    assert winner(routes, query(path=path)) == wins
    assert winner(dict(reversed(routes.items())), query(path=path)) == wins


def test_two_frontends_with_one_route_outlive_each_other() -> None:
    index: Index[str] = Index()
    index.put("a", parse('Path("/x")'), "a")
    index.put("b", parse('Path("/x")'), "b")
    index.remove("a")
    assert index.match(query(path="/x")) == "b"
    index.remove("b")
    index.remove("b")
    assert index.match(query(path="/x")) is None
    assert len(index) == 0


_SEGMENT = st.sampled_from(["a", "b", "1", "<x>", "<int:n>", "<path:p>", ""])
_PATH = st.lists(_SEGMENT, min_size=1, max_size=4).map(lambda s: "/" + "/".join(s))
_HOST = st.sampled_from(["a.org", "b.org", "<x>.org", "<x>.<y>", "b.a.org", "x<y>.a.org", ".org"])
_MATCHER = st.one_of(
    _PATH.map(lambda p: f'Path("{p}")'),
    _PATH.map(lambda p: f"Path(`{p}`)"),
    _HOST.map(lambda h: f'Host("{h}")'),
    st.sampled_from(
        [
            'Method("GET")',
            'PathRegexp("a")',
            'HostRegexp("b")',
            'Header("X","<v>")',
            'Header("X","1")',
        ]
    ),
)
_ROUTES = st.lists(
    st.lists(_MATCHER, min_size=1, max_size=2).map(" && ".join), min_size=3, max_size=9
)
_QUERY = st.builds(
    query,
    st.sampled_from(["GET", "PUT"]),
    st.sampled_from(["a.org", "b.org", "b.a.org", "xy.a.org", "org", "", ".org"]),
    st.lists(st.sampled_from(["a", "b", "1", ""]), max_size=4).map(lambda s: "/" + "/".join(s)),
    x=st.sampled_from(["", "1"]),
)


@settings(deadline=None)
@given(_ROUTES, _QUERY, st.integers(0, 7), st.sampled_from(sorted(ORDERS)))
def test_index_answers_as_the_reference(
    texts: list[str], request_: Query, gone: int, order: str
) -> None:
    index: Index[str] = Index(ORDERS[order])
    routes = {f"f{i}": parse(text) for i, text in enumerate(texts)}
    for name, route in routes.items():
        index.put(name, route, name)
    index.remove(f"f{gone}")
    routes.pop(f"f{gone}", None)
    wanted = reference([(r, n) for n, r in routes.items()], request_, ORDERS[order])
    assert index.match(request_) == wanted


@pytest.mark.parametrize(
    ("routes", "path", "wins"),
    [
        ({"a": 'PathRegexp(".*")', "b": 'Path("/<x>")', "c": 'Path("/a")'}, "/a", "c"),
        ({"a": 'PathRegexp(".*")', "b": 'Path("/<x>")'}, "/a", "b"),
        ({"a": 'Path("/a")', "b": 'Host("h") && Path("/a")'}, "/a", "b"),
        ({"a": 'Path("/a")', "b": 'Host("h")'}, "/a", "b"),  # a host that is asked for by name
        ({"a": 'Path("/<path:x>")', "b": 'Path("/v1/<path:x>")'}, "/v1/a", "b"),
        ({"a": 'Path("/v/<x>")', "b": 'Path("/v/1")'}, "/v/1", "b"),  # otherwise than vulcand
        ({"a": 'HostRegexp("h") && Path("/a")', "b": 'Host("<x>") && Path("/a")'}, "/a", "b"),
        ({"a": 'Path("/a")', "b": 'Path("/a") && Method("GET")'}, "/a", "b"),
    ],
)
def test_specific_order(routes: dict[str, str], path: str, wins: str) -> None:
    index: Index[str] = Index(ORDERS["specific"])
    for name, text in routes.items():
        index.put(name, parse(text), name)
    assert index.match(query("GET", "h", path)) == wins
    frontends = [Frontend(name, text, "b") for name, text in routes.items()]
    verdict = explain.explain(frontends, query("GET", "h", path), "specific")
    assert verdict.winner is not None
    assert verdict.winner.id == wins
    assert verdict.why == "its route is the most specific"

# SPDX-License-Identifier: Apache-2.0
"""Golden cases of middlewares, each named by its section of specs/vulcand.md."""

from __future__ import annotations

import base64
import json
import socket
from typing import Any

import pytest

from lb import condition
from lb.expr import ExpressionError
from lb.fields import Invalid
from lb.middleware import Answer, Chain, Exchange, Link, Reply, types
from lb.middleware.breaker import Breaker, ambiguous
from lb.middleware.build import Links
from lb.state import Middleware
from lb.window import Figures, bucket, microseconds


def exchange(target: str = "/", now: float = 0.0, **changes: Any) -> Exchange:
    headers = changes.pop("headers", {})
    block = b"".join(f"\r\n{n}: {v}".encode() for n, v in headers.items())
    given = {
        "frontend": "f", "method": b"GET", "target": target.encode(), "minor": 1, "host": b"h",
        "block": block, "fields": block, "client": b"192.0.2.1", "tls": None, "length": 0,
        "begun": now, "now": now, "attempt": 1, **changes,
    }  # fmt: skip
    return Exchange(**given)


def link(kind: str, **body: Any) -> Link:
    return types.make(kind, body)


def statuses(one: Link, *exchanges: Exchange) -> list[int]:
    found = []
    for each in exchanges:
        reply = one.on_request(each)
        found.append(200 if reply is None else reply.status)
    return found


# ---------------------------------------------------------------------- §4.1 ratelimit


def limit(**body: Any) -> Link:
    given = {"PeriodSeconds": 1, "Requests": 1, "Burst": 1, "Variable": "client.ip", **body}
    return link("ratelimit", **given)


def test_4_1_rejection() -> None:
    one = limit()
    assert one.on_request(exchange()) is None
    reply = one.on_request(exchange(now=0.001))
    assert reply is not None
    assert (reply.status, reply.body) == (429, b"max rate reached: retry-in 1s")
    assert reply.fields == b"\r\nX-Retry-In: 1s\r\nRetry-After: 1"


def test_4_1_trap_burst_is_the_whole_bucket() -> None:
    one = limit(Requests=2, Burst=3)
    assert statuses(one, *(exchange() for _ in range(4))) == [200, 200, 200, 429]
    reply = one.on_request(exchange())
    assert reply is not None
    assert b"X-Retry-In: 500ms" in reply.fields


def test_4_1_trap_the_fraction_of_a_token_is_not_lost() -> None:
    one = limit(Requests=10, Burst=1)  # a token each 0.1 s, asked for each 0.15 s
    seen = statuses(one, *(exchange(now=i * 0.15) for i in range(200)))
    assert seen == [200] * 200
    one = limit(PeriodSeconds=1, Requests=3, Burst=2)
    seen = statuses(one, *(exchange(now=i * 0.05) for i in range(201)))  # 10 s
    assert 30 <= seen.count(200) <= 32


def test_4_1_burst_of_zero_is_requests() -> None:
    assert statuses(limit(Requests=2, Burst=0), *(exchange() for _ in range(3))) == [200, 200, 429]


def test_4_1_rates_from_a_header() -> None:
    one = limit(RateVar="request.header.X-Rates")
    rates = {"X-Rates": '[{"PeriodSeconds":1,"Requests":2},{"PeriodSeconds":60,"Requests":3}]'}
    seen = statuses(one, *(exchange(now=i * 0.6, headers=rates) for i in range(6)))
    assert seen == [200, 200, 200, 429, 429, 429]  # 3 a minute admit no more
    for bad in ("", "[]", "{", '[{"PeriodSeconds":0,"Requests":1}]', '[{"PeriodSeconds":"1"}]'):
        one = limit(RateVar="request.header.X-Rates")
        assert statuses(one, *(exchange(headers={"X-Rates": bad}) for _ in range(2))) == [200, 429]


def test_4_1_all_rates_or_none() -> None:
    one = limit(RateVar="request.header.R")
    both = {"R": '[{"PeriodSeconds":1,"Requests":1},{"PeriodSeconds":60,"Requests":2}]'}
    assert statuses(one, exchange(headers=both), exchange(headers=both)) == [200, 429]
    # the refused one took nothing of the minute's bucket
    assert statuses(one, exchange(now=1.1, headers=both)) == [200]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"PeriodSeconds": 0}, "period seconds should be > 0"),
        ({"Requests": 0}, "requests should be > 0"),
        ({"Burst": -1}, "burst should be >= 0"),
        ({"Variable": "client.port"}, "unsupported limiting variable: 'client.port'"),
        ({"Variable": "request.header."}, "wrong header: "),
        ({"RateVar": "client.ip"}, "unsupported variable format: client.ip"),
        ({"Requests": "1"}, "a string where an integer"),
    ],
)
def test_4_1_refused(body: dict[str, Any], reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        limit(**body)
    assert reason in str(caught.value)


def test_4_7_trap_ipv6_clients_have_a_bucket_each() -> None:  # V7
    one = limit()
    clients = [b"2001:db8::1", b"2001:db8::2", b"2001:db8::1"]
    assert statuses(one, *(exchange(client=c) for c in clients)) == [200, 200, 429]


def test_4_7_forwarded_for_is_not_the_client() -> None:
    one = limit()
    headers = [{"X-Forwarded-For": "1.1.1.1"}, {"X-Forwarded-For": "2.2.2.2"}]
    assert statuses(one, *(exchange(headers=h) for h in headers)) == [200, 429]


def test_4_7_absent_headers_share_a_bucket_and_hosts_are_as_sent() -> None:
    assert statuses(limit(Variable="request.header.X"), exchange(), exchange()) == [200, 429]
    hosts = (b"h:80", b"H:80", b"h:80")
    one = limit(Variable="request.host")
    assert statuses(one, *(exchange(host=h) for h in hosts)) == [200, 200, 429]


# ---------------------------------------------------------------------- §4.2 connlimit


def test_4_2_requests_at_once() -> None:
    chain = Chain([link("connlimit", Connections=1, Variable="client.ip")])
    first, second = exchange(), exchange()
    assert chain.request(first) is None
    reply = chain.request(second)
    assert reply is not None
    assert (reply.status, reply.body) == (429, b"max connections reached: 1")
    chain.release(second)  # it did not enter: nothing is given back
    assert chain.request(exchange()) is not None
    chain.release(first)
    assert chain.request(exchange()) is None


def test_4_2_zero_rejects_all_and_negative_is_refused() -> None:
    assert statuses(link("connlimit", Connections=0, Variable="client.ip"), exchange()) == [429]
    with pytest.raises(Invalid, match="connections should be > 0, got -1"):
        link("connlimit", Connections=-1, Variable="client.ip")


# ---------------------------------------------------------------------- §4.3 rewrite, §4.6 templates


def rewritten(target: str, regexp: str, replacement: str, **changes: Any) -> str:
    redirect = changes.pop("redirect", False)
    one = link("rewrite", Regexp=regexp, Replacement=replacement, Redirect=redirect)
    seen = exchange(target, **changes)
    reply = one.on_request(seen)
    if reply is not None:
        where = reply.fields.partition(b"Location: ")[2].decode()
        return f"{reply.status} {where or reply.body.decode()}"
    return seen.target.decode()


@pytest.mark.parametrize(
    ("target", "regexp", "replacement", "result"),
    [
        ("/foo/bar?x=1", "^http://h/foo(.*)", "http://h$1", "/bar?x=1"),
        ("/foo", "^http://h/foo(.*)", "http://h$1", "/"),
        ("/no", "^http://h/foo(.*)", "http://h$1", "/no"),
        ("/a", "/(?P<name>.)$", "/${name}${name}", "/aa"),
        ("/a", "/(.)$", "/$1x", "/"),  # the group named 1x: none
        ("/a", "/(.)$", "/${1}x", "/ax"),
        ("/a", "/a$", "/$$1", "/$1"),
        ("/aXbX", "X", "-", "/a-b-"),  # all matches
        ("/a", "^http://h/a$", "https://other:9/b?c", "/b?c"),  # host and scheme change nothing
        ("/a%2Fb", "^http://h(.*)$", "http://h/x$1", "/x/a%2Fb"),
        ("/a", "/a$", "/{{.Request.Method}}-{{.Request.Host}}", "/GET-h"),
        ("/a?k=v", "^.*$", '/{{.Request.URL.Query.Get "k"}}{{.Request.FormValue "k"}}', "/vv"),
        ("/a?k=v", "^.*$", "/{{.Request.URL.Path}}?{{.Request.URL.RawQuery}}", "//a?k=v"),
        ("/a", "^.*$", '/{{.Request.Header.Get "X-A"}}{{.Request.Proto}}', "/1HTTP/1.1"),
        ("/a", "^.*$", "/{{.Request.Nope}}", "500 Internal Server Error"),
        ("/a", "/a$", "/%zz", "500 Internal Server Error"),
        *(
            ("/a", "^.*$", bad, "500 Internal Server Error")
            for bad in (
                "http://h:port/x",
                ":foo",
                "http://[::1/x",
                "h h://x/y",
                "1http://x/y",
                "http://h/\x7f",
                "http://a b/",
                "http://%zz/",
            )
        ),
        ("/a", "^.*$", 'http://h/a\\b<>"{}^`|%2f?<">#f', '/a%5Cb%3C%3E%22%7B%7D%5E%60%7C%2f?<">'),
        ("/a", "^.*$", "http://u:p@[::1]:8/x", "/x"),
        ("/a", "^.*$", "http://h:80:90/ä b", "/%C3%A4%20b"),
        ("/a", "^.*$", "?q=%zz", "/?q=%zz"),
        ("/a", "", "/never", "/a"),
    ],
)
def test_4_3_rewrite(target: str, regexp: str, replacement: str, result: str) -> None:
    assert rewritten(target, regexp, replacement, headers={"X-A": "1"}) == result


def test_4_3_scheme_is_https_by_tls_or_by_header() -> None:
    assert rewritten("/a", "^https://h/a", "/s", tls={}) == "/s"
    assert rewritten("/a", "^https://h/a", "/s", headers={"X-Forwarded-Proto": "https"}) == "/s"
    assert rewritten("/a", "^https://h/a", "/s") == "/a"


def test_4_3_redirect() -> None:
    assert rewritten("/a", "^http://h/(.*)", "https://h/$1", redirect=True) == "302 https://h/a"
    assert rewritten("/a", "^http://h/(.*)", "http://h/$1", redirect=True) == "/a"  # the same
    assert rewritten("/a", "^http://h/(.*)", "mailto:$1@h", redirect=True) == "302 mailto:a@h"


def test_4_3_braces_of_clients_are_no_template() -> None:
    found = rewritten("/{{.Request.Host}}", "^http://h(.*)", "http://h/{{.Request.Method}}$1")
    assert found == "/GET/%7B%7B.Request.Host%7D%7D"


def test_4_3_body_as_template() -> None:
    one = link("rewrite", Regexp="", Replacement="", RewriteBody=True)
    seen, answer = exchange("/p"), Answer(200, b"")
    assert one.on_request(seen) is None
    one.on_response(seen, answer)
    assert answer.filter is not None
    assert answer.filter(b"you asked {{.Request.URL.Path}}") == b"you asked /p"
    one = link("rewrite", Regexp="^x", Replacement="", RewriteBody=True)
    seen, answer = exchange("/p"), Answer(200, b"")
    one.on_request(seen)
    one.on_response(seen, answer)
    assert answer.filter is None  # no match, no body rewrite


def test_3_8_trap_a_bad_regexp_is_refused_when_written() -> None:
    with pytest.raises(Invalid, match="invalid regexp"):
        link("rewrite", Regexp="(", Replacement="")


# ---------------------------------------------------------------------- §4.4 cbreaker


def breaker(condition: str = "NetworkErrorRatio() > 0.5", **more: Any) -> Link:
    fallback = {"Type": "response", "Action": {"StatusCode": 400, "ContentType": "text/plain", "Body": "later, please"}}  # fmt: skip
    return link("cbreaker", **{"Condition": condition, "Fallback": fallback, **more})


def ask(one: Link, now: float, status: int = 200, seconds: float = 0.001) -> int:
    """Return the status that the client gets."""
    seen = exchange(now=now)
    reply = one.on_request(seen)
    if reply is not None:
        return reply.status
    seen.now = now + seconds
    one.on_response(seen, Answer(status, b""))
    return status


def test_4_4_states() -> None:
    one = breaker()
    assert ask(one, 1.0) == 200
    assert ask(one, 1.2, 502) == 502  # 0.5 is not above 0.5
    assert ask(one, 1.4, 504) == 504  # trips
    assert [ask(one, 1.5 + i) for i in range(9)] == [400] * 9
    seen = [ask(one, 11.5 + i * 0.01) for i in range(990)]  # recovering
    first, second = seen[:330].count(200), seen[660:].count(200)
    assert 0 < first < second
    assert seen.count(200) / len(seen) < 0.5
    assert [ask(one, 21.6 + i * 0.01) for i in range(10)] == [200] * 10


def test_4_4_trap_durations_of_zero_are_the_defaults() -> None:  # V9
    one = breaker(FallbackDuration=0, RecoveryDuration=0, CheckPeriod=0)
    assert ask(one, 1.0, 502) == 502
    assert ask(one, 10.0) == 400  # 10 s, not none
    assert ask(breaker(FallbackDuration="1s"), 1.0) == 200  # a string where an integer is stored


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("NetworkErrorRatio() > 0.4", True),
        ("NetworkErrorRatio() > 1", False),  # V9: integer where a float stood
        ("NetworkErrorRatio() >= 0.5 && LatencyAtQuantileMS(50) >= 9", True),
        ("LatencyAtQuantileMS(50.0) > 800", False),
        ("LatencyAtQuantileMS(100.0) > 800.5", True),
        ("ResponseCodeRatio(500, 600, 0, 600) > 0.4", True),
        ("ResponseCodeRatio(500, 600, 700, 800) > 0", False),  # denominator 0
        ("RequestThreshold() == 4 || NetworkErrorRatio() > 0.9", True),  # V9
        ("!(RequestThreshold() > 3)", False),
    ],
)
def test_4_4_conditions(text: str, true: bool) -> None:
    figures = Figures()
    for status, seconds in ((200, 0.01), (200, 0.01), (502, 0.01), (504, 0.9)):
        figures.add(1.0, status, bucket(seconds))
    assert condition.parse(text)(figures, 1.5) is true


@pytest.mark.parametrize("text", ["", "NetworkErrorRatio()", "Zap() > 1", 'NetworkErrorRatio() > "1"',
                                  "NetworkErrorRatio(1) > 1", "ResponseCodeRatio(1, 2) > 1", "1"])  # fmt: skip
def test_4_4_bad_conditions(text: str) -> None:
    with pytest.raises(ExpressionError):
        condition.parse(text)


def body_of(value: Any) -> bytes:
    action = {"StatusCode": 503, "ContentType": "text/plain", "Body": value}
    one = link("cbreaker", Condition="NetworkErrorRatio() >= 0.0", Fallback={"Type": "response", "Action": action})  # fmt: skip
    ask(one, 1.0)
    reply = one.on_request(exchange(now=1.1))
    assert isinstance(reply, Reply)
    return reply.body


def test_4_4_an_object_body_is_sent_as_it_is_spelt() -> None:
    action = '{"type":"response","ACTION":{"StatusCode":400,"ContentType":"t","body": {"a": [1.0, 2],"a":3} }}'
    one = link("cbreaker", Condition="NetworkErrorRatio() > 0.5", Fallback=action)
    assert isinstance(one, Breaker)
    assert one._plan.fallback(exchange("/")).body == b'{"a": [1.0, 2],"a":3}'


def test_4_4_trap_a_word_that_is_base64_is_decoded() -> None:
    assert body_of("later, please") == b"later, please"
    assert body_of(base64.b64encode(b"x y").decode()) == b"x y"
    assert body_of("test") == base64.b64decode("test")
    assert body_of({"k": "v"}) == b'{"k":"v"}'
    fallback = {"Type": "response", "Action": {"StatusCode": 503, "ContentType": "a/b", "Body": "test"}}  # fmt: skip
    assert ambiguous({"Fallback": fallback}) == ('Fallback.Action.Body "test" is taken for base64',)


def test_4_4_fallback_as_a_string_of_json_and_redirect() -> None:
    text = json.dumps({"Type": "redirect", "Action": {"URL": "http://o/base", "PreservePath": True}})  # fmt: skip
    one = breaker("NetworkErrorRatio() >= 0.0", Fallback=text, OnTripped="", OnStandby=None)
    ask(one, 1.0)
    reply = one.on_request(exchange("/p?q", now=1.1))
    assert reply is not None
    assert (reply.status, reply.body, reply.fields) == (302, b"Found", b"\r\nLocation: http://o/base/p")  # fmt: skip


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"Fallback": None}, "an action is wanted"),
        ({"Fallback": {"Type": "zap"}}, "unsupported action"),
        ({"Fallback": {"Type": "redirect", "Action": {"URL": "/x"}}}, "is not absolute"),
        ({"OnTripped": {"Type": "response"}}, "unsupported action"),
        ({"OnTripped": {"Type": "webhook", "Action": {"URL": "http://a"}}}, "URL and Method"),
        ({"Condition": "x"}, "invalid condition"),
    ],
)
def test_4_4_refused(body: dict[str, Any], reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        breaker(**{"condition": body.pop("Condition", "NetworkErrorRatio() > 0.5"), **body})
    assert reason in str(caught.value)


# ---------------------------------------------------------------------- §4.5 trace


def test_4_5_trace_names_in_any_case() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as syslog:
        syslog.bind(("127.0.0.1", 0))
        syslog.settimeout(5)
        address = f"syslog://127.0.0.1:{syslog.getsockname()[1]}?f=MAIL&sev=INFO&prefix=X%20"
        one = link("trace", Addr=address, ReqHeaders=["x-a"], RespHeaders=["x-b"])
        seen = exchange("/x?y=1", headers={"X-A": "1"}, tls={"version": "TLS12"})
        one.on_request(seen)
        seen.now = 0.25
        one.on_response(seen, Answer(200, b"\r\nX-B: 2", 12))
        head, _, payload = syslog.recv(65536).decode().partition("X {")
        one.retire()
    assert head.startswith("<22>")  # mail, info
    assert "pid[" in head
    assert json.loads("{" + payload) == {
        "request": {"method": "GET", "body_bytes": 0, "url": "/x?y=1", "headers": {"x-a": ["1"]}, "tls": {"version": "TLS12"}},
        "response": {"code": 200, "roundtrip": 250.0, "headers": {"x-b": ["2"]}, "body_bytes": 12},
    }  # fmt: skip


@pytest.mark.parametrize("address", ["udp://x", "syslog://h?f=zap", "syslog://h?sev=zap", "", "syslog://h:x"])  # fmt: skip
def test_4_5_bad_addresses(address: str) -> None:
    with pytest.raises(Invalid):
        link("trace", Addr=address)


# ---------------------------------------------------------------------- §4.8 auth, and our own


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_4_8_auth_of_the_demo() -> None:
    one = link("auth", Username="u", Password="p:q")
    cases = [basic("u", "p:q"), basic("u", "x"), basic("v", "p:q"), {}, {"Authorization": "Basic !"}]  # fmt: skip
    assert statuses(one, *(exchange(headers=h) for h in cases)) == [200, 403, 403, 403, 403]


def test_plugins_by_entry_point_are_known() -> None:
    assert {"header", "cors", "basicauth", "ipallow"} <= set(types.names())
    assert types.find("zap") is None
    for name in types.names():
        found = types.find(name)
        assert found is not None
        assert found.flags


def test_basicauth_ipallow() -> None:
    digest = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"  # secret
    one = link("basicauth", Users={"a": "pw", "b": digest}, Realm='x"y')
    cases = [basic("a", "pw"), basic("b", "secret"), basic("a", "secret"), basic("c", ""), {}]
    assert statuses(one, *(exchange(headers=h) for h in cases)) == [200, 200, 401, 401, 401]
    one = link("ipallow", Networks=["192.0.2.0/24", "2001:db8::/32"], Deny=["192.0.2.9"])
    clients = [b"192.0.2.1", b"192.0.2.9", b"198.51.100.1", b"2001:db8::5", b"::ffff:192.0.2.1", b""]  # fmt: skip
    assert statuses(one, *(exchange(client=c) for c in clients)) == [200, 403, 403, 200, 200, 403]


def test_header_and_cors() -> None:
    one = link("header", Request={"Set": {"X-A": "2"}, "Remove": ["X-B"]}, Response={"Add": {"X-C": "3"}})  # fmt: skip
    seen, answer = exchange(headers={"x-a": "1", "X-B": "1"}), Answer(200, b"")
    one.on_request(seen)
    one.on_response(seen, answer)
    assert (seen.fields, answer.fields) == (b"\r\nX-A: 2", b"\r\nX-C: 3")
    for bad in ({"Set": {"Content-Length": "1"}}, {"Set": {"X": "a\r\nb"}}, {"Add": {"X Y": "1"}}):
        with pytest.raises(Invalid):
            link("header", Request=bad)
    one = link("cors", Origins=["https://a"], Methods=["PUT"], MaxAge="1h")
    ask_first = {"Origin": "https://a", "Access-Control-Request-Method": "PUT"}
    reply = one.on_request(exchange(method=b"OPTIONS", headers=ask_first))
    assert reply is not None
    assert reply.status == 204
    assert b"Access-Control-Max-Age: 3600" in reply.fields
    for origin, marked in (("https://a", True), ("https://b", False)):
        answer = Answer(200, b"")
        one.on_response(exchange(headers={"Origin": origin}), answer)
        assert (b"Access-Control-Allow-Origin: https://a" in answer.fields) is marked


# ---------------------------------------------------------------------- chain: V15, order


def test_v15_what_a_link_counted_survives_other_changes() -> None:
    def spec(name: str, priority: int, **body: Any) -> Middleware:
        given = {"PeriodSeconds": 1, "Requests": 1, "Variable": "client.ip", **body}
        return Middleware(name, "ratelimit", priority, given)

    links = Links()
    chain = links.take("f", [spec("a", 1), spec("b", 2)])
    assert chain is not None
    first, second = chain.links
    chain = links.take("f", [spec("b", 0), spec("a", 1), spec("c", 2)])
    assert chain is not None
    assert chain.links[:2] == (second, first)
    other = links.take("g", [spec("f/a", 1), spec("a", 2)])  # shared, and one of its own
    assert other is not None
    assert other.links[0] is first
    assert other.links[1] is not first
    twin = links.take("f/alias", [spec("a", 1)])  # under an alias: counted together (§6.3)
    assert twin is not None
    assert twin.links == (first,)
    chain = links.take("f", [spec("a", 1, Requests=2)])
    assert chain is not None
    assert chain.links[0] is not first
    other = links.take("g", [spec("f/a", 1, Requests=2)])
    assert other is not None
    assert other.links == chain.links
    assert links.take("f", []) is None
    kept = links.take("g", [spec("f/a", 5, Requests=2)])  # whoever shared it keeps what it counted
    assert kept is not None
    assert kept.links == other.links


def test_histogram_has_two_significant_digits() -> None:  # §10.1
    for us in (1, 7, 255, 256, 999, 1234, 99_999, 1_000_000, 3_600_000_000):
        found = microseconds(bucket(us / 1e6))
        assert us - 1 <= found <= us * 1.01 + 1
    figures = Figures()
    for i in range(1, 101):
        figures.add(1.0, 200, bucket(i / 1000))
    assert [round(v / 1000) for v in figures.quantiles(1.0)] == [50, 75, 95, 99, 100]
    assert figures.quantiles(70.0) == [0, 0, 0, 0, 0]
    assert figures.requests(10.9) == 100
    assert figures.requests(11.1) == 0

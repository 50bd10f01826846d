# SPDX-License-Identifier: Apache-2.0
"""lb/records.py: specs/vulcand.md §3; lb/predicate.py: §7; lb/forward.py: §8."""

from __future__ import annotations

import pytest

from fairlead.errors import RecordError
from fairlead.etcd.types import KeyValue, Revision
from lb import forward, predicate, reading, records, writing
from lb.expr import ExpressionError
from lb.fields import Invalid
from lb.keys import ROOTS, Kind, Ref
from lb.middleware import types
from lb.predicate import Attempt
from lb.records import Backend, Frontend, Server

F = Ref(Kind.FRONTEND, "f1")
B = Ref(Kind.BACKEND, "b1")
S = Ref(Kind.SERVER, "s1", "b1")
L = Ref(Kind.LISTENER, "l1")
H = Ref(Kind.HOST, "h")
M = Ref(Kind.MIDDLEWARE, "m", "f1")
ROUTE = b'"Route": "Path(`/`)"'


def test_names_in_any_case_null_and_unknown() -> None:
    record = reading.read(
        F, b'{"TYPE":"http","backendid":"b","route":"Path(`/`)","Id":"x","Settings":null,"New":[1]}'
    )
    assert record == Frontend(F, "b", "Path(`/`)", extra={"New": [1]})
    assert b'"New":[1]' in writing.encode(record)
    assert b'"Id":"f1"' in writing.encode(record)  # the id is the key's


def test_last_of_two_wins() -> None:
    assert reading.read(S, b'{"URL":"http://a","url":"http://b"}') == Server(S, "http://b")


@pytest.mark.parametrize(
    ("ref", "value", "reason"),
    [
        (B, b"", "not JSON"),
        (B, b"[]", "a list where an object"),
        (B, b'{"Type":"tcp"}', "Unsupported backend type tcp"),
        (B, b'{"Type":1}', "Type: an integer where a string"),
        (B, b'{"Type":"http","Settings":{"Timeouts":{"Read":"5"}}}', "invalid read timeout"),
        (B, b'{"Type":"http","Settings":{"Timeouts":{"Dial":"x"}}}', "invalid dial timeout"),
        (B, b'{"Type":"http","Settings":{"Timeouts":{"TLSHandshake":"x"}}}', "invalid tls handshake timeout"),
        (B, b'{"Type":"http","Settings":{"KeepAlive":{"Period":"x"}}}', "invalid keepalive period"),
        (B, b'{"Type":"http","Settings":{"KeepAlive":{"MaxIdleConnsPerHost":1.0}}}', "a fraction where an integer"),
        (B, b'{"Type":"http","Settings":{"KeepAlive":{"MaxIdleConnsPerHost":"1"}}}', "a string where an integer"),
        (S, b'{"URL":"localhost:80"}', "endpoint url 'localhost:80' is not valid"),
        (S, b'{"URL":"http://"}', "is not valid"),
        (S, b'{"URL":"http://a:99999"}', "is not valid"),
        (S, b'{"URL":"http://a b"}', "is not valid"),
        (F, b'{"Type":"http",' + ROUTE + b"}", "supply valid  route"),
        (F, b'{"Type":"http","BackendId":"b","Route":"Path("}', "route should be a valid route expression: Path("),
        (F, b'{"Type":"x","BackendId":"b",' + ROUTE + b"}", "Unsupported frontend type: x"),
        (F, b'{"Type":"http","BackendId":"b",' + ROUTE + b',"Settings":{"FailoverPredicate":"Attempts <= 2"}}', "invalid failover predicate"),
        (F, b'{"Type":"http","BackendId":"b",' + ROUTE + b',"Settings":{"Limits":{"MaxBodyBytes":-1}}}', "must not be negative"),
        (F, b'{"Type":"http","BackendId":"b",' + ROUTE + b',"Settings":{"Hostname":"a\\r\\nX: 1"}}', "Hostname"),
        (F, b'{"Type":"http","BackendId":"b","Route": "Path(`/`)","Settings":{"Split":[{"BackendId":"c","Weight":101}]}}', "Split.Weight: 101 is not between"),
        (L, b'{"Protocol":"ftp","Address":{"Network":"tcp","Address":":80"}}', "unsupported protocol 'ftp'"),
        (L, b'{"Protocol":"http","Address":{"Network":"udp","Address":":80"}}', "unsupported network 'udp'"),
        (L, b'{"Protocol":"http","Address":{"Network":"tcp","Address":""}}', "supply a non empty address"),
        (L, b'{"Protocol":"http","Address":{"Network":"tcp","Address":"80"}}', "host:port"),
        (L, b'{"Protocol":"http","Address":{"Network":"tcp","Address":":80"},"Scope":"x"}', "Scope should be"),
        (L, b'{"Protocol":"http","Address":{"Network":"tcp","Address":":80"},"ProxyProtocol":"x"}', "Unsupported Proxy Header"),
        (H, b'{"Settings":{"KeyPair":"abc"}}', "KeyPair: base64 is wanted"),
        (H, b'{"Settings":{"KeyPair":{"Encryption":"rot13"}}}', "unsupported encryption type: 'rot13'"),
        (H, b'{"Settings":{"AutoCert":{"DirectoryURL":"ftp://x"}}}', "is no https URL"),
        (B, b'{"Type":"http","Settings":{"TLS":{"MinVersion":"SSL3"}}}', "unsupported TLS version: SSL3"),
        (B, b'{"Type":"http","Settings":{"TLS":{"CipherSuites":["TLS_NULL"]}}}', "unsupported cipher suite: TLS_NULL"),
        (B, b'{"Type":"http","Settings":{"TLS":{"SessionCache":{"Type":"x"}}}}', "unsupported session cache type: x"),
        (B, b'{"Type":"http","Settings":{"TLS":{"SessionCache":{"Type":"LRU","Settings":{"Capacity":-1}}}}}', "bad LRU capacity: -1"),
        (M, b'{"Type":"zap"}', "middleware of type zap is not supported"),
        (M, b'{"Type":"trace","Middleware":{"Addr":"syslog://"},"Priority":"1"}', "Priority: a string where an integer"),
    ],
)  # fmt: skip
def test_refused(ref: Ref, value: bytes, reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        reading.read(ref, value)
    assert reason in str(caught.value)


def test_original_vctl_always_sends_a_tls_object() -> None:
    value = (
        b'{"Type":"http","Settings":{"TLS":{"PreferServerCipherSuites":false,"MinVersion":"VersionTLS10",'
        b'"SessionCache":{"Type":"LRU","Settings":{"Capacity":1024}}}}}'
    )
    assert isinstance(reading.read(B, value), Backend)


def test_decode_names_key_and_revision() -> None:
    kv = KeyValue(b"/vulcand/backends/b1/backend", b"{", Revision(3), Revision(7), 1)
    with pytest.raises(RecordError, match="/vulcand/backends/b1/backend") as caught:
        reading.decode(kv, ROOTS)
    assert caught.value.revision == 7
    assert reading.decode(KeyValue(b"/vulcand/x", b"", Revision(1), Revision(1), 1), ROOTS) is None


@pytest.mark.parametrize(
    "record",
    [
        Backend(B, read="5s", max_idle=7),
        Server(S, "http://10.0.0.7:5000/ignored", weight=3),
        Frontend(F, "b", 'Host("a") && Path("/<x>")', max_body=5, pass_host=True),
        records.Listener(L, "http", "tcp", ":80", 'Host("a")'),
        records.Host(H, default=True),
        records.Middleware(M, "trace", 2, types.whole("trace", {"Addr": "syslog://"})),
    ],
)
def test_read_what_encode_wrote(record: records.Record) -> None:
    again = reading.read(record.ref, writing.encode(record))
    assert writing.encode(again) == writing.encode(record)
    assert again == record


def test_server_url_path_is_ignored() -> None:
    server = Server(S, "http://[2001:db8::1]:5000/x?y")
    assert server.address == ("2001:db8::1", 5000)
    assert server.authority == "[2001:db8::1]:5000"


@pytest.mark.parametrize(
    ("text", "attempt", "true"),
    [
        (predicate.DEFAULT, Attempt(b"GET", b"/", 1, 502), True),
        (predicate.DEFAULT, Attempt(b"GET", b"/", 11, 502), False),  # 11 tries at most
        (predicate.DEFAULT, Attempt(b"POST", b"/", 1, 502), False),
        (predicate.DEFAULT, Attempt(b"GET", b"/", 1, 503), False),
        ("IsNetworkError() && Attempts() <= 1", Attempt(b"POST", b"/", 1, 504), True),
        ("IsNetworkError() && Attempts() <= 1", Attempt(b"POST", b"/", 2, 504), False),
        (
            "ResponseCode() == 500 || (IsTimeout() && !IsIdempotent())",
            Attempt(b"POST", b"/", 1, 504),
            True,
        ),
        ('RequestPath() != "/x" && IsConnectError()', Attempt(b"PUT", b"/", 1, 502, False), True),
    ],
)
def test_predicate(text: str, attempt: Attempt, true: bool) -> None:
    assert predicate.again(predicate.parse(text), attempt) is true


@pytest.mark.parametrize(
    "text",
    ["", "Attempts <= 2", "Attempts()", "Attempts() < 2.0", "Attempts() == \"1\"", "Zap()",
     'RequestMethod() < "A"', "IsNetworkError() == IsTimeout()", "Attempts(1) < 2", "1"],
)  # fmt: skip
def test_predicate_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        predicate.parse(text)


def test_forwarding_lines_replace_what_is_not_trusted() -> None:
    got = {
        b"x-forwarded-for": [b"1.1.1.1", b"2.2.2.2"],
        b"x-forwarded-proto": [b"https"],
        b"x-real-ip": [b"9.9.9.9"],
    }
    assert forward.lines(
        got, client=b"192.0.2.1", host=b"a:8181", tls=False, trust=False, server=b""
    ) == (
        b"\r\nX-Forwarded-For: 192.0.2.1\r\nX-Real-Ip: 192.0.2.1\r\nX-Forwarded-Proto: http"
        b"\r\nX-Forwarded-Host: a:8181\r\nX-Forwarded-Port: 8181"
    )
    assert forward.lines(
        got, client=b"192.0.2.1", host=b"a", tls=False, trust=True, server=b"edge"
    ) == (
        b"\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 192.0.2.1\r\nX-Real-Ip: 9.9.9.9\r\nX-Forwarded-Proto: https"
        b"\r\nX-Forwarded-Host: a\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Server: edge"
    )


def test_forwarding_zone_id_and_ipv6_port() -> None:
    assert forward.address(("fe80::1%eth0", 1, 0, 0)) == b"fe80::1"
    out = forward.lines(
        None,
        client=b"fe80::1",
        host=b"[2001:db8::1]",
        tls=True,
        trust=False,
        server=b"",
        websocket=True,
    )
    assert b"X-Forwarded-Proto: wss" in out
    assert b"X-Forwarded-Port: 443" in out


def test_middlewares_are_printed_whole_and_two_spellings_are_one() -> None:
    body = {"periodSeconds": 1, "Requests": 2, "VARIABLE": "client.ip", "Ours": 1}
    record = reading.build(M, {"Type": "ratelimit", "Middleware": body})
    assert isinstance(record, records.Middleware)
    assert list(record.body.items()) == [
        ("PeriodSeconds", 1),
        ("Requests", 2),
        ("Burst", 0),
        ("Variable", "client.ip"),
        ("RateVar", ""),
        ("Ours", 1),
    ]
    assert reading.build(M, {"Type": "ratelimit", "Middleware": record.body}) == record

# SPDX-License-Identifier: Apache-2.0
"""SkyDNS spec §2.1, vulcand spec §3, go-template spec §12.4."""

import contextlib
import json
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import RecordError
from fairlead.gojson import (
    OMITEMPTY,
    UINT16,
    UINT32,
    DecodeError,
    Extra,
    Name,
    Number,
    decode,
    decode_record,
    encode,
    format_float,
    parse,
)


@dataclass(frozen=True, slots=True)
class Inner:
    read: Annotated[str, Name("Read")] = ""
    dial: Annotated[str, Name("Dial"), OMITEMPTY] = ""


@dataclass(frozen=True, slots=True)
class Service:
    host: str = ""
    port: Annotated[int, OMITEMPTY] = 0
    ttl: Annotated[int, UINT32, OMITEMPTY] = 0
    mail: bool = False
    weight: float = 0.0
    key: bytes = b""
    strip: Annotated[int, Name("targetStrip"), OMITEMPTY] = 0
    inner: Inner = Inner()
    pointer: Inner | None = None
    names: tuple[str, ...] = ()
    ports: tuple[Annotated[int, UINT16], ...] = ()
    labels: Annotated[dict[str, str] | None, OMITEMPTY] = None
    raw: Annotated[Any, OMITEMPTY] = None
    extra: Extra = ()


class Lease(msgspec.Struct, frozen=True):
    public_ip: Annotated[str, Name("PublicIP")]
    public_ipv6: Annotated[str | None, Name("PublicIPv6")] = None
    kind: Annotated[str, Name("BackendType"), OMITEMPTY] = ""
    data: Annotated[Any, Name("BackendData"), OMITEMPTY] = None
    extra: Extra = ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", Service()),
        (" \n{ }\t", Service()),
        ("null", Service()),
        ('{"host":"a","PORT":8,"TargetStrip":2}', Service(host="a", port=8, strip=2)),
        ('{"Host":"a","host":"b"}', Service(host="b")),
        ('{"host":"b","HOST":"a"}', Service(host="a")),  # the last wins, whatever its case
        ('{"host":"a","host":null}', Service(host="a")),  # null changes nothing
        ('{"port":null,"mail":null,"inner":null,"names":null}', Service()),
        ('{"pointer":{"Read":"1"},"pointer":null}', Service()),
        ('{"pointer":{}}', Service(pointer=Inner())),
        ('{"inner":{"read":"1"},"inner":{"Dial":"2"}}', Service(inner=Inner("1", "2"))),
        ('{"ttl":4294967295,"port":-9223372036854775808}', Service(ttl=2**32 - 1, port=-(2**63))),
        ('{"weight":1e3}', Service(weight=1000.0)),
        ('{"weight":-0}', Service(weight=-0.0)),
        ('{"key":"AAH/"}', Service(key=b"\x00\x01\xff")),
        ('{"key":"AA\\nH/"}', Service(key=b"\x00\x01\xff")),
        ('{"names":["a",null],"ports":[1,65535]}', Service(names=("a", ""), ports=(1, 65535))),
        ('{"labels":{"a":"1","b":null}}', Service(labels={"a": "1", "b": ""})),
        (
            '{"\u017ftrip":1,"targetstrip":2}',
            Service(strip=2, extra=(("\u017ftrip", Number("1")),)),
        ),
        ('{"host":"\\ud800x"}', Service(host="\ufffdx")),
        ('{"x":{"y":[1.50]}}', Service(extra=(("x", parse('{"y":[1.50]}')),))),
    ],
)
def test_read(text: str, expected: Service) -> None:
    assert decode(Service, text) == expected


def test_invalid_utf8_is_replaced() -> None:
    assert decode(Service, b'{"host":"a\xffb"}').host == "a\ufffdb"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"port":"8080"}', 'field "port": string "8080" is not a whole number'),
        ('{"Port":80.0}', 'field "Port": number 80.0 is not a whole number'),
        ('{"port":8e1}', 'field "port": number 8e1 is not a whole number'),
        ('{"ttl":-1}', 'field "ttl": number -1 is not within uint32'),
        ('{"ttl":4294967296}', 'field "ttl": number 4294967296 is not within uint32'),
        ('{"port":9223372036854775808}', "is not within int64"),
        ('{"mail":"true"}', 'field "mail": string "true" is not true or false'),
        ('{"mail":1}', 'field "mail": number 1 is not true or false'),
        ('{"host":1}', 'field "host": number 1 is not a string'),
        ('{"weight":"1"}', 'field "weight": string "1" is not a number'),
        ('{"weight":1e400}', "is not within float64"),
        ('{"key":"*"}', 'field "key": string "*" is not base64'),
        ('{"inner":{"read":1}}', 'field "inner.read": number 1 is not a string'),
        ('{"inner":[]}', 'field "inner": an array is not an object'),
        ('{"names":["a",1]}', 'field "names[1]": number 1 is not a string'),
        ('{"names":{}}', 'field "names": an object is not an array'),
        ('{"labels":{"a":1}}', 'field "labels.a": number 1 is not a string'),
        ('{"ports":[70000]}', 'field "ports[0]": number 70000 is not within uint16'),
        ("[]", "an array is not an object"),
        ('"x"', 'string "x" is not an object'),
        ("", "not JSON: unexpected end"),
        ("{", "not JSON: "),
        ("{} x", "not JSON: extra data at byte 3"),
        ('{"a":NaN}', "not JSON: NaN"),
        ('{"a":01}', "not JSON: "),
        ('{"a":1,}', "not JSON: "),
        ('\ufeff{"a":1}', "not JSON: "),
        ('{"host":"a\nb"}', "not JSON: invalid control character"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_refused(text: str, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(Service, text)
    assert reason in str(caught.value)


def test_a_record_error_names_the_key() -> None:
    with pytest.raises(RecordError, match='key "/a": field "port"') as caught:
        decode_record(Service, b"/a", b'{"port":"x"}', 7)
    assert caught.value.revision == 7


@pytest.mark.parametrize(
    "text",
    [
        # flannel spec §4.1, byte for byte
        '{"PublicIP":"192.0.2.11","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"2e:6f:0b:91:c4:07"}}',
        '{"PublicIP":"192.0.2.13","PublicIPv6":null}',
        '{"PublicIP":"192.0.2.13","PublicIPv6":"2001:db8::1","Future":[1.50,1e2,{"b":1,"a":2}]}',
    ],
)
def test_read_and_written_is_byte_equal(text: str) -> None:
    assert encode(decode(Lease, text)) == text.encode()


def test_written_in_declared_order_without_empty_ones() -> None:
    record = Service(host='<a&b>\u2028\x01\t"', labels={"b": "1", "a": "2"}, raw={"z": 1})
    assert encode(record) == (
        b'{"host":"\\u003ca\\u0026b\\u003e\\u2028\\u0001\\t\\"","mail":false,"weight":0,"key":"",'
        b'"inner":{"Read":""},"pointer":null,"names":[],"ports":[],"labels":{"a":"2","b":"1"},'
        b'"raw":{"z":1}}'
    )


def test_without_html_and_with_newline() -> None:
    """As vulcand writes to etcd (vulcand spec §3)."""
    assert encode(Inner("<&>"), html=False, newline=True) == b'{"Read":"<&>"}\n'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (-2.5, "-2.5"),
        (100.0, "100"),
        (0.000001, "0.000001"),
        (0.0000001, "1e-7"),
        (123456789e-15, "1.23456789e-7"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (5e-324, "5e-324"),
        (-0.0, "-0"),
    ],
)
def test_floats_as_go(value: float, text: str) -> None:
    assert format_float(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_floats_that_json_lacks(value: float) -> None:
    with pytest.raises(ValueError, match="has no form in JSON"):
        encode(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_round_trip(value: float) -> None:
    assert float(format_float(value)) == value


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)


@given(TREES)
def test_encode_is_json(tree: Any) -> None:
    assert json.loads(encode(tree)) == tree


@given(
    st.builds(
        Service,
        host=st.text(st.characters(codec="utf-8")),
        port=st.integers(-(2**63), 2**63 - 1),
        ttl=st.integers(0, 2**32 - 1),
        mail=st.booleans(),
        weight=st.floats(allow_nan=False, allow_infinity=False),
        key=st.binary(),
        names=st.lists(st.text(st.characters(codec="utf-8"))).map(tuple),
        pointer=st.none() | st.just(Inner("x", "y")),
        labels=st.none()
        | st.dictionaries(
            st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")), min_size=1
        ),
    )
)
def test_decode_of_encode(record: Service) -> None:
    assert decode(Service, encode(record)) == record


@given(st.binary())
def test_anything_else_is_a_decode_error(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        decode(Service, data)

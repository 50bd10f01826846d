# SPDX-License-Identifier: Apache-2.0
import contextlib
import ipaddress
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fairlead.errors import RecordError
from fairlead.etcd.types import KeyValue, LeaseID, Revision
from skydns import keys, names, records

KEY = b"/skydns/local/skydns/web/x1"


def kv(value, key=KEY, lease=0):
    return KeyValue(
        key,
        value.encode() if isinstance(value, str) else value,
        Revision(3),
        Revision(7),
        1,
        LeaseID(lease),
    )


def read(value, **more):
    return records.decode(b"/skydns", kv(value, **more))


def test_the_whole_record():
    service = read(
        '{"host":"10.20.0.7","port":8443,"priority":5,"weight":40,"ttl":120,"targetstrip":1,"group":"blue"}',
        lease=9,
    )
    assert service == records.Service(
        key=KEY, name=b"\x02x1\x03web\x06skydns\x05local\0", address=bytes([10, 20, 0, 7]), port=8443,
        priority=5, weight=40, ttl=120, targetstrip=1, group="blue", lease=LeaseID(9),
    )  # fmt: skip


@pytest.mark.parametrize(("value", "field", "reads"), [
    ('{"Host":"10.0.0.1"}', "host", "10.0.0.1"),
    ('{"TTL":5}', "ttl", 5),
    ('{"targetStrip":2}', "targetstrip", 2),
    ('{"port":1,"Port":2,"port":3}', "port", 3),
    ('{"port":1,"PORT":2}', "port", 2),
    ('{"port":7,"PORT":null}', "port", 7),
    ('{"port":null}', "port", 0),
    ('{"port":70000}', "port", 4464),
    ('{"owner":"x","foo":{"a":[1]},"port":2}', "port", 2),
    ('{"ttl":4294967295}', "ttl", 2147483647),
    ('{"text":"\\ud800"}', "text", "\ufffd".encode()),
    (b'{"text":"\xff"}', "text", "\ufffd".encode()),
    ('{"text":"a\\\\065b"}', "text", b"a\\065b"),
])  # fmt: skip
def test_trap_1_fields_as_go_reads_them(value, field, reads):
    assert getattr(read(value), field) == reads


@pytest.mark.parametrize(("value", "reason"), [
    ("", "it is empty"),
    ("  ", "it is empty"),
    ("{host:10.0.0.1}", "not JSON: expecting property name enclosed in double quotes at byte 1"),
    ('{"host":"10.0.0.1"} x', "not JSON: extra data at byte 20"),
    ('"10.0.0.1"', "is not an object"),
    ("[]", "is not an object"),
    ('{"port":"x80"}', 'field "port": string "x80" is not'),
    ('{"port":80.5}', 'field "port": number 80.5 is not'),
    ('{"port":1e99}', 'field "port": number 1e99 is not'),
    ('{"port":"80","mail":"true"}', 'field "port": string "80" is not'),
    ('{"host":["80"],"port":1.0}', 'field "host": an array is not'),
    ('{"port":true}', 'field "port": true is not'),
    ('{"mail":"true"}', 'field "mail": string "true" is not'),
    ('{"ttl":-1}', 'field "ttl": number -1 is not within'),
    ('{"ttl":4294967296}', 'field "ttl": number 4294967296 is not within'),
    ('{"weight":9223372036854775808}', 'field "weight": number 9223372036854775808 is not within'),
    ('{"host":5}', 'field "host": number 5 is not'),
    ('{"host":{"a":1}}', 'field "host": an object is not'),
    ('{"port":NaN}', "not JSON: NaN"),
    ('{"host":"a..b"}', 'field "host": "a..b" cannot be a domain name: empty label'),
    ('{"host":"' + "x" * 64 + '"}', "label of 64 octets"),
    ("[" * 100000, "not JSON"),
])  # fmt: skip
def test_a_bad_value_names_key_field_and_reason(value, reason):
    with pytest.raises(RecordError) as caught:
        read(value)
    assert reason in caught.value.reason
    assert caught.value.key == KEY
    assert caught.value.revision == 7


@pytest.mark.parametrize(("value", "field", "meant"), [
    ('{"port":"8080"}', "port", 8080), ('{"Port":80.0}', "port", 80), ('{"ttl":8e1}', "ttl", 80),
    ('{"weight":"-5"}', "weight", -5), ('{"priority":"1.50E+1"}', "priority", 15), ('{"targetstrip":"1"}', "targetstrip", 1),
])  # fmt: skip
def test_2_1_numbers_that_are_meant_as_whole_ones_are_read_and_noted(value, field, meant):
    odd = []
    assert getattr(records.decode(b"/skydns", kv(value), odd.append), field) == meant
    (note,) = odd
    assert note.key == KEY
    assert "is not a whole number" in note.reason or "is not within" in note.reason


def test_trap_26_keys_in_upper_case_are_noted():
    odd = []
    assert records.decode(b"/skydns", kv("{}", key=b"/skydns/local/Web"), odd.append)
    assert "upper-case" in odd[0].reason
    records.decode(b"/skydns", kv("{}"), odd.append)
    assert len(odd) == 1


def test_the_config_key_is_no_record():
    assert read("{}", key=b"/skydns/config") is None


def test_a_key_without_a_name_is_named():
    with pytest.raises(RecordError, match='part "" cannot be a label'):
        read("{}", key=b"/skydns/local//web")


@pytest.mark.parametrize(("host", "octets"), [
    ("10.0.0.1", bytes([10, 0, 0, 1])),
    ("2001:db8::1", bytes.fromhex("20010db8000000000000000000000001")),
    ("::ffff:10.0.0.1", bytes([10, 0, 0, 1])),
    ("010.0.0.1", b""), ("10.0.0.1.", b""), (" 10.0.0.1", b""), ("fe80::1%eth0", b""), ("10.0.0", b""),
    ("10.0.0.0/8", b""), ("1", b""), ("web.example.org", b""), ("", b""),
])  # fmt: skip
def test_trap_24_what_counts_as_an_address(host, octets):
    assert records.parse_address(host) == octets
    if host:
        service = read(json.dumps({"host": host}))
        assert bool(service.target) == (not octets)


@given(st.binary(max_size=60))
def test_no_value_raises_anything_else(value):
    with contextlib.suppress(RecordError):
        assert read(value) is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["a", "host", "Port", "ttl", "mail"]), inner)
    ),
)


@given(JSON)
def test_no_json_raises_anything_else(value):
    with contextlib.suppress(RecordError):
        assert read(json.dumps(value)) is not None


MEMBERS = st.lists(
    st.tuples(st.sampled_from(["host", "text", "group"]), st.text('az09 .:#[]~\\"é\n', max_size=6))
    | st.tuples(
        st.sampled_from(["port", "priority", "weight", "ttl", "targetstrip", "Port"]),
        st.integers(-2, 3) | st.sampled_from([10**9 - 1, 10**9, 2**32, 1.0, True, None]),
    )
    | st.tuples(st.just("mail"), st.booleans() | st.none()),
    max_size=5,
)


@given(MEMBERS, st.sampled_from([",", ", "]), st.booleans())
def test_plain_values_are_read_as_all_others(members, comma, ascii_only):
    text = comma.join(f'"{k}":{json.dumps(v, ensure_ascii=ascii_only)}' for k, v in members)
    value = f"{{{text}}}".encode()
    kv = KeyValue(b"/skydns/test/a", value, Revision(1), Revision(2), 1)
    shapes = []
    with pytest.MonkeyPatch.context() as patch:
        for plain in (records._plain, lambda value: None):
            patch.setattr(records, "_plain", plain)
            try:
                shapes.append(records.decode(b"/skydns", kv))
            except RecordError as error:
                shapes.append(str(error))
    assert shapes[0] == shapes[1]


@given(st.lists(st.integers(0, 300).map(str) | st.sampled_from(["", "01", "+1", " 1", "1 ", "١", "1_0"]), min_size=3, max_size=5))  # fmt: skip
def test_addresses_are_read_as_by_ipaddress(parts):
    text = ".".join(parts)
    try:
        expected = ipaddress.IPv4Address(text).packed
    except ValueError:
        expected = b""
    assert records.parse_address(text) == expected


@example(["", "a"])  # a doubled slash after the prefix
@given(st.lists(st.sampled_from(["a", "b" * 63, "c" * 64, "", ".", "..", "a\0b", "d" * 30]), min_size=1, max_size=6))  # fmt: skip
def test_a_key_has_the_name_its_parts_make_or_none(parts):
    key = b"/skydns/" + "/".join(parts).encode()
    wanted = parts[:-1] if len(parts) > 1 and not parts[-1] else parts
    bad = any(part in {"", ".", ".."} or "\0" in part for part in wanted)
    try:
        expected = None if bad else names.from_labels(part.encode() for part in reversed(wanted))
    except ValueError:
        expected = None
    try:
        found = keys.name_of(b"/skydns", key)
    except ValueError:
        found = None
    assert found == expected

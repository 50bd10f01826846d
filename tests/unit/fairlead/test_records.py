# SPDX-License-Identifier: Apache-2.0
from fairlead.errors import RecordError
from fairlead.etcd.types import KeyValue, Revision
from fairlead.records import Records


def kv(key: bytes, value: bytes, revision: int = 7) -> KeyValue:
    return KeyValue(key, value, Revision(1), Revision(revision), 1)


def decode(item: KeyValue) -> int | None:
    if item.key.startswith(b"/other"):
        return None
    if not item.value.isdigit():
        raise RecordError(item.key, f'field "n": {item.value!r} is not a number')
    if item.value == b"13":
        raise RecursionError("too deep")
    return int(item.value)


def test_a_good_record_is_served() -> None:
    records = Records(decode)
    assert records.apply([(b"/a", kv(b"/a", b"1")), (b"/b", kv(b"/b", b"2"))]) == {b"/a", b"/b"}
    assert dict(records.good) == {b"/a": 1, b"/b": 2}


def test_a_bad_value_costs_only_itself_and_its_last_good_record_stays() -> None:
    records = Records(decode)
    records.apply([(b"/a", kv(b"/a", b"1"))])
    changed = records.apply([(b"/a", kv(b"/a", b"x", 9)), (b"/b", kv(b"/b", b"2"))])
    assert changed == {b"/b"}
    assert dict(records.good) == {b"/a": 1, b"/b": 2}
    assert records.rejected[b"/a"].revision == 9
    assert str(records.rejected[b"/a"]) == 'key "/a": field "n": b\'x\' is not a number'


def test_a_fault_of_the_decoder_costs_only_its_record() -> None:
    records = Records(decode)
    assert records.apply([(b"/a", kv(b"/a", b"13")), (b"/b", kv(b"/b", b"2"))]) == {b"/b"}
    assert records.rejected[b"/a"].reason == "cannot be decoded: RecursionError: too deep"


def test_mended_or_deleted_is_no_longer_rejected() -> None:
    records = Records(decode)
    records.apply([(b"/a", kv(b"/a", b"x")), (b"/b", kv(b"/b", b"y"))])
    assert records.apply([(b"/a", kv(b"/a", b"1")), (b"/b", None)]) == {b"/a"}
    assert not records.rejected


def test_a_deleted_key_loses_its_record() -> None:
    records = Records(decode)
    records.apply([(b"/a", kv(b"/a", b"1"))])
    assert records.apply([(b"/a", None)]) == {b"/a"}
    assert records.apply([(b"/a", None)]) == set()
    assert not records.good


def test_an_equal_record_is_no_change() -> None:
    records = Records(decode)
    records.apply([(b"/a", kv(b"/a", b"1"))])
    assert records.apply([(b"/a", kv(b"/a", b"01", 8))]) == set()


def test_a_key_of_another_kind_has_no_record() -> None:
    records = Records(decode)
    assert records.apply([(b"/other", kv(b"/other", b"x"))]) == set()
    assert not records.good
    assert not records.rejected


def test_each_rejection_is_told() -> None:
    records = Records(decode)
    told: list[str] = []
    records.on_reject = lambda error: told.append(f"{error.key.decode()}@{error.revision}")
    records.apply([(b"/a", kv(b"/a", b"x", 3)), (b"/a", kv(b"/a", b"y", 4))])
    assert told == ["/a@3", "/a@4"]

# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skydns import keys, names

PART = st.binary(min_size=1, max_size=12).filter(
    lambda part: part not in {b".", b".."} and b"/" not in part and b"\0" not in part
)


@given(st.lists(PART, min_size=1, max_size=6), st.sampled_from(["skydns", "/skydns/ka2/"]))
def test_key_of_name_of(parts, prefix):
    root = keys.clean(prefix)
    key = b"/".join((root, *parts)).lower()
    assert keys.key_of(root, keys.name_of(root, key)) == key


@pytest.mark.parametrize(
    ("prefix", "root"),
    [("skydns", b"/skydns"), ("/skydns/", b"/skydns"), ("//a//b/", b"/a/b"), ("/", b"")],
)
def test_prefix_is_cleaned(prefix, root):
    assert keys.clean(prefix) == root


@pytest.mark.parametrize(("key", "name"), [
    ("/skydns/local/skydns/east/web", "web.east.skydns.local."),
    ("/skydns/local/skydns/east/Web", "Web.east.skydns.local."),
    ("/skydns/arpa/in-addr/10/0/0/1", "1.0.0.10.in-addr.arpa."),
    ("/skydns/local/reg/host:web:80", "host:web:80.reg.local."),
    ("/skydns/local/web/", "web.local."),
])  # fmt: skip
def test_name_of(key, name):
    assert names.to_text(keys.name_of(b"/skydns", key.encode())) == name


@pytest.mark.parametrize(
    "key",
    [
        "/skydns/",
        "/skydns//a",
        "/skydns/a//b",
        "/skydns/a/../b",
        "/skydns/a/.",
        "/skydns/" + "x" * 64,
        "/skydns/a\0b",
    ],
)
def test_keys_without_a_name_are_refused(key):
    with pytest.raises(ValueError, match="label"):
        keys.name_of(b"/skydns", key.encode())


@pytest.mark.parametrize("label", [b"a/b", b"..", b".", b"a\0b"])
def test_labels_that_would_climb_map_to_no_key(label):
    """§1.1: a question label with `/` must not read another name's key."""
    with pytest.raises(ValueError, match="no key"):
        keys.key_of(b"/skydns", names.from_labels([label, b"skydns", b"test"]))


@pytest.mark.parametrize(("question", "base"), [
    ("prod.*.skydns.test", "skydns.test."),
    ("*.w.test", "w.test."),
    ("any.any.w.test", "w.test."),
    ("web.*.w.any.test", "test."),
    ("anyone.test", None),
])  # fmt: skip
def test_wildcard_base(question, base):
    found = keys.wildcard_base(names.from_text(question))
    assert (found and names.to_text(found)) == base


@pytest.mark.parametrize(("text", "zones"), [
    ("skydns.local.", ["skydns.local."]),
    ("A.test, b.test", ["a.test.", "b.test."]),
    ("10.0.0.0/24", ["0.0.10.in-addr.arpa."]),
    ("10.1.2.0/23", ["2.1.10.in-addr.arpa.", "3.1.10.in-addr.arpa."]),
    ("2001:db8::/32", ["8.b.d.0.1.0.0.2.ip6.arpa."]),
    ("0.0.0.0/0", ["in-addr.arpa."]),
    (".", ["."]),
])  # fmt: skip
def test_zones(text, zones):
    assert [names.to_text(zone) for zone in keys.zones(text)] == zones


def test_a_bad_zone_is_named():
    with pytest.raises(ValueError, match=r'"a\.\.b" is neither'):
        keys.zones("ok.test,a..b")

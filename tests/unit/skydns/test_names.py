# SPDX-License-Identifier: Apache-2.0
import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skydns import names

LABELS = st.lists(st.binary(min_size=1, max_size=20), max_size=8)


@given(LABELS)
def test_text_is_read_back(labels):
    wire = names.from_labels(labels)
    assert names.from_text(names.to_text(wire)) == wire
    assert dns.name.from_text(names.to_text(wire)).to_wire() == wire  # the oracle reads it alike


@given(LABELS, st.integers(0, 8))
def test_a_name_lies_below_its_ancestors_only(labels, cut):
    wire = names.from_labels(labels)
    above = names.from_labels(labels[cut:])
    assert names.below(wire, above)
    assert list(names.ancestors(wire))[-1] == names.ROOT
    assert names.below(above, wire) == (above == wire)


@pytest.mark.parametrize(("text", "wire"), [
    (".", b"\0"),
    ("web.local", b"\x03web\x05local\0"),
    ("web.local.", b"\x03web\x05local\0"),
    (r"a\065b.example.", b"\x03aAb\x07example\0"),
    (r"a\.b.", b"\x03a.b\0"),
    ("bad name!.", b"\x09bad name!\0"),
])  # fmt: skip
def test_presentation_form(text, wire):
    assert names.from_text(text) == wire


@pytest.mark.parametrize(
    "text", ["", "a..b", "x" * 64, ".".join(["x" * 60] * 5), "a\\", r"\999.", r"\12"]
)
def test_what_is_no_name_is_refused(text):
    with pytest.raises(ValueError, match=r"label|name|escape|backslash"):
        names.from_text(text)


def test_not_below_inside_a_label():
    zone = names.from_text("local")
    assert not names.below(names.from_text("notlocal"), zone)
    assert not names.below(b"\x06a\x05local\0", zone)  # the zone's octets inside a longer label


def test_odd_octets_are_shown_escaped():
    assert names.to_text(b"\x09bad name!\0") == r"bad\032name!."
    assert names.to_text(b"\x03a.b\x02\xc3\xa9\0") == r"a\.b.\195\169."

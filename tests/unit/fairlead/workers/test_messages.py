# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from fairlead.etcd.types import KeyValue, LeaseID, Revision
from fairlead.etcd.view import Change, Changes
from fairlead.workers import messages
from fairlead.workers.messages import (
    Answer,
    Applied,
    Call,
    Drain,
    Message,
    Part,
    Ping,
    Ready,
    Release,
    Reload,
    Tell,
    Unframer,
    frame,
    parts,
    whole,
)

BODIES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KVS = st.builds(
    KeyValue,
    key=st.binary(max_size=9),
    value=st.binary(max_size=9),
    create_revision=st.integers(1, 2**62).map(Revision),
    mod_revision=st.integers(1, 2**62).map(Revision),
    version=st.integers(1, 9),
    lease=st.integers(-(2**63), 2**63 - 1).map(LeaseID),
)
CHANGES = st.one_of(
    KVS.map(lambda kv: Change(kv.key, kv, None)),
    st.binary(max_size=9).map(lambda key: Change(key, None, None)),
)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Tell, st.text(), BODIES),
    st.builds(Call, st.integers(0, 2**40), st.text(), BODIES),
    st.builds(Answer, st.integers(0, 2**40), BODIES, st.text()),
    st.builds(Applied, st.dictionaries(st.text(), st.integers(0, 2**62)), st.integers(0, 2**40)),
    st.sampled_from([Ready(), Ping(), Reload(), Release(), Drain()]),
)


@given(st.lists(st.tuples(MESSAGES, st.integers(0, 250)), max_size=6), st.integers(1, 50))
def test_frames_come_back_however_they_are_cut(sent: list[tuple[Message, int]], size: int) -> None:
    octets = b"".join(frame(message, count) for message, count in sent)
    unframer = Unframer()
    found = [
        pair for at in range(0, len(octets), size) for pair in unframer.feed(octets[at : at + size])
    ]
    assert found == sent


@given(st.lists(CHANGES, max_size=20), st.integers(0, 2**62), st.booleans())
def test_a_batch_comes_back_whole(some: list[Change], revision: int, resync: bool) -> None:
    batch = Changes(Revision(revision), tuple(some), resync)
    assert whole(parts("values", batch)) == batch


def test_a_large_batch_goes_in_parts_and_the_last_one_says_so() -> None:
    count = messages.PART * 2 + 1
    batch = Changes(Revision(7), tuple(Change(b"%d" % n, None, None) for n in range(count)), True)
    some = list(parts("values", batch))
    assert [len(part.items) for part in some] == [messages.PART, messages.PART, 1]
    assert [part.last for part in some] == [False, False, True]
    assert whole(some) == batch


def test_an_empty_snapshot_is_a_part_too() -> None:
    (part,) = parts("values", Changes(Revision(3), (), True))
    assert part == Part("values", 3, (), True, True)

# SPDX-License-Identifier: Apache-2.0

from ipaddress import IPv4Address, IPv6Address, IPv6Network

from hypothesis import given
from hypothesis import strategies as st

from flannelpy import nlmsg, rtlink, rtnetlink
from flannelpy.state import Neighbour, Route

MAC = "2e:6f:0b:91:c4:07"


def test_a_batch_is_numbered_and_only_its_last_asks_for_an_answer():
    entry = Neighbour("x", IPv4Address("10.5.2.0"), MAC)
    route = Route(IPv6Network("fd00::/64"), IPv6Address("fd00::"), "x", onlink=True)
    requests = [
        rtnetlink.put_neighbour(entry, 7),
        rtnetlink.put_route(route, 7),
        rtlink.dump_links(),
    ]
    read = [*nlmsg.replies(bytes(nlmsg.batch(requests, 41)))]
    assert [(it.type, it.sequence, it.flags & nlmsg.F_ACK) for it in read] == [
        (rtnetlink.NEWNEIGH, 41, 0),
        (rtnetlink.NEWROUTE, 42, 0),
        (rtlink.GETLINK, 43, nlmsg.F_ACK),
    ]
    assert [bytes(it.body) for it in read] == [it[nlmsg.HEADER_SIZE :] for it in requests]


def test_refusal_with_the_kernels_words():
    request = nlmsg.numbered(rtlink.dump_links(), 9)
    words = nlmsg.attribute(1, b"No such device\0")
    body = (-19).to_bytes(4, "little", signed=True) + request[:16] + words
    head = (
        (16 + len(body)).to_bytes(4, "little")
        + (2).to_bytes(2, "little")
        + (0x300).to_bytes(2, "little")
    )
    data = head + (9).to_bytes(4, "little") + bytes(4) + body
    assert nlmsg.refusal(next(nlmsg.replies(data))) == (19, "No such device")


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail(data):
    for it in nlmsg.replies(data):
        nlmsg.refusal(it)

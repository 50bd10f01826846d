# SPDX-License-Identifier: Apache-2.0
"""Options of streams: RFC 7828 (keepalive), RFC 7830 and 8467 (padding)."""

import dns.edns
import dns.message
import pytest

from skydns import streamed


def exchanged(*numbers, edns=True, answers=0, **how):
    options = [dns.edns.GenericOption(number, b"") for number in numbers]
    more = {"use_edns": 0, "options": options} if edns else {}
    query = dns.message.make_query("a.z.test.", "A", **more)
    made = dns.message.make_response(query)
    for at in range(answers):
        made.answer += dns.message.from_text(
            f"id 1\nopcode QUERY\n;QUESTION\n;ANSWER\na{at}.z.test. 1 IN A 10.0.0.1\n"
        ).answer
    reply = made.to_wire()
    found = streamed.completed(query.to_wire(), reply, **{"idle": 10.0, "encrypted": True} | how)
    options = {int(each.otype): each for each in dns.message.from_wire(found).options}
    return reply, found, options


@pytest.mark.parametrize("answers", [0, 1, 20, 40])
def test_padded_to_a_multiple_of_468_octets(answers):
    reply, found, options = exchanged(12, answers=answers)
    assert len(found) % 468 == 0
    assert len(found) - len(reply) < 468 + 4
    assert 12 in options


def test_the_seconds_of_idleness_in_tenths():
    _, _, options = exchanged(11)
    assert options[11].to_wire() == (100).to_bytes(2, "big")
    _, found, options = exchanged(11, 12)
    assert set(options) == {11, 12}
    assert len(found) % 468 == 0


@pytest.mark.parametrize(("numbers", "how"), [
    ((), {}), ((), {"edns": False}), ((12,), {"encrypted": False}), ((11,), {"idle": None}), ((65001,), {}),
])  # fmt: skip
def test_nothing_is_added_that_nobody_asked_for(numbers, how):
    reply, found, _ = exchanged(*numbers, **how)
    assert found == reply

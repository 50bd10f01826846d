# SPDX-License-Identifier: Apache-2.0
"""Cookies as RFC 9018's examples have them; limits by network and answer."""

import ipaddress
import os

import dns.edns
import dns.flags
import dns.message
import pytest

from fairlead.etcd.types import KeyValue, Revision
from skydns import joint, keys, message, records
from skydns.compiled import Answers
from skydns.cookies import Cookies
from skydns.joint import Joint
from skydns.limit import Limiter
from skydns.policy import Policy
from skydns.state import Served

SECRET = bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf")
CLIENT = bytes.fromhex("2464c4abcf10c957")
HOME, AWAY = bytes((198, 51, 100, 100)), bytes((198, 51, 200, 100))


def query(cookie=None, name="a.z.test"):
    options = [dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)] if cookie else []
    return dns.message.make_query(name, "A", use_edns=0, options=options, id=7).to_wire()


def reply_to(data, rcode=0):
    found = dns.message.make_response(dns.message.from_wire(data))
    found.set_rcode(rcode)
    return found.to_wire()


def test_the_cookie_of_rfc_9018_a1():
    cookies = Cookies(SECRET, lambda: 1559731985)
    whole = CLIENT + cookies.server(CLIENT, HOME, 1559731985)
    assert whole.hex() == "2464c4abcf10c957010000005cf79f111f8130c3eee29480"
    assert cookies.good(whole, HOME)
    assert not cookies.good(whole, AWAY)
    assert not cookies.good(whole[:-1] + b"\0", HOME)
    assert not cookies.good(CLIENT, HOME)


@pytest.mark.parametrize(("later", "good"), [(-301, False), (-300, True), (3600, True), (3601, False)])  # fmt: skip
def test_a_cookie_is_good_for_an_hour(later, good):
    cookie = CLIENT + Cookies(SECRET, lambda: 5000).server(CLIENT, HOME, 5000)
    assert Cookies(SECRET, lambda: 5000 + later).good(cookie, HOME) is good


def test_a_cookie_comes_back_until_it_is_half_old():
    cookie = CLIENT + Cookies(SECRET, lambda: 5000).server(CLIENT, HOME, 5000)
    assert Cookies(SECRET, lambda: 5000 + 1800).option(cookie, HOME)[4:] == cookie
    anew = Cookies(SECRET, lambda: 5000 + 1801).option(cookie, HOME)[4:]
    assert anew != cookie
    assert anew[:8] == CLIENT


@pytest.mark.parametrize("size", [*range(1, 8), *range(9, 16), 41])
def test_a_cookie_of_a_wrong_length_is_a_format_error(size):
    found = message.parse(query(b"x" * size))
    assert isinstance(found, bytes)
    assert found[3] & 0xF == 1


def test_a_cookie_without_a_question():
    data = bytearray(query(CLIENT))
    end = message.question_end(bytes(data))
    data[4:6] = b"\0\0"
    del data[12:end]
    reply = message.parse(bytes(data))
    assert isinstance(reply, bytes)
    found = dns.message.from_wire(Cookies(SECRET, lambda: 0).completed(bytes(data), reply, HOME))
    assert found.rcode() == 0
    assert [len(option.client + option.server) for option in found.options] == [24]


def test_a_reply_with_a_cookie_stays_below_the_limit():
    found = message.parse(query(CLIENT))
    assert isinstance(found, message.Query)
    assert found.size == 1232 - 28
    assert not found.plain


def limiter(rate=10, slip=2, exempt=("10.0.0.0/8",), at=None, table=None):
    cookies = Cookies(SECRET, lambda: 1000)
    now = at or [0.0]
    networks = tuple(map(ipaddress.ip_network, exempt))
    return Limiter(rate, slip, networks, cookies, lambda: now[0], table)


def sent(limited, address, data, times, rcode=0):
    found = []
    for _ in range(times):
        reply = reply_to(data, rcode)
        octets = reply[2:]
        if limited.pressed(1):
            octets = limited.passed(address, data, octets)
        found.append("dropped" if not octets else "cut" if octets[0] & 2 else "sent")
    return found


def test_above_the_limit_every_second_reply_is_cut_and_the_others_dropped():
    limited = limiter()
    for address in (HOME, bytes(15) + b"\x01"):
        sent(limited, AWAY, query(), 100)  # others press
        found = sent(limited, address, query(), 30)
        assert found == ["sent"] * 10 + ["dropped", "cut"] * 10
    assert (limited.dropped, limited.slipped) == (110, 110)


def test_a_network_is_one_client_and_another_second_another_start():
    now = [0.0]
    limited = limiter(at=now)
    sent(limited, AWAY, query(), 11)
    assert sent(limited, HOME, query(), 10) == ["sent"] * 10
    assert sent(limited, HOME[:3] + b"\x01", query(), 2) == ["dropped", "cut"]
    assert sent(limited, HOME, query(name="b.z.test"), 1) == ["sent"]
    now[0] = 1.0
    assert sent(limited, HOME, query(), 10) == ["sent"] * 10


def team(seats=2, **options):
    """Return the limiters of processes that count together."""
    table = Joint.make(seats)
    made = [limiter(table=Joint(os.dup(table), seats, at, SECRET), **options) for at in range(seats)]  # fmt: skip
    os.close(table)
    return made


def test_several_processes_limit_what_they_send_together():
    now = [5.0]
    one, other = team(at=now)
    assert sent(one, HOME, query(), 5) == ["sent"] * 5  # its part of the limit: not looked at
    assert sent(one, HOME, query(), 10) == ["sent"] * 10  # alone it may send all of it
    sent(other, AWAY, query(), 5)
    assert "sent" not in sent(other, HOME, query(), 3)  # the other has sent it all
    now[0] = 6.0
    for each in (one, other):
        sent(each, AWAY, query(), 6)
    taken = [sent(each, HOME, query(), 1)[0] for _ in range(8) for each in (one, other)]
    assert taken[:10] == ["sent"] * 10
    assert "sent" not in taken[10:]
    assert {"dropped", "cut"} == set(taken[10:])
    assert sent(one, HOME, query(name="b.z.test"), 1) == ["sent"]


def test_rows_that_two_things_share_limit_neither_more(monkeypatch):
    monkeypatch.setattr(joint, "ROWS", 1)
    one, other = team()
    for each in (one, other):
        sent(each, AWAY, query(), 6)
    found = []
    for _ in range(10):
        found += sent(one, HOME, query(name="a.z.test"), 1)
        found += sent(other, HOME, query(name="b.z.test"), 1)
    assert set(found) == {"sent"}


def test_clients_that_are_never_limited_are_known_at_a_glance():
    limited = limiter()
    inside, mapped = bytes((10, 1, 2, 3)), bytes(10) + b"\xff\xff" + bytes((10, 1, 2, 4))
    for _ in range(2):
        assert limited.spares([inside, mapped])
        assert not limited.spares([inside, HOME])
        assert not limited.spares([HOME])


def test_all_errors_to_one_network_are_one_answer():
    limited = limiter(slip=0)
    sent(limited, AWAY, query(), 11)
    found = [sent(limited, HOME, query(name=f"n{at}.z.test"), 1, rcode=3)[0] for at in range(12)]
    assert found == ["sent"] * 10 + ["dropped"] * 2


def test_exempt_networks_and_no_limit():
    assert set(sent(limiter(), bytes((10, 1, 1, 1)), query(), 100)) == {"sent"}
    assert set(sent(limiter(rate=0), HOME, query(), 100)) == {"sent"}


def test_a_good_cookie_is_not_limited_and_half_a_cookie_gets_the_other_half():
    limited = limiter()
    sent(limited, AWAY, query(), 11)
    whole = CLIENT + limited.cookies.server(CLIENT, HOME, 1000)
    assert set(sent(limited, HOME, query(whole), 50)) == {"sent"}
    sent(limited, HOME, query(CLIENT), 20)
    octets = limited.passed(HOME, query(CLIENT), reply_to(query(CLIENT))[2:])
    found = dns.message.from_wire(b"\0\7" + octets)
    assert found.rcode() == 23
    assert [option.client + option.server for option in found.options] == [whole]
    assert not found.answer


def test_a_cut_reply_has_the_question_and_nothing_more():
    found = dns.message.from_wire(message.truncated(query()))
    assert found.flags & dns.flags.TC
    assert found.question[0].name.to_text() == "a.z.test."
    assert found.edns == 0
    assert len(message.truncated(query())) <= len(query())


def test_minimal_cut_replies_go_to_who_has_no_good_cookie():
    """§10.2: empty sections for clients who may not be who they say."""
    policy = Policy(frozenset(keys.zones("z.test")), minimal_tc=True, nsid=b"ns-a")
    answers = Answers(Served(), policy, lambda: 0.0)
    answers.loaded = True
    for at in range(120):
        key = KeyValue(b"/skydns/test/z/p/x%d" % at, b'{"host":"10.0.0.%d"}' % at, Revision(1), Revision(1), 1)  # fmt: skip
        answers.served.index.put(records.decode(b"/skydns", key))
    cookies = Cookies(SECRET, lambda: 1559731985, minimal=True)
    good = CLIENT + cookies.server(CLIENT, HOME, 1559731985)

    def asked(data, udp=True):
        return dns.message.from_wire(cookies.completed(data, answers.reply(data, udp=udp), HOME))

    plain = dns.message.make_query("p.z.test", "A", id=7).to_wire()
    for data in (plain, query(name="p.z.test"), query(CLIENT, "p.z.test"), query(good[:-1] + b"\0", "p.z.test")):  # fmt: skip
        found = asked(data)
        assert found.flags & dns.flags.TC
        assert found.flags & dns.flags.AA
        assert not found.answer
        assert found.question
        assert found.edns == dns.message.from_wire(data).edns
        if (ready := answers.quick(data)) is not None:
            assert not dns.message.from_wire(ready[:2] + ready[2:]).answer
    found = asked(query(good, "p.z.test"))
    assert found.flags & dns.flags.TC
    assert len(found.answer[0]) > 50
    assert len(asked(plain, udp=False).answer[0]) == 120
    assert not asked(dns.message.make_query("x1.p.z.test", "A").to_wire()).flags & dns.flags.TC

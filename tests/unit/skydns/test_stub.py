# SPDX-License-Identifier: Apache-2.0
"""Stub zones from records and from the flag; names that are never asked for."""

import pytest

from fairlead.etcd.types import KeyValue, Revision
from skydns import keys, names, records, rrs, special, stub
from skydns.addresses import Server
from skydns.rrs import Question
from skydns.upstream import Routes, Upstream

ZONES = keys.zones("skydns.local")


def service(path, value):
    key = b"/skydns/local/skydns/dns/stub/" + path.encode()
    return records.decode(b"/skydns", KeyValue(key, value.encode(), Revision(1), Revision(1), 1))


def test_from_records():
    found = stub.from_records(
        [
            service("com/example/ns1", '{"host":"172.16.1.1","port":54}'),
            service("com/example/ns2", '{"host":"172.16.1.2"}'),
            service("net/ns", '{"host":"2001:db8::1"}'),
            service("org/ns", '{"host":"a.name.is.no.server"}'),
            service("ns", '{"host":"172.16.1.3"}'),  # no label between: no zone
            service("local/skydns/dns/local/x", '{"host":"172.16.1.4"}'),
        ],
        ZONES,
    )
    assert found == {
        names.from_text("example.com"): (Server("172.16.1.1", 54), Server("172.16.1.2", 53)),
        names.from_text("net"): (Server("2001:db8::1", 53),),
    }


def test_longest_suffix_wins():
    default = Upstream((Server("192.0.2.1", 53),))
    routes = Routes(default).with_stubs(
        stub.from_flag(("example.com=192.0.2.2", "a.example.com=192.0.2.3:54"))
    )
    hosts = {
        "example.com": "192.0.2.2",
        "x.example.com": "192.0.2.2",
        "x.a.example.com": "192.0.2.3",
        "example.org": "192.0.2.1",
    }
    for name, host in hosts.items():
        assert routes.upstream(names.from_text(name)).servers[0].host == host


@pytest.mark.parametrize("text", ["example.com", "example.com=name", "a..b=192.0.2.1"])
def test_bad_flags(text):
    with pytest.raises(ValueError, match=r"."):
        stub.from_flag((text,))


@pytest.mark.parametrize(("name", "rtype", "private", "rcode"), [
    ("localhost", rrs.A, True, 0),
    ("x.localhost", rrs.AAAA, False, 0),
    ("localhost", rrs.MX, False, 0),
    ("x.invalid", rrs.A, True, 3),
    ("x.onion", rrs.A, True, 3),
    ("4.3.2.10.in-addr.arpa", rrs.PTR, False, 3),
    ("4.3.2.10.in-addr.arpa", rrs.PTR, True, None),  # a private server may know
    ("x.home.arpa", rrs.A, False, 3),
    ("1.0.0.127.in-addr.arpa", rrs.PTR, True, 3),
    ("8.8.8.8.in-addr.arpa", rrs.PTR, False, None),
    ("example.org", rrs.A, False, None),
])  # fmt: skip
def test_special_names(name, rtype, private, rcode):
    servers = (Server("10.0.0.1" if private else "9.9.9.9", 53),)
    made = special.answer(Question(names.from_text(name), rtype), servers)
    assert (made and made.rcode) == rcode
    if made and rtype in (rrs.A, rrs.AAAA) and not rcode:
        assert made.answer[0].head in (b"\x7f\0\0\1", bytes(15) + b"\1")

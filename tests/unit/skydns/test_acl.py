# SPDX-License-Identifier: Apache-2.0
"""The plugin `acl`: who is let through, what the others get."""

import ipaddress
from collections import Counter

import dns.message
import dns.rcode
import pytest

from fairlead.errors import ConfigErrors
from skydns.acl import Action, Screen
from skydns.seen import Seen

from .corefile.test_translate import configured

FILE = """
example.test a.example.test {
    etcd
    acl {
        allow type A net 192.0.2.0/24
        block type A AAAA net 192.0.2.7 10.0.0.0/8
        filter type TXT
        drop net 203.0.113.0/24 2001:db8::/32
    }
    acl sub.example.test {
        block
    }
}
open.example.test {
    etcd
}
"""


@pytest.fixture
def counted():
    return []


@pytest.fixture
def screen(tmp_path, counted):
    return Screen(configured(tmp_path, FILE).acl, counted.append, Counter())


def verdict(screen, name, rtype, client, **options):
    data = dns.message.make_query(name, rtype, **options).to_wire()
    found = screen.verdict(data, ipaddress.ip_address(client).packed, udp=True)
    if not found:
        return "pass" if found is None else "drop"
    reply = dns.message.from_wire(found)
    assert dns.message.from_wire(data).is_response(reply)
    assert not reply.answer
    return dns.rcode.to_text(reply.rcode())


@pytest.mark.parametrize(("name", "rtype", "client", "becomes"), [
    ("example.test", "A", "192.0.2.7", "pass"),  # the first line that matches
    ("example.test", "AAAA", "192.0.2.7", "REFUSED"),
    ("WWW.Example.test", "A", "10.255.0.1", "REFUSED"),
    ("example.test", "MX", "10.0.0.1", "pass"),  # no line matches
    ("example.test", "TXT", "198.51.100.1", "NOERROR"),
    ("example.test", "A", "203.0.113.9", "drop"),
    ("example.test", "A", "2001:db8::9", "drop"),
    ("example.test", "AAAA", "2001:db9::9", "pass"),
    ("x.sub.example.test", "MX", "198.51.100.1", "REFUSED"),  # the second list
    ("x.sub.example.test", "A", "192.0.2.1", "pass"),  # allowed by the first
    ("open.example.test", "A", "203.0.113.9", "pass"),  # another block's name
    ("example.org", "A", "203.0.113.9", "pass"),
    ("example.test", "AXFR", "203.0.113.9", "drop"),
    ("sub.example.test", "IXFR", "198.51.100.1", "REFUSED"),
])  # fmt: skip
def test_who_gets_what(screen, name, rtype, client, becomes):
    assert verdict(screen, name, rtype, client) == becomes


def test_the_reply_says_why_and_is_counted(screen, counted):
    data = dns.message.make_query("example.test", "TXT", use_edns=0).to_wire()
    reply = dns.message.from_wire(screen.verdict(data, b"\0\0\0\1", udp=False))
    assert [option.code for option in reply.options] == [17]
    (seen,) = counted
    assert isinstance(seen, Seen)
    assert (seen.rtype, seen.rcode, seen.proto) == ("TXT", "NOERROR", "tcp")
    verdict(screen, "example.test", "A", "192.0.2.7")
    verdict(screen, "open.example.test", "A", "192.0.2.7")  # no list there
    assert screen.decided == {
        (Action.FILTER, "example.test."): 1,
        (Action.ALLOW, "example.test."): 1,
    }


def test_what_is_no_query_passes_to_where_it_is_refused(screen):
    assert screen.verdict(b"", bytes(4), udp=True) is None
    assert screen.verdict(bytes(13), bytes(4), udp=True) is None


def test_without_the_plugin_there_is_nothing_to_apply(tmp_path):
    assert not configured(tmp_path, "a.test {\n etcd\n}").acl


@pytest.mark.parametrize(("lines", "said"), [
    ("permit net 10.0.0.0/8", 'property "permit" is not supported'),
    ("block type NONSENSE", '"NONSENSE" is no type'),
    ("block type", "type takes at least one argument"),
    ("block net 10.0.0.300", "10.0.0.300"),
    ("block 10.0.0.0/8", "type or net is expected"),
])  # fmt: skip
def test_what_is_refused(tmp_path, lines, said):
    with pytest.raises(ConfigErrors) as caught:
        configured(tmp_path, f"a.test {{\n etcd\n acl {{\n {lines}\n }}\n}}")
    assert said in str(caught.value)


def test_two_schemes_two_lists_are_refused(tmp_path):
    text = "a.test {\n etcd\n acl {\n block\n }\n}\ntls://a.test {\n etcd\n}\n"
    with pytest.raises(ConfigErrors, match="another list"):
        configured(tmp_path, text)

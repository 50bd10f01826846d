# SPDX-License-Identifier: Apache-2.0
"""§14.4: the query log's lines."""

import dns.message
import pytest

from skydns import keys, logformat, names
from skydns.logformat import COMBINED, Format

QUERY = dns.message.make_query("Web.z.test", "A", use_edns=0, want_dnssec=True, id=29008)
REPLY = dns.message.make_response(QUERY)
DATA, OCTETS = QUERY.to_wire(), REPLY.to_wire()


def line(text, client="192.0.2.7:50759"):
    return logformat.line(DATA, OCTETS, client, "udp", 0.000251, text, "192.0.2.53")


@pytest.mark.parametrize(("text", "found"), [
    (logformat.COMMON, '192.0.2.7:50759 - 29008 "A IN Web.z.test. udp 39 true 1232" NOERROR qr,rd 39 0.000251000s'),
    (COMBINED, '192.0.2.7:50759 - 29008 "A IN Web.z.test. udp 39 true 1232" NOERROR qr,rd 39 0.000251000s "0"'),
    ("{proto} Request: {name} {type} {/log/class} {/log/type}", "udp Request: Web.z.test. A denial NODATA"),
    ("{local} {nothing} {/forward/upstream}", "192.0.2.53 - -"),
])  # fmt: skip
def test_placeholders(text, found):
    assert line(text) == found


def test_ipv6_clients_stand_in_brackets():
    assert line("{remote} {port}", "[2001:db8::7]:53") == "[2001:db8::7] 53"


def test_what_is_no_query_has_a_line_too():
    data = bytes.fromhex("123401000000000000000000")
    assert logformat.line(data, data[:3] + b"\x01" + data[4:], "192.0.2.7:1", "udp", 0.1) == (
        '192.0.2.7:1 - 4660 "- - - udp 12 false 512" FORMERR rd 12 0.100000000s'
    )


@pytest.mark.parametrize(("formats", "text"), [
    ({}, ""),
    ({names.ROOT: ()}, ""),
    ({names.ROOT: (Format(text="a"),)}, "a"),
    ({names.ROOT: (Format(text="a"),), keys.zones("z.test")[0]: ()}, ""),  # the longest block decides
    ({names.ROOT: (Format(keys.zones("y.test"), "a"), Format(text="b"))}, "b"),
    ({names.ROOT: (Format(text="a", classes=frozenset(("success",))), Format(text="b"))}, ""),  # the first
    ({names.ROOT: (Format(text="a", classes=frozenset(("denial",))),)}, "a"),
])  # fmt: skip
def test_which_format_is_for_a_query(formats, text):
    formats = {
        zone: [Format(frozenset(f.zones), f.text, f.classes) for f in some]
        for zone, some in formats.items()
    }
    assert logformat.format_of(DATA, OCTETS, formats) == text

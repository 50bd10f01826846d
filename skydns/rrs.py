# SPDX-License-Identifier: Apache-2.0
"""Resource records as values, and the numbers of the DNS."""

from __future__ import annotations

from typing import Final, NamedTuple

import dnslib

IN: Final = 1
CHAOS: Final = 3
ANY_CLASS: Final = 255

A: Final = 1
NS: Final = 2
CNAME: Final = 5
SOA: Final = 6
PTR: Final = 12
HINFO: Final = 13
MX: Final = 15
TXT: Final = 16
AAAA: Final = 28
SRV: Final = 33
OPT: Final = 41
TSIG: Final = 250
IXFR: Final = 251
AXFR: Final = 252
ANY: Final = 255
TYPES: Final = {
    A: "A", NS: "NS", CNAME: "CNAME", SOA: "SOA", PTR: "PTR", HINFO: "HINFO", MX: "MX", TXT: "TXT",
    AAAA: "AAAA", SRV: "SRV", OPT: "OPT", IXFR: "IXFR", AXFR: "AXFR", ANY: "ANY", 65: "HTTPS", 64: "SVCB",
    43: "DS", 48: "DNSKEY", 35: "NAPTR", 257: "CAA", 52: "TLSA", 44: "SSHFP",
}  # fmt: skip

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4
REFUSED: Final = 5
BADVERS: Final = 16
RCODES: Final = {
    NOERROR: "NOERROR", FORMERR: "FORMERR", SERVFAIL: "SERVFAIL", NXDOMAIN: "NXDOMAIN",
    NOTIMP: "NOTIMP", REFUSED: "REFUSED", 6: "YXDOMAIN", 7: "YXRRSET", 8: "NXRRSET", 9: "NOTAUTH",
    10: "NOTZONE", BADVERS: "BADVERS",
}  # fmt: skip


def number(text: str) -> int | None:
    """Return the number of a type: `AAAA`, `TYPE28`; None: there is no such type."""
    upper = text.upper()
    if upper.startswith("TYPE") and upper[4:].isdecimal():
        return int(upper[4:]) if int(upper[4:]) < 65536 else None
    found: int | None = dnslib.QTYPE.reverse.get(upper)
    return found


def rcode(text: str) -> int | None:
    """Return the number of an rcode that fits a header: `NXDOMAIN`, `3`; None: there is none."""
    if text.isdecimal():
        return int(text) if int(text) < 16 else None
    by_name = {name: code for code, name in RCODES.items() if code < 16}
    return by_name.get(text.upper())


class RR(NamedTuple):
    """One record; its data is `head`, then `names` (compressed where the RFCs let us), `tail`."""

    owner: bytes
    rtype: int
    ttl: int
    head: bytes = b""
    names: tuple[bytes, ...] = ()
    tail: bytes = b""
    rclass: int = IN


class Question(NamedTuple):
    """What is asked: `name` folded, `rtype`, `rclass`. The letter case is put back on sending."""

    name: bytes
    rtype: int
    rclass: int = IN

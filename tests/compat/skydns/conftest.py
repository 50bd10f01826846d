# SPDX-License-Identifier: Apache-2.0
"""Records as JSON, questions as text, answers as dnspython reads them."""

import dns.flags
import dns.message
import dns.rcode
import pytest

from fairlead.etcd.types import KeyValue, LeaseID, Revision
from skydns import keys, names, records
from skydns.compiled import Answers
from skydns.policy import PROFILES, Policy
from skydns.state import Served


class Server:
    """A whole server but its sockets: zone skydns.test., prefix /skydns."""

    def __init__(
        self, stored=(), *, profile="coredns", zones="skydns.test.", prefix="/skydns", **policy
    ):
        self.prefix = keys.clean(prefix)
        self.served = Served(start_serial=7)
        self.now = 1000.0
        chosen = PROFILES[profile]
        self.policy = Policy(
            frozenset(keys.zones(zones)), profile=chosen,
            **{"ttl": chosen.ttl, "min_ttl": chosen.min_ttl, "rotate": False} | policy,
        )  # fmt: skip
        self.answers = Answers(self.served, self.policy, lambda: self.now)
        self.answers.loaded = True
        self.put(dict(stored))

    def put(self, stored, lease=0):
        for path, value in stored.items():
            key = self.prefix + b"/test/skydns" + (b"/" + path.encode() if path else b"")
            if path.startswith("/"):
                key = path.encode()
            if value is None:
                self.served.index.remove(key)
                name = keys.name_of(self.prefix, key)
            else:
                service = records.decode(
                    self.prefix,
                    KeyValue(key, value.encode(), Revision(1), Revision(1), 1, LeaseID(lease)),
                )
                self.served.index.put(service)
                name = service.name
            self.answers.touch([name.lower()])

    def wire(self, question, *, udp=True, **options):
        """Return the reply to `NAME TYPE [CLASS]`; asked twice, for the second comes from `ready`."""
        name, rtype, *rclass = question.split()
        if not name.endswith(".") or name.endswith("\\."):
            name += ".skydns.test."
        query = dns.message.make_query(name, rtype, *rclass, **options)
        query.id = 4711
        data = query.to_wire()
        first = self.send(data, udp=udp)
        assert self.send(data, udp=udp) == first
        return query, first

    def send(self, data, *, udp=True):
        return (udp and self.answers.quick(data)) or self.answers.reply(data, udp=udp)

    def message(self, question, **options):
        query, data = self.wire(question, **options)
        reply = dns.message.from_wire(data)
        assert query.is_response(reply)
        return reply

    def ask(self, question, **options):
        """Return (rcode, answer lines, additional lines), as dig prints them."""
        reply = self.message(question, **options)
        return dns.rcode.to_text(reply.rcode()), lines(reply.answer), lines(reply.additional)

    def answer(self, question, **options):
        """Return the answer's lines without TTL and class; an rcode other than NOERROR instead of none."""
        rcode, answer, _ = self.ask(question, **options)
        short = [
            " ".join([line.split()[0].removesuffix(".skydns.test."), *line.split()[3:]])
            for line in answer
        ]
        if rcode != "NOERROR":
            assert not short
            return rcode
        return short


def lines(section):
    return [line for rrset in section for line in rrset.to_text().split("\n")]


@pytest.fixture
def server():
    return Server


@pytest.fixture
def name():
    return names.from_text

# SPDX-License-Identifier: Apache-2.0
"""The plugin `rewrite`: rules as a Corefile has them, questions and replies as dig shows them."""

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest

from fairlead.errors import ConfigErrors
from skydns import message, rewriting
from skydns.rewrite import Rewriter, subnet

from .corefile.test_translate import configured

CLIENT = bytes((192, 0, 2, 77))


def rewriter(tmp_path, rules):
    text = ". {\n etcd z.test\n" + "".join(f"{rule}\n" for rule in rules) + "}\n"
    return Rewriter(configured(tmp_path, text).rewrites)


class Behind:
    """Answers what is asked after the rules with the given records."""

    def __init__(self, records, rcode="NOERROR"):
        self.records, self.rcode = records, rcode
        self.asked, self.options = [], b""

    async def __call__(self, data, options):
        query = dns.message.from_wire(data)
        self.asked.append(query.question[0].to_text())
        self.options = options
        reply = dns.message.make_response(query)
        reply.set_rcode(dns.rcode.from_text(self.rcode))
        for line in self.records:
            owner, ttl, rtype, rdata = line.split(" ", 3)
            if owner == "?":
                owner = query.question[0].name.to_text()
            reply.answer.append(dns.rrset.from_text(owner, int(ttl), "IN", rtype, rdata))
        return reply.to_wire()


async def ask(rules, behind, name, rtype="A", rclass="IN", *, udp=True):
    query = dns.message.make_query(name, rtype, rclass)
    data = query.to_wire()
    change = rules.change(data, CLIENT, "udp")
    if change is None:
        return None
    reply = dns.message.from_wire(
        await rewriting.reply(change, message.parse(data), data, behind, udp=udp)
    )
    assert query.is_response(reply)  # the question is the client's own, id and letter case too
    answers = [
        f"{rrset.name} {rrset.ttl} {dns.rdatatype.to_text(rrset.rdtype)} {rdata}"
        for rrset in reply.answer for rdata in rrset
    ]  # fmt: skip
    return dns.rcode.to_text(reply.rcode()), answers


@pytest.mark.parametrize(("rules", "asked", "behind"), [
    (["rewrite name a.test b.test"], "a.test", "b.test. IN A"),
    (["rewrite name a.test b.test"], "A.TEST", "b.test. IN A"),
    (["rewrite name exact a.test. b.test."], "x.a.test", None),
    (["rewrite name prefix x- y-"], "x-1.test", "y-1.test. IN A"),
    (["rewrite name suffix .old.test .new.test"], "h.old.test", "h.new.test. IN A"),
    (["rewrite name suffix old.test new.test"], "veryold.test", "verynew.test. IN A"),  # text, not labels
    (["rewrite name substring -us- -eu-"], "a-us-b-us-c.test", "a-eu-b-eu-c.test. IN A"),
    ([r"rewrite name regex (.*)-(us-west-1)\.co\.test {1}.service.{2}.consul"], "ftp-us-west-1.co.test", "ftp.service.us-west-1.consul. IN A"),
    (["rewrite type ANY HINFO"], ("a.test", "ANY"), "a.test. IN HINFO"),
    (["rewrite class CH IN"], ("a.test", "A", "CH"), "a.test. IN A"),
    (["rewrite stop name a.test b.test", "rewrite name b.test c.test"], "a.test", "b.test. IN A"),
    (["rewrite continue name a.test b.test", "rewrite name b.test c.test"], "a.test", "c.test. IN A"),
    (["rewrite continue {\n name a.test b.test\n}", "rewrite type A AAAA"], "a.test", "b.test. IN AAAA"),
])  # fmt: skip
async def test_questions(tmp_path, rules, asked, behind):
    server = Behind([])
    found = await ask(
        rewriter(tmp_path, rules), server, *([asked] if isinstance(asked, str) else asked)
    )
    assert (found is None) == (behind is None)
    assert server.asked == ([behind] if behind else [])


@pytest.mark.parametrize(("rule", "asked", "records", "found"), [
    ("rewrite name red.test blue.test", "red.test", ["blue.test. 5 A 10.0.0.1"], ["red.test. 5 A 10.0.0.1"]),
    ("rewrite name red.test blue.test", "red.test", ["blue.test. 5 CNAME x.blue.test.", "x.blue.test. 5 A 10.0.0.1"],
     ["red.test. 5 CNAME x.red.test.", "x.red.test. 5 A 10.0.0.1"]),
    ("rewrite name suffix .old.test .new.test", "a.old.test", ["? 5 A 10.0.0.1"], ["a.new.test. 5 A 10.0.0.1"]),
    ("rewrite name suffix .old.test .new.test answer auto", "a.old.test", ["? 5 CNAME b.new.test."], ["a.old.test. 5 CNAME b.old.test."]),
    ("rewrite name prefix x- y- answer auto", "x-1.test", ["? 5 A 10.0.0.1"], ["x-1.test. 5 A 10.0.0.1"]),
    (r"rewrite name regex (.*)\.co\.test {1}.consul answer name (.*)\.consul {1}.co.test", "a.co.test", ["? 5 A 10.0.0.1"], ["a.co.test. 5 A 10.0.0.1"]),
    ("rewrite stop {\n name suffix .arpa .arpa\n answer name auto\n answer value (.*)\\.consul\\. {1}.co.test.\n}",
     "1.0.0.10.in-addr.arpa", ["? 5 PTR ftp.consul."], ["1.0.0.10.in-addr.arpa. 5 PTR ftp.co.test."]),
    ("rewrite ttl a.test 15", "a.test", ["? 5 A 10.0.0.1"], ["a.test. 15 A 10.0.0.1"]),
    ("rewrite ttl a.test 30-300", "a.test", ["? 500 A 10.0.0.1"], ["a.test. 300 A 10.0.0.1"]),
    ("rewrite ttl suffix test. -30", "a.test", ["? 500 A 10.0.0.1"], ["a.test. 30 A 10.0.0.1"]),
    ("rewrite ttl a.test 30-", "a.test", ["? 5 A 10.0.0.1"], ["a.test. 30 A 10.0.0.1"]),
])  # fmt: skip
async def test_replies(tmp_path, rule, asked, records, found):
    rtype = "PTR" if asked.endswith("arpa") else "A"
    assert await ask(rewriter(tmp_path, [rule]), Behind(records), asked, rtype) == (
        "NOERROR",
        found,
    )


async def test_rcode(tmp_path):
    rules = rewriter(tmp_path, ["rewrite rcode regex (.*)\\.test SERVFAIL NOERROR"])
    assert await ask(rules, Behind([], "SERVFAIL"), "a.test") == ("NOERROR", [])
    assert await ask(rules, Behind([], "NXDOMAIN"), "a.test") == ("NXDOMAIN", [])


async def test_cname_is_asked_anew(tmp_path):
    rules = rewriter(tmp_path, [r"rewrite cname regex (.*)\.cdn\.test\. {1}.other.test."])

    class Cdn(Behind):
        async def __call__(self, data, options):
            name = dns.message.from_wire(data).question[0].name.to_text()
            self.records = (
                ["? 9 A 10.0.0.9"]
                if name.endswith("other.test.")
                else ["? 5 CNAME app.cdn.test.", "app.cdn.test. 5 A 10.0.0.1"]
            )
            return await super().__call__(data, options)

    behind = Cdn([])
    rcode, answers = await ask(rules, behind, "my.test")
    assert rcode == "NOERROR"
    assert answers == ["my.test. 5 CNAME app.other.test.", "app.other.test. 9 A 10.0.0.9"]
    assert behind.asked == ["my.test. IN A", "app.other.test. IN A"]


@pytest.mark.parametrize(("rule", "option"), [
    ("rewrite edns0 local set 0xffee 0x61626364", "ffee000461626364"),
    ("rewrite edns0 local set 0xffee abcd revert", "ffee000461626364"),
    ("rewrite edns0 local append 65518 {client_ip}", "ffee0004c000024d"),
    ("rewrite edns0 nsid set", "00030000"),
    ("rewrite edns0 subnet set 24 56", "0008000700011800c00002"),
])  # fmt: skip
async def test_options_for_the_name_servers(tmp_path, rule, option):
    behind = Behind([])
    await ask(rewriter(tmp_path, [rule]), behind, "a.test")
    assert behind.options.hex() == option


@pytest.mark.parametrize(
    ("prefix", "found"), [(24, "00011800c00002"), (20, "00011400c00000"), (0, "00010000")]
)
def test_a_client_subnet_shows_no_more_than_its_prefix(prefix, found):
    assert subnet(CLIENT, prefix).hex() == found


async def test_what_is_no_name_any_more_is_a_failure(tmp_path):
    rules = rewriter(tmp_path, [f"rewrite name prefix x {'y' * 64}"])
    assert await ask(rules, Behind([]), "x.test") == ("SERVFAIL", [])


async def test_a_longer_reply_is_cut_to_what_the_client_takes(tmp_path):
    rules = rewriter(tmp_path, ["rewrite ttl a.test 15"])
    query = dns.message.make_query("a.test", "A")
    data = query.to_wire()
    behind = Behind([f"? 5 A 10.0.0.{at}" for at in range(60)])
    change = rules.change(data, CLIENT, "udp")
    found = await rewriting.reply(change, message.parse(data), data, behind, udp=True)
    assert len(found) <= 512
    assert dns.message.from_wire(found).flags & dns.flags.TC
    found = await rewriting.reply(change, message.parse(data), data, behind, udp=False)
    assert sum(map(len, dns.message.from_wire(found).answer)) == 60


@pytest.mark.parametrize(("rule", "said"), [
    ("rewrite name a.test", "too few arguments"),
    ("rewrite name regex ( x", "missing )"),
    ("rewrite name regex (a) {2}", "more groups"),
    ("rewrite name a.test b.test c.test", '"c.test" is too much'),
    ("rewrite name exact a b answer loud", 'answer "loud"'),
    ("rewrite name suffix a b answer auto name x y", "exclude each other"),
    ("rewrite type A NONSENSE", '"NONSENSE" is no type'),
    ("rewrite ttl a.test 9-3", "neither SECONDS nor MIN-MAX"),
    ("rewrite edns0 local put 1 2", '"put" is neither'),
    ("rewrite edns0 local set 1 {server_ip}", "not known here"),
    ("rewrite colour a b", '"colour" is no field'),
])  # fmt: skip
def test_what_is_refused_names_line_and_reason(tmp_path, rule, said):
    with pytest.raises(ConfigErrors) as caught:
        rewriter(tmp_path, [rule])
    assert "line 3" in str(caught.value)
    assert said in str(caught.value)

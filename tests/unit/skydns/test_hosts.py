# SPDX-License-Identifier: Apache-2.0
"""The plugin `hosts`: lines → answers, as CoreDNS gives them; files that change."""

import os

import dns.message
import dns.rcode
import pytest

from fairlead.errors import ConfigErrors
from skydns.ahead import Ahead
from skydns.compiled import Answers, Ask
from skydns.policy import Policy
from skydns.state import Served

from .corefile.test_translate import configured

FILE = """10.0.0.1 one.example.test One-Alias.example.test # a note
10.0.0.2 one.example.test
2001:db8::1 one.example.test
192.0.2.9 other.test
127.0.0.1 *.wild.example.test
10.0.0.5 x.wild.example.test
bad line here
fe80::1%lo0 scoped.example.test
"""
PROPERTIES = "10.1.1.1 inline.example.test"


@pytest.fixture
def served(tmp_path):
    (tmp_path / "hosts").write_text(FILE)

    def made(properties=PROPERTIES, path=tmp_path / "hosts"):
        text = f". {{\n etcd z.test\n hosts {path} example.test {{\n{properties}\n}}\n}}"
        policy = Policy(frozenset((b"\1z\4test\0",)), rotate=False)
        answers = Answers(Served(), policy, lambda: 0.0)
        said = []
        local = Ahead(answers, lambda *what: said.append(what))
        local.use(configured(tmp_path, text).blocks)
        return answers, local, said

    return made


def ask(answers, name, rtype="A", **options):
    data = dns.message.make_query(name, rtype, **options).to_wire()
    for _ in range(2):  # made, then kept
        found = answers.reply(data)
        assert not isinstance(found, Ask)
    reply = dns.message.from_wire(found)
    ttls = {rrset.ttl for rrset in reply.answer}
    assert ttls <= {3600, 60}
    return dns.rcode.to_text(reply.rcode()), [str(rr) for rrset in reply.answer for rr in rrset]


# observed on CoreDNS with the same lines
@pytest.mark.parametrize(("name", "rtype", "rcode", "rdata"), [
    ("one.example.test", "A", "NOERROR", ["10.0.0.1", "10.0.0.2"]),
    ("one-alias.example.test", "A", "NOERROR", ["10.0.0.1"]),
    ("ONE.example.test", "AAAA", "NOERROR", ["2001:db8::1"]),
    ("one.example.test", "MX", "NOERROR", []),
    ("inline.example.test", "A", "NOERROR", ["10.1.1.1"]),
    ("none.example.test", "A", "SERVFAIL", []),
    ("x.wild.example.test", "A", "NOERROR", ["10.0.0.5"]),
    ("y.wild.example.test", "A", "NOERROR", ["127.0.0.1"]),
    ("y.wild.example.test", "AAAA", "NOERROR", []),
    ("z.y.wild.example.test", "A", "SERVFAIL", []),
    ("wild.example.test", "A", "SERVFAIL", []),
    ("scoped.example.test", "AAAA", "NOERROR", ["fe80::1"]),
    ("1.0.0.10.in-addr.arpa", "PTR", "NOERROR", ["one.example.test.", "one-alias.example.test."]),
    ("1.1.1.10.in-addr.arpa", "PTR", "NOERROR", ["inline.example.test."]),
])  # fmt: skip
def test_answers(served, name, rtype, rcode, rdata):
    answers, _, _ = served()
    assert ask(answers, name, rtype) == (rcode, rdata)


def test_what_is_not_its_own_is_the_next_plugins(served):
    answers, _, _ = served()
    assert ask(answers, "other.test")[0] == "REFUSED"
    assert ask(answers, "9.2.0.192.in-addr.arpa", "PTR")[0] == "REFUSED"
    assert ask(answers, "1.0.0.127.in-addr.arpa", "PTR")[0] == "REFUSED"  # the name is a pattern
    answers, _, _ = served("fallthrough sub.example.test")
    assert ask(answers, "none.example.test")[0] == "SERVFAIL"
    assert ask(answers, "none.sub.example.test")[0] == "REFUSED"
    assert ask(answers, "one.example.test", "MX") == ("NOERROR", [])


def test_ttl_and_no_reverse(served):
    answers, _, _ = served("ttl 60\nno_reverse")
    assert ask(answers, "one.example.test")[1]
    assert ask(answers, "1.0.0.10.in-addr.arpa", "PTR")[0] == "REFUSED"


async def test_a_file_that_changes_is_read_anew(served, tmp_path):
    answers, local, said = served()
    assert ask(answers, "new.example.test")[0] == "SERVFAIL"
    (tmp_path / "hosts").write_text("10.9.9.9 new.example.test\n")
    await local.look()
    assert ask(answers, "new.example.test") == ("NOERROR", ["10.9.9.9"])
    assert ask(answers, "one.example.test")[0] == "SERVFAIL"
    assert ask(answers, "inline.example.test")[0] == "NOERROR"
    (tmp_path / "hosts").unlink()
    await local.look()  # what was read stays
    assert ask(answers, "new.example.test")[0] == "NOERROR"
    assert not said


async def test_without_reload_it_is_not(served, tmp_path):
    answers, local, _ = served("reload 0")
    (tmp_path / "hosts").write_text("10.9.9.9 new.example.test\n")
    os.utime(tmp_path / "hosts", (1, 1))
    await local.look()
    assert ask(answers, "new.example.test")[0] == "SERVFAIL"


def test_a_missing_file_is_said(served, tmp_path):
    answers, _, said = served(path=tmp_path / "nothing")
    assert ask(answers, "inline.example.test")[0] == "NOERROR"
    assert [path for path, _ in said] == [f"{tmp_path}/nothing"]


def test_without_the_plugin_nobody_is_asked_before(served, tmp_path):
    answers, local, _ = served()
    local.use(configured(tmp_path, "z.test {\n etcd\n}").blocks)
    assert answers.ahead is None
    assert ask(answers, "one.example.test")[0] == "REFUSED"


@pytest.mark.parametrize(("line", "said"), [
    ("ttl 0", "is not 1 to 65535"),
    ("nonsense 1", 'property "nonsense" is not supported'),
    ("no_reverse please", "takes no argument"),
    ("reload often", '"often"'),
])  # fmt: skip
def test_what_is_refused(tmp_path, line, said):
    with pytest.raises(ConfigErrors) as caught:
        configured(tmp_path, f"a.test {{\n etcd\n hosts x {{\n {line}\n }}\n}}")
    assert said in str(caught.value)

# SPDX-License-Identifier: Apache-2.0
"""The plugin `hosts` beside CoreDNS's on the same file."""

import dns.message
import dns.reversename
import pytest

from fairlead.testing.etcd import free_ports
from skydns import config
from skydns.ahead import Ahead
from skydns.compiled import Answers
from skydns.policy import Policy
from skydns.settings import SETTINGS
from skydns.state import Served

from .test_peers import ask, peer, shown

pytestmark = [pytest.mark.integration, pytest.mark.slow]

LINES = """10.0.0.1 one.example.test One-Alias.example.test # a note
10.0.0.2 one.example.test
2001:db8::1 one.example.test x.wild.example.test
::ffff:10.0.0.3 mapped.example.test
192.0.2.9 other.test
127.0.0.1 *.wild.example.test
10.0.0.5 x.wild.example.test
bad line here
010.0.0.1 zero.example.test
fe80::1%lo0 scoped.example.test
"""
BLOCK = """.:{port} {{
    hosts {path} example.test {{
        10.1.1.1 inline.example.test
        ttl 77
    }}
"""
NAMES = (
    *(f"{name}.example.test" for name in (
        "one", "ONE", "one-alias", "mapped", "wild", "x.wild", "y.wild", "z.y.wild", "*.wild", "zero", "scoped",
        "inline", "none", "here",
    )),
    "10.0.0.1", "10.0.0.3", "10.1.1.1", "127.0.0.1", "2001:db8::1",
)  # fmt: skip


async def test_every_answer_is_the_originals(tmp_path):
    (port,) = free_ports(1)
    (tmp_path / "hosts").write_text(LINES)
    block = BLOCK.format(port=port, path=tmp_path / "hosts")
    (tmp_path / "theirs").write_text(block + "}\n")
    (tmp_path / "ours").write_text(block + "    etcd z.test\n}\n")
    given = config.configure(SETTINGS.parse((f"-conf={tmp_path}/ours",), {}))
    answers = Answers(Served(), Policy(given.policy.zones, rotate=False), lambda: 0.0)
    Ahead(answers, lambda path, reason: pytest.fail(reason)).use(given.blocks)
    different = []
    async with peer("coredns", "-conf", f"{tmp_path}/theirs", port=port):
        for name in NAMES:
            question, types = name, ("A", "AAAA", "MX", "ANY")
            if ":" in name or name[0].isdigit():
                question, types = dns.reversename.from_address(name).to_text(), ("PTR",)
            for rtype in types:
                theirs = await ask(port, question, rtype)
                ours = dns.message.from_wire(
                    answers.reply(dns.message.make_query(question, rtype).to_wire(), udp=False)
                )
                if shown(ours) == ("REFUSED", []) and shown(theirs) == ("SERVFAIL", []):
                    continue  # §15.3: the chain has ended; ours says that nobody is to be asked
                if shown(ours) != shown(theirs):
                    different.append((question, rtype, shown(ours), shown(theirs)))
    assert not different

# SPDX-License-Identifier: Apache-2.0
"""Master files: RFC 1034 §4.3.2 step by step, as text."""

import dns.flags
import dns.message
import dns.rcode
import pytest

from skydns import keys, names, zonefile
from skydns.ahead import Ahead
from skydns.compiled import Answers, Ask
from skydns.policy import Policy
from skydns.state import Served

from .corefile.test_translate import configured

FILE = """
$ORIGIN example.test.
$TTL 300
@       3600 IN SOA ns1 hostmaster 2024010101 7200 1800 86400 60
        IN NS ns1
        IN NS ns.away.example.org.
        IN MX 10 mail
        IN A 192.0.2.1
ns1     IN A 192.0.2.53
        IN AAAA 2001:db8::53
mail    IN A 192.0.2.25
Www     IN A 192.0.2.80
alias   IN CNAME www
far     IN CNAME host.example.org.
loop    IN CNAME loop
_http._tcp IN SRV 0 5 80 www
txt     IN TXT "one" "two"
*.wild  IN A 192.0.2.9
a.b.deep IN A 192.0.2.7
sub     IN NS ns.sub
        IN DS 12345 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
ns.sub  IN A 192.0.2.54
old     IN DNAME new.example.test.
x.new   IN A 192.0.2.70
caa     IN CAA 0 issue "ca.example"
"""


@pytest.fixture
def answers(tmp_path):
    return made(tmp_path)[0]


def made(tmp_path, text=FILE, properties="", more=""):
    (tmp_path / "db").write_text(text)
    file = f"{more}. {{\n etcd z.test\n file {tmp_path}/db example.test {{\n{properties}\n}}\n}}"
    found = Answers(Served(), Policy(frozenset(keys.zones("z.test")), chasing=True), lambda: 0.0)
    said = []
    ahead = Ahead(found, lambda *what: said.append(what))
    ahead.use(configured(tmp_path, file).blocks)
    return found, ahead, said


def ask(answers, name, rtype="A", **options):
    query = dns.message.make_query(
        f"{name}.example.test" if name else "example.test", rtype, **options
    )
    first = answers.reply(query.to_wire(), udp=False)
    assert not isinstance(first, Ask)
    assert answers.reply(query.to_wire(), udp=False) == first  # kept
    return dns.message.from_wire(first)


def shown(reply):
    """`rcode [AA]`, then the sections' records as `owner type data`, apart by `|`."""
    flags = " AA" if reply.flags & dns.flags.AA else ""
    sections = []
    for section in (reply.answer, reply.authority, reply.additional):
        rows = [line for rrset in section for line in rrset.to_text().split("\n")]
        sections.append(", ".join(
            " ".join([row.split()[0].replace(".example.test.", ""), *row.split()[3:]]) for row in rows
        ))  # fmt: skip
    return " | ".join([dns.rcode.to_text(reply.rcode()) + flags, *sections]).rstrip(" |")


NO = "example.test. SOA ns1.example.test. hostmaster.example.test. 2024010101 7200 1800 86400 60"


@pytest.mark.parametrize(("name", "rtype", "found"), [
    ("www", "A", "NOERROR AA | www A 192.0.2.80"),
    ("www", "TXT", f"NOERROR AA |  | {NO}"),
    ("nothing", "A", f"NXDOMAIN AA |  | {NO}"),
    ("b.deep", "A", f"NOERROR AA |  | {NO}"),  # only a name below it exists
    ("alias", "A", "NOERROR AA | alias CNAME www.example.test., www A 192.0.2.80"),
    ("alias", "CNAME", "NOERROR AA | alias CNAME www.example.test."),
    ("alias", "TXT", f"NOERROR AA | alias CNAME www.example.test. | {NO}"),
    ("", "MX", "NOERROR AA | example.test. MX 10 mail.example.test. |  | mail A 192.0.2.25"),
    ("", "SOA", "NOERROR AA | " + NO),
    ("txt", "TXT", 'NOERROR AA | txt TXT "one" "two"'),
    ("caa", "CAA", 'NOERROR AA | caa CAA 0 issue "ca.example"'),
    ("_http._tcp", "SRV", "NOERROR AA | _http._tcp SRV 0 5 80 www.example.test. |  | Www A 192.0.2.80"),
    ("x.wild", "A", "NOERROR AA | x.wild A 192.0.2.9"),
    ("y.x.wild", "A", "NOERROR AA | y.x.wild A 192.0.2.9"),
    ("wild", "A", f"NOERROR AA |  | {NO}"),
    ("x.wild", "TXT", f"NOERROR AA |  | {NO}"),
    ("h.sub", "A", "NOERROR |  | sub NS ns.sub.example.test. | ns.sub A 192.0.2.54"),
    ("sub", "NS", "NOERROR |  | sub NS ns.sub.example.test. | ns.sub A 192.0.2.54"),
    ("x.old", "A", "NOERROR AA | old DNAME new.example.test., x.old CNAME x.new.example.test., x.new A 192.0.2.70"),
    ("www", "ANY", 'NOERROR AA | www HINFO "ANY obsoleted" "See RFC 8482"'),
])  # fmt: skip
def test_lookups(answers, name, rtype, found):
    assert shown(ask(answers, name, rtype)).replace("Www", "www") == found.replace("Www", "www")


def test_ds_at_a_cut_is_the_parents(answers):
    assert len(ask(answers, "sub", "DS").answer) == 1
    assert not ask(answers, "h.sub", "DS").answer  # below the cut it is not


def test_ttls_and_the_case_of_the_question(answers):
    reply = ask(answers, "WwW")
    assert reply.answer[0].name.to_text() == "WwW.example.test."
    assert reply.answer[0].ttl == 300
    negative = ask(answers, "nothing")
    assert negative.authority[0].ttl == 60  # RFC 2308 §3: SOA minimum below its TTL
    assert negative.authority[0][0].serial == 2024010101  # the file's, not the store's


def test_ns_at_the_apex(answers):
    reply = ask(answers, "", "NS")
    assert sorted(rr.to_text() for rr in reply.answer[0]) == [
        "ns.away.example.org.",
        "ns1.example.test.",
    ]
    assert {rrset.name.to_text() for rrset in reply.additional} == {"ns1.example.test."}


def test_an_alias_that_leads_out_is_asked_of_the_servers(answers):
    made = answers.reply(dns.message.make_query("far.example.test", "A").to_wire())
    assert isinstance(made, Ask)
    assert made.reply.outside == names.from_text("host.example.org")


def test_loops_end(answers):
    assert ask(answers, "loop").rcode() == dns.rcode.NOERROR


def test_an_alias_into_the_store_and_one_out_of_it(tmp_path):
    answers, _, _ = made(tmp_path, FILE + "in IN CNAME web.z.test.\n")
    from fairlead.etcd.types import KeyValue, Revision
    from skydns import records

    for path, host in (("web", "10.0.0.1"), ("out", "www.example.test")):
        value = f'{{"host":"{host}"}}'.encode()
        kv = KeyValue(f"/skydns/test/z/{path}".encode(), value, Revision(1), Revision(1), 1)
        answers.served.index.put(records.decode(b"/skydns", kv))
    answers.loaded = True
    assert shown(ask(answers, "in")) == "NOERROR AA | in CNAME web.z.test., web.z.test. A 10.0.0.1"
    data = answers.reply(dns.message.make_query("out.z.test", "A").to_wire())
    assert shown(dns.message.from_wire(data)) == (
        "NOERROR AA | out.z.test. CNAME www.example.test., www A 192.0.2.80"
    )


def test_fallthrough_of_missing_names(tmp_path):
    answers, _, _ = made(tmp_path, properties="fallthrough")
    data = dns.message.make_query("nothing.example.test", "A").to_wire()
    assert dns.message.from_wire(answers.reply(data)).rcode() == dns.rcode.REFUSED  # the next: none
    assert shown(ask(answers, "www", "TXT")).startswith("NOERROR AA")


async def test_a_file_is_read_anew_when_its_serial_changed(tmp_path):
    answers, ahead, said = made(tmp_path)
    changed = FILE.replace("192.0.2.80", "192.0.2.81")
    (tmp_path / "db").write_text(changed)
    await ahead.look()
    assert "192.0.2.80" in shown(ask(answers, "www"))
    (tmp_path / "db").write_text(changed.replace("2024010101", "2024010102"))
    await ahead.look()
    assert "192.0.2.81" in shown(ask(answers, "www"))
    (tmp_path / "db").write_text("www IN A\n")
    await ahead.look()  # what was read stays
    assert "192.0.2.81" in shown(ask(answers, "www"))
    assert len(said) == 1
    answers, ahead, _ = made(tmp_path, properties="reload_by_mtime")
    (tmp_path / "db").write_text(changed)
    await ahead.look()
    assert "192.0.2.81" in shown(ask(answers, "www"))


@pytest.mark.parametrize(("text", "reason"), [
    ("$TTL 5\n@ IN A 192.0.2.1\n", "no SOA record of example.test."),
    ("$TTL 5\n@ IN SOA a b 1 2 3 4\n", "db:"),
    ("$TTL 5\n@ IN SOA a b 1 2 3 4 5\n@ IN A 192.0.2.300\n", "db:"),
])  # fmt: skip
def test_what_is_no_zone_says_why(tmp_path, text, reason):
    (tmp_path / "db").write_text(text)
    with pytest.raises(zonefile.ZonefileError) as caught:
        zonefile.read(str(tmp_path / "db"), names.from_text("example.test"))
    assert reason in str(caught.value)


def test_a_file_is_read_once_for_checks_and_for_answers(tmp_path, monkeypatch):
    """A large file takes seconds: at SIGHUP it is read beside the loop, which then takes it over."""
    reads = []
    real = zonefile.read
    monkeypatch.setattr(zonefile, "read", lambda *args: reads.append(args) or real(*args))
    made(tmp_path)
    assert len(reads) == 1

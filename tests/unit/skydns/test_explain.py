# SPDX-License-Identifier: Apache-2.0
"""Every reason that hides a record is named; every record of an answer has its key."""

import json

import pytest

from fairlead.errors import RecordError
from fairlead.etcd.types import KeyValue, Revision
from skydns import explain, keys, lint, names, records
from skydns.policy import PROFILES, Policy
from skydns.rrs import Question

ZONE = "skydns.test"
STORED = {
    "pool/x1": {"host": "10.0.0.1", "group": "a"},
    "pool/x2": {"host": "10.0.0.2", "group": "a"},
    "pool/deep/x3": {"host": "10.0.0.3", "group": "b"},
    "both": {"host": "10.1.0.1"},
    "both/x": {"host": "10.1.0.2"},
    "alias": {"host": "pool.skydns.test"},
    "loop/x": {"host": "loop.skydns.test"},
    "mixed/a": {"host": "10.2.0.1"},
    "mixed/b": {"host": "out.example.org"},
    "mixed/c": {"text": "only text"},
    "mixed/d": {"host": "2001:db8::1", "mail": True},
    "twice/a": {"host": "10.3.0.1"},
    "twice/b": {"host": "10.3.0.1"},
}


def services():
    for path, record in STORED.items():
        key = f"/skydns/test/skydns/{path}".encode()
        value = json.dumps(record).encode()
        yield records.decode(b"/skydns", KeyValue(key, value, Revision(1), Revision(1), 1))


def told(question, profile="coredns"):
    name, rtype = question.split()
    if not name.endswith("."):
        name = f"{name}.{ZONE}."
    policy = Policy(frozenset(keys.zones(ZONE)), PROFILES[profile], auto_ptr=True)
    bad = [RecordError(b"/skydns/test/skydns/mixed/e", "not JSON", Revision(5))]
    made = explain.explain(
        Question(names.from_text(name), explain.TYPES[rtype]), services(), bad, b"/skydns", policy
    )
    parts = {part.key.removeprefix("/skydns/test/skydns/"): part for part in made.parts}
    return made, parts


@pytest.mark.parametrize(("question", "key", "why"), [
    ("pool A", "pool/deep/x3", "group"),
    ("both A", "both", "trap 8"),
    ("loop A", "loop/x", "leads back"),
    ("mixed A", "mixed/b", "outside our zones"),
    ("mixed A", "mixed/c", "only text"),
    ("mixed A", "mixed/d", "other family"),
    ("mixed A", "mixed/e", "cannot be used: not JSON"),
    ("mixed MX", "mixed/a", "mail is not true"),
    ("mixed SRV", "mixed/c", "no host"),
    ("mixed TXT", "mixed/a", "no text"),
    ("mixed CNAME", "mixed/a", "trap 9"),
    ("twice A", "twice/b", "the same as /skydns/test/skydns/twice/a"),
])  # fmt: skip
def test_why_not(question, key, why):
    part = told(question)[1][key]
    assert why in part.why
    assert not part.made


def test_strict_prefers_the_own_record():
    _, parts = told("both A", "strict")
    assert parts["both"].made == ("both.skydns.test. 300 A 10.1.0.1",)
    assert "its own" in parts["both/x"].why


def test_made_by_an_alias_and_by_an_address():
    made, parts = told("alias A")
    assert parts["alias"].made == ("alias.skydns.test. 300 CNAME pool.skydns.test.",)
    assert parts["pool/x1"].made == ("pool.skydns.test. 300 A 10.0.0.1",)
    assert made.status == "NOERROR"
    made, _ = told("example.org. A")
    assert made.status.startswith("not in our zones (skydns.test.; --domain)")


@pytest.mark.parametrize(("path", "record", "text"), [
    ("UP", {"host": "10.0.0.1"}, "trap 26"),
    ("x", {"host": "10.0.0.1", "port": "80"}, "not a whole number"),
    ("*/x", {"host": "10.0.0.1"}, "trap 17"),
    ("x", {"host": "x.skydns.test"}, "its own name"),
    ("x", {"port": 1}, "neither host nor text"),
    ("x", {"host": "a.b", "targetstrip": 2}, "trap 15"),
    ("x", {"host": "a.b", "weight": -1}, "weight -1"),
    ("/skydns/org/else", {"host": "a.b"}, "none of the zones"),
])  # fmt: skip
def test_lint(path, record, text):
    key = path if path.startswith("/") else f"/skydns/test/skydns/{path}"
    value = json.dumps(record).encode()
    odd = []
    kv = KeyValue(key.encode(), value, Revision(1), Revision(1), 1)
    service = records.decode(b"/skydns", kv, odd.append)
    found = lint.lint([service], [], keys.zones(ZONE), odd)
    assert any(text in finding.text for finding in found), found

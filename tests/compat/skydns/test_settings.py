# SPDX-License-Identifier: Apache-2.0
"""specs/skydns.md §13: SkyDNS's flags, variables and `config` key, row by row."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fairlead.etcd.types import KeyValue, Revision
from fairlead.flags import UsageError
from skydns import keys, names, stored
from skydns.addresses import Server
from skydns.config import configure
from skydns.policy import Policy
from skydns.settings import SETTINGS


def configured(*argv, **environ):
    return configure(SETTINGS.parse(argv, environ))


def zones(config):
    return config.policy.zones


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A certificate and its key, for the flags that name such files."""
    home = tmp_path_factory.mktemp("files")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "etcd.example.org")])
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    cert = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + timedelta(36500))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (home / "cert.pem").write_bytes(cert.public_bytes(Encoding.PEM))
    (home / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return home


@pytest.fixture(autouse=True)
def beside_them(files, monkeypatch):
    monkeypatch.chdir(files)


# flag, variable ("" for none), a value, what it becomes, the default
ROWS = [
    ("domain", "SKYDNS_DOMAIN", "A.test", zones, frozenset(keys.zones("a.test")), frozenset(keys.zones("skydns.local"))),
    ("addr", "SKYDNS_ADDR", "192.0.2.1:54", lambda c: c.address, ("192.0.2.1", 54), ("127.0.0.1", 53)),
    ("nameservers", "SKYDNS_NAMESERVERS", "192.0.2.1:53,192.0.2.2:54", lambda c: c.routes.default.servers,
     (Server("192.0.2.1", 53), Server("192.0.2.2", 54)), ()),
    ("no-rec", "", "true", lambda c: c.recursion, False, True),
    ("machines", "ETCD_MACHINES", "http://192.0.2.1:4001", lambda c: c.etcd.endpoints, ("http://192.0.2.1:4001",), ("http://127.0.0.1:2379",)),
    ("ca-cert", "ETCD_CACERT", "cert.pem", lambda c: c.etcd.ca, "cert.pem", ""),
    ("username", "ETCD_USERNAME", "me", lambda c: c.etcd.user, "me", ""),
    ("password", "ETCD_PASSWORD", "secret", lambda c: c.etcd.password, "secret", ""),
    ("local", "", "web.skydns.local", lambda c: c.policy.local, names.from_text("web.skydns.local"), b""),
    ("hostmaster", "", "root@example.org", lambda c: c.policy.hostmaster, names.from_text("root.example.org"), b""),
    ("rtimeout", "", "1m30s", lambda c: c.routes.default.timeout, 90.0, 2.0),
    ("round-robin", "", "false", lambda c: c.policy.rotate, False, True),
    ("ns-rotate", "", "false", lambda c: c.routes.default.rotate, False, True),
    ("stubzones", "", "true", lambda c: c.stub_records, True, False),
    ("systemd", "SKYDNS_SYSTEMD", "true", lambda c: c.systemd, True, False),
    ("ndots", "SKYDNS_NDOTS", "3", lambda c: c.routes.default.ndots, 3, 2),
    ("path-prefix", "SKYDNS_PATH_PREFIX", "/skydns/ka2/", lambda c: c.prefix, b"/skydns/ka2", b"/skydns"),
    ("scache", "", "7", lambda c: c.signatures, 7, 10000),
    ("rcache", "", "7", lambda c: c.routes.bounds.most, 7, 10000),  # S's 0 is a cache that is off
    ("rcache-ttl", "", "7", lambda c: c.routes.bounds.positive, 7, 3600),
    ("verbose", "", "true", lambda c: c.log_every, 1, 0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("flag", "variable", "value", "get", "found", "default"), ROWS, ids=[row[0] for row in ROWS]
)
def test_every_flag_and_its_variable(flag, variable, value, get, found, default):
    assert get(configured()) == default
    for form in (f"-{flag}={value}", f"--{flag}={value}"):
        assert get(configured(form)) == found
    if value != "true" and flag not in {"round-robin", "ns-rotate"}:
        assert get(configured(f"-{flag}", value)) == found
    if variable:
        assert get(configured(**{variable: value})) == found
        if value == "true":
            assert get(configured("-systemd=false", **{variable: value})) == default
    elif value == "true":
        assert get(configured(f"-{flag}")) == found  # a boolean stands alone


def test_client_certificates_go_together():
    found = configured("-tls-pem=cert.pem", ETCD_TLSKEY="key.pem").etcd
    assert (found.cert, found.key) == ("cert.pem", "key.pem")


def test_a_flag_beats_its_variable():
    assert configured("-ndots=4", SKYDNS_NDOTS="3").routes.default.ndots == 4


@pytest.mark.parametrize(("value", "on"), [
    *((word, True) for word in ("1", "t", "T", "TRUE", "true", "True")),
    *((word, False) for word in ("0", "f", "F", "FALSE", "false", "False", "yes", "on", "")),
])  # fmt: skip
def test_booleans_of_variables(value, on):
    assert configured(SKYDNS_SYSTEMD=value).systemd == on


def test_a_number_that_is_none_is_the_default():
    assert configured(SKYDNS_NDOTS="many").routes.default.ndots == 2


@pytest.mark.parametrize(("variables", "found"), [
    ({}, ()),
    ({"PROMETHEUS_PORT": "9100"}, (("", 9100, "/metrics"),)),
    ({"PROMETHEUS_PORT": "9100", "PROMETHEUS_PATH": "/m"}, (("", 9100, "/m"),)),
])  # fmt: skip
def test_prometheus(variables, found):
    assert configured(**variables).metrics.addresses == found
    named = configured(PROMETHEUS_NAMESPACE="a", PROMETHEUS_SUBSYSTEM="b")
    assert named.metrics.prefix == "a_b"


@pytest.mark.parametrize("flag", ["-kubernetes", "-master=http://192.0.2.1"])
def test_what_is_gone_is_refused_with_a_hint(flag):
    with pytest.raises(UsageError, match="gone since"):
        configured(flag)


# ── §13.2, the `config` key

POLICY = Policy(frozenset(keys.zones("skydns.local")))


def decode(text):
    key = b"/skydns/config"
    return stored.decode(b"/skydns", KeyValue(key, text.encode(), Revision(1), Revision(5), 1))


@pytest.mark.parametrize(("text", "field", "found"), [
    ('{"dns_addr":"0.0.0.0:53"}', "dns_addr", "0.0.0.0:53"),
    ('{"domain":"Corp.test"}', "domain", "Corp.test"),
    ('{"systemd":true}', "systemd", True),
    ('{"local":"a.b"}', "local", "a.b"),
    ('{"hostmaster":"a@b"}', "hostmaster", "a@b"),
    ('{"dnssec":"Kskydns.local. 013 05"}', "dnssec", "Kskydns.local. 013 05"),
    ('{"round_robin":false}', "round_robin", False),
    ('{"ns_rotate":false}', "ns_rotate", False),
    ('{"nameservers":["192.0.2.1:53"]}', "nameservers", ("192.0.2.1:53",)),
    ('{"no_rec":true}', "no_rec", True),
    ('{"read_timeout":1000000000}', "read_timeout", 1000000000),
    ('{"priority":20}', "priority", 20),
    ('{"ttl":120}', "ttl", 120),
    ('{"min_ttl":30}', "min_ttl", 30),
    ('{"scache":5}', "scache", 5),
    ('{"rcache":-1}', "rcache", -1),
    ('{"rcache_ttl":30}', "rcache_ttl", 30),
    ('{"ndot":3}', "ndot", 3),
    ('{"ndots":3}', "ndot", 3),
    ('{"NDOT":3,"Unknown":{"a":[1]}}', "ndot", 3),
])  # fmt: skip
def test_every_field_of_the_config_key(text, field, found):
    value = getattr(decode(text), field)
    assert (tuple(value) if isinstance(value, list) else value) == found


def test_the_config_key_beats_the_flags():
    given = configured("-domain=a.test", "-round-robin=true").policy
    merged = stored.merge(given, decode('{"domain":"b.test","round_robin":false,"ttl":9}'))
    assert (merged.zones, merged.rotate, merged.ttl) == (frozenset(keys.zones("b.test")), False, 9)


def test_zero_and_absence_are_what_was_there():
    merged = stored.merge(POLICY, decode('{"ttl":0,"min_ttl":0,"priority":0,"domain":""}'))
    assert merged == POLICY

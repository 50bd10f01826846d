# SPDX-License-Identifier: Apache-2.0
import hashlib
import re
from pathlib import Path
from types import SimpleNamespace

from prometheus_client import CollectorRegistry, generate_latest

from skydns import keys
from skydns.acl import Action
from skydns.addresses import Server as Upstream
from skydns.ahead import Ahead
from skydns.compiled import Answers
from skydns.cookies import Cookies
from skydns.forward import Forwarder
from skydns.forward import Upstream as Servers
from skydns.hosts import Spec
from skydns.limit import Limiter
from skydns.metrics import Collected, Reloads
from skydns.overload import Overload
from skydns.policy import Policy
from skydns.responder import Responder
from skydns.seen import Seen, moment
from skydns.server import Server
from skydns.signing import Signing
from skydns.state import Served

DOCS = Path(__file__).parents[3] / "docs" / "skydns.md"


def text():
    answers = Answers(Served(), Policy(frozenset(keys.zones("z.test"))), lambda: 0.0)
    forwarder = Forwarder(Servers((Upstream("192.0.2.1", 53),)))
    limiter = Limiter(1, 2, (), Cookies(bytes(16), lambda: 0.0), lambda: 0.0)
    way = Responder(answers, forwarder, limiter=limiter)
    server = Server(way, host="127.0.0.1", port=53)
    for _ in range(3):
        answers.counts.add(Seen("z.test.", "A", "NOERROR", "udp", False, "auth", 100, 200))
    answers.counts.add(Seen("z.test.", "SRV", "NXDOMAIN", "tcp", True, "auth", 0, 65535))
    for seconds in (0.0029, 0.9, 30.0):
        took = moment(seconds)
        answers.counts.add(Seen(".", "A", "NOERROR", "udp", False, "recursive", 0, 0, True, took))
    forwarder.asking.took["192.0.2.1:53", "NOERROR", moment(0.9)] += 2
    server.tally.statuses[404] += 1
    server.tally.decided[Action.BLOCK, "z.test."] += 4
    answers.signing = Signing((), lambda: 0.0)
    registry = CollectorRegistry()
    plugins = [("dns://:53", "z.test.", "etcd")]
    ahead = Ahead(answers, print)
    lines = ("192.0.2.1 a.example.org b.example.org", "2001:db8::1 a.example.org")
    ahead.use({b"\0": SimpleNamespace(hosts=Spec("", frozenset((b"\0",)), lines), file=[])})
    answers.faults = 2
    registry.register(Collected(answers, server, plugins=plugins, ahead=ahead))
    registry.register(Overload("", 8080, lambda: 0.0))
    registry.register(Reloads(SimpleNamespace(refused=3), [(__file__, 30.0)]))
    return generate_latest(registry).decode()


def test_counts_under_both_originals_names():
    lines = text().splitlines()
    sha512 = hashlib.sha512(Path(__file__).read_bytes()).hexdigest()
    for line in (
        "coredns_panics_total 2.0",
        "coredns_hosts_entries 6.0",
        "coredns_reload_failed_total 3.0",
        f'coredns_reload_version_info{{hash="sha512",value="{sha512}"}} 1.0',
        'coredns_dns_requests_total{family="1",proto="udp",server="dns://127.0.0.1:53",type="A",view="",zone="z.test."} 3.0',
        'coredns_dns_responses_total{plugin="etcd",rcode="NXDOMAIN",server="dns://127.0.0.1:53",view="",zone="z.test."} 1.0',
        'coredns_dns_do_requests_total{server="dns://127.0.0.1:53",view="",zone="z.test."} 1.0',
        'coredns_dns_response_size_bytes_bucket{le="200.0",proto="udp",server="dns://127.0.0.1:53",view="",zone="z.test."} 3.0',
        'coredns_dns_response_size_bytes_bucket{le="100.0",proto="udp",server="dns://127.0.0.1:53",view="",zone="z.test."} 0.0',
        'coredns_dns_response_size_bytes_bucket{le="+Inf",proto="tcp",server="dns://127.0.0.1:53",view="",zone="z.test."} 1.0',
        'skydns_skydns_dns_request_count_total{system="auth"} 4.0',
        'skydns_skydns_dns_error_count_total{cause="truncated",system="recursive"} 3.0',
        'skydns_skydns_dns_request_duration_seconds_bucket{le="0.001",system="auth"} 4.0',
        'skydns_skydns_dns_request_duration_seconds_bucket{le="0.001",system="recursive"} 0.0',
        'skydns_skydns_dns_request_duration_seconds_bucket{le="0.003",system="recursive"} 1.0',
        'skydns_skydns_dns_request_duration_seconds_bucket{le="1.0",system="recursive"} 2.0',
        'skydns_skydns_dns_request_duration_seconds_count{system="recursive"} 3.0',
        'coredns_dns_request_duration_seconds_bucket{le="0.00025",server="dns://127.0.0.1:53",view="",zone="z.test."} 4.0',
        'coredns_dns_request_duration_seconds_bucket{le="0.004",server="dns://127.0.0.1:53",view="",zone="."} 1.0',
        'coredns_dns_request_duration_seconds_bucket{le="8.192",server="dns://127.0.0.1:53",view="",zone="."} 2.0',
        'coredns_proxy_request_duration_seconds_bucket{le="1.024",proxy_name="forward",rcode="NOERROR",to="192.0.2.1:53"} 2.0',
        'coredns_proxy_request_duration_seconds_bucket{le="0.512",proxy_name="forward",rcode="NOERROR",to="192.0.2.1:53"} 0.0',
        'coredns_cache_entries{server="dns://127.0.0.1:53",type="denial",view="",zones=""} 0.0',
        'coredns_dns_https_responses_total{server="dns://127.0.0.1:53",status="404"} 1.0',
        'coredns_acl_blocked_requests_total{server="dns://127.0.0.1:53",view="",zone="z.test."} 4.0',
        'coredns_plugin_enabled{name="etcd",server="dns://:53",view="",zone="z.test."} 1.0',
        'skydns_skydns_dns_error_count_total{cause="nxdomain",system="auth"} 1.0',
    ):
        assert line in lines


def test_the_page_in_docs_names_every_metric():
    exported = set(re.findall(r"^# TYPE (\S+)", text(), re.MULTILINE))
    documented = set(re.findall(r"^\| `((?:coredns|skydns)_\w+)`", DOCS.read_text(), re.MULTILINE))
    assert documented == exported

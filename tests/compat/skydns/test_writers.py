# SPDX-License-Identifier: Apache-2.0
"""specs/skydns.md §17: keys as the programs write them, byte for byte."""

import pytest

from fairlead.errors import RecordError
from fairlead.etcd.types import LeaseID


def test_17_1_external_dns_addresses_of_one_name(server):
    s = server({
        "web/3f9a01bc": '{"host":"192.0.2.10","ttl":300,"targetstrip":1}',
        "web/5b1c2d3e": '{"host":"192.0.2.11","ttl":300,"targetstrip":1,"owner":"default"}',
        "web/6b1c2d3e": '{"host":"2001:db8::10","ttl":300,"targetstrip":1}',
        "a-web/5b1c2d3e": r'{"text":"\"heritage=external-dns,external-dns/owner=default\"","targetstrip":1}',
        "a-web/6b1c2d3e": r'{"text":"\"heritage=external-dns,external-dns/owner=default\"","targetstrip":1}',
    })  # fmt: skip
    assert s.answer("web A") == ["web A 192.0.2.10", "web A 192.0.2.11"]
    assert s.answer("web AAAA") == ["web AAAA 2001:db8::10"]
    # equal texts are answered once, the quotes are part of them
    assert s.answer("a-web TXT") == [
        r'a-web TXT "\"heritage=external-dns,external-dns/owner=default\""'
    ]
    rows = s.answer("web SRV")
    assert {row.split()[-1] for row in rows} == {"web.skydns.test."}  # no random label is shown


def test_17_1_external_dns_alias_group_and_both_in_one_key(server):
    s = server({
        "to/1a2b3c4d": '{"host":"lb.example.org","ttl":60,"targetstrip":1}',
        "both/1a2b3c4d": r'{"host":"lb.example.org","text":"\"heritage=x\"","targetstrip":1}',
        "pool/1": '{"host":"192.0.2.1","group":"a"}', "pool/deep/2": '{"host":"192.0.2.2","group":"b"}',
    })  # fmt: skip
    assert s.answer("to CNAME") == s.answer("to A") == ["to CNAME lb.example.org."]
    assert s.answer("both A") == ["both CNAME lb.example.org."]
    assert s.answer("both TXT") == [r'both TXT "\"heritage=x\""']
    assert s.answer("pool A") == ["pool A 192.0.2.1"]


def test_17_1_external_dns_ptr_has_no_random_label(server):
    s = server(
        {
            "/skydns/arpa/in-addr/192/0/2/10": '{"host":"web.skydns.test","ttl":300}',
            "/skydns/arpa/in-addr/192/0/2/ptr-10": '{"text":"\\"heritage=x\\""}',
        },
        zones="skydns.test,192.0.2.0/24",
    )
    assert s.answer("10.2.0.192.in-addr.arpa. PTR") == [
        "10.2.0.192.in-addr.arpa. PTR web.skydns.test."
    ]


def test_17_2_registrator(server):
    s = server()
    s.served.leases[LeaseID(9)] = s.now + 3600
    s.put(
        {
            "redis/host1:redis-1:6379": '{"host":"10.0.0.1","port":32768}',
            "redis/host2:redis-1:6379": '{"host":"10.0.0.2","port":32769}',
        },
        lease=9,
    )
    assert s.answer("redis A") == ["redis A 10.0.0.1", "redis A 10.0.0.2"]
    assert s.answer("redis SRV") == [
        "redis SRV 10 50 32768 host1:redis-1:6379.redis.skydns.test.",
        "redis SRV 10 50 32769 host2:redis-1:6379.redis.skydns.test.",
    ]
    assert s.answer("host1:redis-1:6379.redis A") == ["host1:redis-1:6379.redis A 10.0.0.1"]


def test_17_3_kube2sky(server):
    record = '{"host":"10.0.0.5","port":80,"priority":10,"weight":10,"ttl":30,"targetstrip":0}'
    s = server({"svc/default/web/3f9a": record, "svc/default/web/_tcp/_http/3f9a": record})
    assert s.answer("web.default.svc A") == ["web.default.svc A 10.0.0.5"]
    assert s.answer("_http._tcp.web.default.svc SRV") == [
        "_http._tcp.web.default.svc SRV 10 100 80 3f9a._http._tcp.web.default.svc.skydns.test."
    ]


def test_17_4_by_hand(server):
    s = server({"db/x1": '{"host":"10.0.0.1"}', "db/x2": '{"host":"10.0.0.2"}'})
    assert s.answer("db A") == ["db A 10.0.0.1", "db A 10.0.0.2"]
    with pytest.raises(RecordError, match="byte 1") as caught:
        s.put({"db/x3": "{host:10.0.0.3}"})  # a shell that ate the quotes
    assert caught.value.key == b"/skydns/test/skydns/db/x3"

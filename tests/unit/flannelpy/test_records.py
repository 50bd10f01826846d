# SPDX-License-Identifier: Apache-2.0
from ipaddress import IPv4Address, IPv6Address

import pytest

from fairlead.errors import RecordError
from fairlead.etcd.types import KeyValue, LeaseID, Revision
from flannelpy import records
from flannelpy.fields import FieldError
from flannelpy.records import Attributes, parse_config

R = Revision(7)


def kv(key, value, lease=1):
    return KeyValue(key.encode(), value.encode(), R, R, 1, LeaseID(lease))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"network":"10.3.0.0/16"}', "10.3.0.0/16 24 10.3.1.0 10.3.255.0 udp"),
        ('{"Network":"10.3.0.0/24"}', "10.3.0.0/24 26 10.3.0.64 10.3.0.192 udp"),
        ('{"Network":"10.3.0.0/28"}', "10.3.0.0/28 30 10.3.0.4 10.3.0.12 udp"),
        ('{"Network":"10.3.5.1/16"}', "10.3.0.0/16 24 10.3.1.0 10.3.255.0 udp"),
        (
            '{"Network":"10.0.0.0/8","SubnetLen":20,"SubnetMin":"10.10.0.0","SubnetMax":"10.99.0.0"}',
            "10.0.0.0/8 20 10.10.0.0 10.99.0.0 udp",
        ),
        (
            '{"NETWORK":"10.3.0.0/16","subnetlen":26,"backend":{"TYPE":"VXLAN"},"x":[1]}',
            "10.3.0.0/16 26 10.3.0.64 10.3.255.192 vxlan",
        ),
        ('{"Network":"10.3.0.0/22","SubnetLen":null}', "10.3.0.0/22 24 10.3.1.0 10.3.3.0 udp"),
        ('{"Network":"10.3.0.0/16","EnableIPv4":null}', "10.3.0.0/16 24 10.3.1.0 10.3.255.0 udp"),
        (
            '{"Network":"10.3.0.0/16","SubnetMin":"0.0.0.0"}',
            "10.3.0.0/16 24 10.3.1.0 10.3.255.0 udp",
        ),
        (
            '{"Network":"10.1.0.0/16","network":"10.2.0.0/16"}',
            "10.2.0.0/16 24 10.2.1.0 10.2.255.0 udp",
        ),
        ('{"Network":"10.3.0.0/16","Backend":null}', "10.3.0.0/16 24 10.3.1.0 10.3.255.0 "),
        ('{"Network":"10.3.0.0/16","Backend":{}}', "10.3.0.0/16 24 10.3.1.0 10.3.255.0 "),
    ],
)
def test_config(text, shown):
    config = parse_config(text.encode())
    v4 = config.v4
    assert config.v6 is None
    assert (
        f"{v4.network} {v4.subnet_len} {v4.subnet_min} {v4.subnet_max} {config.backend.type}"
        == shown
    )


def test_config_ipv6():
    config = parse_config(b'{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/48"}')
    v6 = config.v6
    assert config.v4 is None
    assert (v6.subnet_len, str(v6.subnet_min), str(v6.subnet_max)) == (
        64,
        "fc00:0:0:1::",
        "fc00:0:0:ffff::",
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a JSON object"),
        ("[]", "not a JSON object"),
        ('{"Network":"10.3.0.0/16"} x', "not a JSON object"),
        ('\ufeff{"Network":"10.3.0.0/16"}', "not a JSON object"),
        ("{}", "Network: please define"),
        ('{"Network":"0.0.0.0/0"}', "Network: please define"),
        ('{"Network":null}', "Network: null"),
        ('{"Network":"10.3.0.0"}', 'Network: "10.3.0.0" is not'),
        ('{"Network":"10.3.0.0/255.255.0.0"}', "Network:"),
        ('{"Network":"010.3.0.0/16"}', "Network:"),
        (r'{"Network":"10.3.0.0\/16"}', "Network:"),
        ('{"Network":"fd00::/48"}', "Network:"),
        ('{"Network":"10.3.0.0/29"}', "SubnetLen: a /29 network is too small"),
        ('{"Network":"10.3.0.0/16","SubnetLen":31}', "SubnetLen: 31 is over 30"),
        ('{"Network":"10.3.0.0/23","SubnetLen":24}', "SubnetLen: 24 leaves fewer than 4"),
        ('{"Network":"10.3.0.0/16","SubnetLen":"24"}', 'SubnetLen: "24"'),
        ('{"Network":"10.3.0.0/16","SubnetLen":24.0}', "SubnetLen: 24.0"),
        ('{"Network":"10.3.0.0/16","SubnetLen":-1}', "SubnetLen: -1"),
        ('{"Network":"10.3.0.0/16","EnableIPv6":"true"}', 'EnableIPv6: "true" is not a boolean'),
        (
            '{"Network":"10.3.0.0/16","SubnetMin":"10.3.5.7"}',
            "SubnetMin: 10.3.5.7/24 has host bits",
        ),
        ('{"Network":"10.3.0.0/16","SubnetMin":"10.4.0.0"}', "SubnetMin: 10.4.0.0 is not in"),
        ('{"Network":"10.3.0.0/16","SubnetMin":null}', "SubnetMin: null"),
        ('{"Network":"10.3.0.0/16","SubnetMax":"10.4.0.0"}', "SubnetMax: 10.4.0.0 is not in"),
        # outside before alignment, the minimum's before the maximum's
        ('{"Network":"10.3.0.0/16","SubnetMin":"10.3.5.7","SubnetMax":"10.4.0.0"}', "SubnetMax:"),
        ('{"Network":"10.3.0.0/16","SubnetMin":"10.3.5.7","SubnetMax":"10.3.9.9"}', "SubnetMin:"),
        (
            '{"Network":"10.3.0.0/16","SubnetMin":"10.3.9.0","SubnetMax":"10.3.5.0"}',
            "SubnetMin: 10.3.9.0 is above",
        ),
        ('{"EnableIPv6":true,"Network":"10.42.0.0/16"}', "IPv6Network: please define"),
        ('{"EnableIPv6":true,"Network":"10.42.0.0/16","IPv6Network":"10.0.0.0/8"}', "IPv6Network:"),
        (
            '{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/125"}',
            "IPv6SubnetLen: a /125",
        ),
        ('{"Network":"10.3.0.0/16","Backend":"vxlan"}', "Backend: not a JSON object"),
        ('{"Network":"10.3.0.0/16","Backend":{"Type":1}}', "Backend: Type: 1 is not a string"),
    ],
)
def test_config_refused(text, reason):
    with pytest.raises(FieldError) as caught:
        parse_config(text.encode())
    assert str(caught.value).startswith(reason)


def test_config_error_names_its_key():
    with pytest.raises(RecordError, match=r'key "/p/config": SubnetLen: 31'):
        records.decode_config(kv("/p/config", '{"Network":"10.3.0.0/16","SubnetLen":31}'))


LEASES = [
    '{"PublicIP":"192.0.2.11","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"2e:6f:0b:91:c4:07"}}',
    '{"PublicIP":"192.0.2.12","PublicIPv6":"2001:db8::12","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"8a:00:5d:13:77:e2"},"BackendV6Data":{"VNI":1,"VtepMAC":"d6:41:9f:20:0c:55"}}',
    '{"PublicIP":"192.0.2.13","PublicIPv6":null}',
    '{"PublicIP":"0.0.0.0","PublicIPv6":null}',
]


@pytest.mark.parametrize("text", LEASES)
def test_lease_value_read_and_written_is_byte_equal(text):
    assert records.encode_attributes(records.decode_attributes(text.encode())) == text.encode()


@pytest.mark.parametrize(
    "text",
    [
        *LEASES,
        '{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"a\\u0062"}',
        '{"PublicIP":"192.0.2.1","PublicIP":"192.0.2.2","PublicIPv6":null}',
        '{"PublicIPv6":"2001:DB8:0::1","PublicIP":"192.0.2.1"}',
        ' { "PublicIP" : "192.0.2.1" , "BackendData" : { "VNI" : 1 } } ',
        '{"PublicIP":"192.0.2.1","BackendData":"cat"}',
        '{"PublicIP":"192.0.2.1","BackendData":null}',
    ],
)
def test_the_quick_reader_of_a_lease_agrees_with_the_whole_one(text):
    value = text.encode()
    assert records.decode_attributes(value) == records._unusual(value)


def test_lease_value_escapes_as_go_does():
    data = records.encode_json("a<b>&\u2028é")
    assert data == '"a\\u003cb\\u003e\\u0026\\u2028é"'.encode()


def test_old_and_strange_lease_values_are_read():
    has = records.decode_attributes(b'{"publicip":"192.0.2.1","BACKENDTYPE":"vxlan","New":{"a":1}}')
    assert has == Attributes(IPv4Address("192.0.2.1"), None, "vxlan")
    has = records.decode_attributes(b' { "PublicIPv6" : "2001:db8::1" } ')
    assert has == Attributes(IPv4Address(0), IPv6Address("2001:db8::1"))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("hello", "not a JSON object"),
        ('{"PublicIP":null}', "PublicIP: null"),
        ('{"PublicIP":1}', "PublicIP: 1"),
        ('{"PublicIP":"2001:db8::1"}', 'PublicIP: "2001:db8::1" is not an IPv4 address'),
        ('{"PublicIP":"192.0.2.256"}', 'PublicIP: "192.0.2.256" is not an IPv4 address'),
        ('{"PublicIP":"192.0.02.1"}', 'PublicIP: "192.0.02.1" is not an IPv4 address'),
        ('{"PublicIPv6":"fe80::1%eth0"}', "PublicIPv6:"),
        ('{"BackendType":{}}', "BackendType:"),
    ],
)
def test_bad_lease_names_key_field_and_revision(value, reason):
    with pytest.raises(RecordError) as caught:
        records.decode_lease(kv("/p/subnets/10.5.1.0-24", value))
    assert caught.value.reason.startswith(reason)
    assert (caught.value.key, caught.value.revision) == (b"/p/subnets/10.5.1.0-24", 7)


def test_reservation_is_a_key_without_lease():
    lease = records.decode_lease(kv("/p/subnets/10.5.1.0-24", '{"PublicIP":"192.0.2.20"}', lease=0))
    assert lease.is_reservation

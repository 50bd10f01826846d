# SPDX-License-Identifier: Apache-2.0
"""What a registration writes, against specs/registration.md, skydns.md and vulcand.md."""

from __future__ import annotations

import json
import string
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.register.keys import Service, _fnv1a, faults, keys, label, standing

WEB = Service(id="web-1", address=ip_address("192.0.2.10"), port=8080, names=("web.cluster.local",))


def test_skydns_value_is_registrators_byte_for_byte() -> None:
    """registration.md §1.1."""
    assert keys(WEB) == {b"/skydns/local/cluster/web/web-1": b'{"host":"192.0.2.10","port":8080}'}


def test_skydns_fields_given_are_written_and_zeros_left_out() -> None:
    service = replace(WEB, ttl=30, priority=5, weight=40, group="blue", text="v=1")
    (value,) = keys(service).values()
    assert json.loads(value) == {
        "host": "192.0.2.10", "port": 8080, "priority": 5, "weight": 40, "text": "v=1",
        "ttl": 30, "group": "blue",
    }  # fmt: skip


def test_vulcand_server_is_compact_json_with_a_newline() -> None:
    """vulcand.md §3: what the original's engine writes."""
    service = replace(WEB, names=(), backends=("web",))
    assert keys(service) == {
        b"/vulcand/backends/web/servers/web-1": b'{"URL":"http://192.0.2.10:8080"}\n'
    }


def test_ipv6_address_in_brackets_in_a_url_and_bare_in_dns() -> None:
    service = replace(WEB, address=ip_address("2001:db8::10"), backends=("web",), scheme="https")
    written = keys(service)
    assert written[b"/skydns/local/cluster/web/web-1"] == b'{"host":"2001:db8::10","port":8080}'
    server = json.loads(written[b"/vulcand/backends/web/servers/web-1"])
    assert server == {"URL": "https://[2001:db8::10]:8080"}


def test_backend_and_frontend_stand_beside_the_lease_backend_first() -> None:
    """registration.md §8.5: the original ignores servers of an unknown backend."""
    service = replace(WEB, backends=("web", "all"), route="Host(`web.example.org`)")
    assert list(standing(service).items()) == [
        (b"/vulcand/backends/web/backend", b'{"Id":"web","Type":"http"}\n'),
        (b"/vulcand/backends/all/backend", b'{"Id":"all","Type":"http"}\n'),
        (
            b"/vulcand/frontends/web/frontend",
            b'{"Id":"web","Type":"http","BackendId":"web","Route":"Host(`web.example.org`)"}\n',
        ),
    ]
    assert standing(WEB) == {}


def test_extra_keys_are_filled_in() -> None:
    service = replace(WEB, extra=(("/services/${name}/${id}", "${address}:${port}"),))
    assert keys(service)[b"/services/web.cluster.local/web-1"] == b"192.0.2.10:8080"


def test_prefixes_may_have_slashes_or_none() -> None:
    service = replace(WEB, skydns_prefix="skydns/site/", vulcand_prefix="/lb/", backends=("b",))
    assert list(keys(service)) == [
        b"/skydns/site/local/cluster/web/web-1",
        b"/lb/backends/b/servers/web-1",
    ]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("web-1", "web-1"),
        ("a" * 54, "a" * 54),
        pytest.param("host:web:80", "host-web-80-c0f5f9df", id="registrator's default id"),
        pytest.param("Web", "web-72645431", id="folded, so marked"),
    ],
)
def test_label(text: str, wanted: str) -> None:
    """registration.md §8.3."""
    assert label(text) == wanted


@pytest.mark.parametrize(
    ("data", "wanted"), [(b"", 0x811C9DC5), (b"a", 0xE40C292C), (b"foobar", 0xBF9CF968)]
)
def test_hash_is_fnv1a(data: bytes, wanted: int) -> None:
    """Vectors: draft-eastlake-fnv, appendix C."""
    assert _fnv1a(data) == wanted


@given(st.text(min_size=1, max_size=120))
def test_label_is_always_a_dns_label_and_stable(text: str) -> None:
    made = label(text)
    assert 0 < len(made) <= 63
    assert set(made) <= set(string.ascii_lowercase + string.digits + "-")
    assert not made.startswith("-")
    assert not made.endswith("-")
    assert label(text) == made


def test_two_ids_that_sanitise_alike_stay_apart() -> None:
    assert label("a:b") != label("a.b") != label("a-b")


def test_faults_come_all_at_once_and_name_the_flag() -> None:
    service = Service(
        id="x",
        address=ip_address("0.0.0.0"),
        port=70000,
        names=("a..b", "UPPER.example.org"),
        backends=("a/b",),
        extra=(("/x/${what}", "1"),),
    )
    assert [fault.setting for fault in faults(service)] == [
        "--address", "--port", "--dns", "--dns", "--backend", "--put",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("service", "reason"),
    [
        (replace(WEB, names=()), "nothing to register; give --dns, --backend or --put"),
        (replace(WEB, port=0, backends=("web",)), "needs --port"),
        (replace(WEB, route="Host(`a`)"), "needs --backend"),
        (replace(WEB, scheme="https"), None),
    ],
)
def test_faults(service: Service, reason: str | None) -> None:
    assert [fault.reason for fault in faults(service)] == ([] if reason is None else [reason])

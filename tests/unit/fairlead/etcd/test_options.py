# SPDX-License-Identifier: Apache-2.0
"""Endpoints as users write them (specs/etcd.md §5.1)."""

import pytest

from fairlead.errors import ConfigError
from fairlead.etcd.options import Endpoint, Options, parse_endpoint


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("http://127.0.0.1:2379", Endpoint("http", "127.0.0.1", 2379)),
        ("https://etcd.example.org:2379/", Endpoint("https", "etcd.example.org", 2379)),
        ("etcd.example.org", Endpoint("http", "etcd.example.org", 2379)),
        ("etcd.example.org:4001", Endpoint("http", "etcd.example.org", 4001)),
        ("http://[2001:db8::1]:2379", Endpoint("http", "2001:db8::1", 2379)),
        ("unix:///run/etcd.sock", Endpoint("unix", path="/run/etcd.sock")),
    ],
)
def test_endpoints(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint
    assert parse_endpoint(str(endpoint)) == endpoint


def test_a_bare_host_is_https_when_tls_is_configured() -> None:
    assert Options(endpoints=("a:1",), ca="/ca.pem").parsed() == (Endpoint("https", "a", 1),)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ftp://a:1", 'scheme "ftp" is not'),
        ("http://a:b", "is not scheme://host:port"),
        ("http://a:99999", "port 99999 is not between"),
        ("unix://relative", "absolute path"),
        ("", "is not scheme://host:port"),
        ("2001:db8::1", "is not scheme://host:port"),
    ],
)
def test_a_bad_endpoint_is_named(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        parse_endpoint(text)
    assert caught.value.value == text


def test_login_comes_in_one_piece_or_in_two() -> None:
    assert Options().login() is None
    assert Options(user="root:a:b").login() == ("root", "a:b")
    assert Options(user="root", password="x").login() == ("root", "x")


def test_the_password_is_not_printed() -> None:
    assert "sesame" not in repr(Options(user="root", password="sesame"))


def test_embedded_names_a_directory() -> None:
    assert Options(endpoints=("embedded:///var/lib/x",)).embedded == "/var/lib/x"
    assert Options().embedded == ""

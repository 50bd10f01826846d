# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.proxyheader import Refused, decode, encode

ONE, TWO = ("192.0.2.7", 5000), ("198.51.100.1", 80)
SIX, SEVEN = ("2001:db8::1", 5000, 0, 0), ("2001:db8::2", 80, 0, 0)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(("source", "target"), [(ONE, TWO), (SIX, SEVEN)])
def test_what_is_encoded_is_decoded(version: str, source: object, target: object) -> None:
    header = encode(version, source, target)
    found = decode(header + b"GET", "PROXY")
    assert found == (len(header), (source[0], 5000))  # type: ignore[index]
    for cut in range(1, len(header)):
        assert decode(header[:cut], "PROXY") is None, "more bytes are needed"


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_unix_client_is_unknown(version: str) -> None:
    header = encode(version, "", "")
    assert decode(header, "PROXY") == (len(header), None)


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 192.0.2.7 198.51.100.1 5000\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 70000 80\r\n",
        b"PROXY TCP5 192.0.2.7 198.51.100.1 1 2\r\n",
        b"PROXY " + b"x" * 120,
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c" + bytes(12),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff" + bytes(12),
    ],
)
def test_refused(header: bytes) -> None:
    with pytest.raises(Refused):
        decode(header, "PROXY")


def test_no_header_is_none_and_each_kind_takes_its_own() -> None:
    assert decode(b"GET / HTTP/1.1\r\n", "PROXY_V1") == (0, None)
    assert decode(encode("v2", ONE, TWO), "PROXY_V1") == (0, None)
    assert decode(encode("v1", ONE, TWO), "PROXY_V2") == (0, None)


@given(st.binary(max_size=200))
def test_nothing_else_is_raised(data: bytes) -> None:
    for head in (b"", b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"):
        try:
            decode(head + data, "PROXY")
        except Refused:
            continue

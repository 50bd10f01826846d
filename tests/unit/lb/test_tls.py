# SPDX-License-Identifier: Apache-2.0
import ssl

import pytest

from lb import tls


@pytest.mark.parametrize(
    ("openssl", "iana"),
    [
        ("ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
        ("ECDHE-ECDSA-AES256-SHA", "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"),
        ("ECDHE-RSA-CHACHA20-POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
        ("AES128-SHA", "TLS_RSA_WITH_AES_128_CBC_SHA"),
        ("DHE-RSA-AES256-SHA256", "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256"),
    ],
)
def test_suites_have_two_names(openssl: str, iana: str) -> None:
    assert tls.iana_name(openssl) == iana
    assert tls.openssl_name(iana) == openssl


def test_every_suite_of_the_library_that_has_an_iana_name_comes_back() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("kRSA+AES:ECDHE+AES:ECDHE+CHACHA20:DHE+AES")
    for cipher in context.get_ciphers():
        name = str(cipher["name"])
        if "CCM" in name or "PSK" in name or name.startswith(("TLS_", "ADH")):
            continue
        assert tls.openssl_name(tls.iana_name(name)) == name
    assert tls.iana_name("TLS_AES_128_GCM_SHA256") == "TLS_AES_128_GCM_SHA256"  # TLS 1.3's
    assert tls.iana_name("") == ""

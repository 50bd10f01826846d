# SPDX-License-Identifier: Apache-2.0
"""The traps of specs/flannel.md §22, by number; the others stand beside the module they concern."""

import pytest

from flannelpy import keys
from flannelpy.records import decode_attributes, encode_attributes, parse_config


def test_t1_nothing_of_ours_is_under_the_subnets_string():
    assert not keys.config("/coreos.com/network").startswith(b"/coreos.com/network/subnets")


@pytest.mark.parametrize("text", ['{"Network":"10.3.0.0/16"}', '{"nEtWoRk":"10.3.0.0/16"}'])
def test_t2_absent_backend_is_udp_and_names_match_in_any_case(text):
    assert parse_config(text.encode()).backend.type == "udp"


def test_t7_public_ipv6_is_always_there_as_null():
    assert encode_attributes(decode_attributes(b'{"PublicIP":"192.0.2.13"}')) == (
        b'{"PublicIP":"192.0.2.13","PublicIPv6":null}'
    )


def test_t23_readers_do_not_depend_on_field_order():
    one = decode_attributes(
        b'{"BackendType":"vxlan","BackendData":{"VNI":1},"PublicIP":"192.0.2.1"}'
    )
    assert encode_attributes(one) == (
        b'{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1}}'
    )

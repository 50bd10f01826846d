# SPDX-License-Identifier: Apache-2.0
"""lb/openapi.py: what the API takes and what it says it takes are the same names."""

from __future__ import annotations

import pytest

from lb import extension, openapi, tls

SCHEMAS = openapi.description()["components"]["schemas"]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("Backend", extension.IN_BACKEND),
        ("Frontend", extension.IN_SETTINGS),
        ("Listener", extension.IN_LISTENER),
    ],
)
def test_every_extension_field_of_settings_is_described(kind: str, names: tuple[str, ...]) -> None:
    assert set(names) <= set(SCHEMAS[kind]["properties"]["Settings"]["properties"])


def test_every_extension_field_of_objects_is_described() -> None:
    assert {*extension.IN_SERVER, "Weight"} <= set(SCHEMAS["Server"]["properties"])
    assert set(extension.IN_FRONTEND) <= set(SCHEMAS["Frontend"]["properties"])
    described = SCHEMAS["Listener"]["properties"]["Settings"]["properties"]["TLS"]["properties"]
    assert set(described) == set(tls.NAMES)

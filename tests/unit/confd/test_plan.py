# SPDX-License-Identifier: Apache-2.0
"""Plans are pure: what they hold, and that a second one is empty."""

from __future__ import annotations

import pytest

from confd.plan import Switches, plan_files
from confd.records import TemplateResource
from confd.state import Broken, File, Item, Present, Wanted

PLAIN = TemplateResource("a.toml", "a.tmpl", "/etc/a")
FULL = TemplateResource("a.toml", "a.tmpl", "/etc/a", check_cmd="check", reload_cmd="reload")
OLD, NEW = File(b"old", 0o600, 0, 0), File(b"new", 0o600, 0, 0)


def wanted(resource: TemplateResource, mode: int | None = None, uid: int = 0) -> Wanted:
    return Wanted(resource, b"new", mode, uid, 0)


@pytest.mark.parametrize(
    ("item", "present", "switches", "planned"),
    [
        pytest.param(wanted(PLAIN), Present(None), Switches(), ["stage", "replace"], id="new file"),
        pytest.param(wanted(PLAIN), Present(NEW), Switches(), [], id="in sync, mode kept"),
        pytest.param(wanted(PLAIN, 0o644), Present(NEW), Switches(), ["stage", "replace"], id="mode"),
        pytest.param(wanted(PLAIN, uid=1), Present(NEW), Switches(), ["stage", "replace"], id="owner"),
        pytest.param(wanted(FULL), Present(OLD), Switches(), ["stage", "check", "replace", "reload"], id="commands"),
        pytest.param(wanted(FULL), Present(OLD), Switches(sync_only=True), ["stage", "replace"], id="sync-only"),
        pytest.param(wanted(FULL), Present(OLD), Switches(noop=True), ["leave"], id="noop"),
        pytest.param(wanted(FULL), Present(NEW, reload_due=True), Switches(), ["reload"], id="a reload is owed"),
        pytest.param(wanted(FULL), Present(NEW, reload_due=True), Switches(noop=True), [], id="owed, noop"),
        pytest.param(Broken(FULL, "why"), Present(OLD), Switches(), ["render"], id="cannot be rendered"),
    ],
)  # fmt: skip
def test_plan(item: Item, present: Present, switches: Switches, planned: list[str]) -> None:
    plan = plan_files({"a.toml": item}, {"a.toml": present}, switches)
    assert [str(action).split()[0] for action in plan] == planned


def test_differences_in_the_originals_words() -> None:
    plan = plan_files({"a": Wanted(PLAIN, b"new", 0o644, 33, 0)}, {"a": Present(OLD)})
    assert plan[0].differences == (  # type: ignore[union-attr]
        "/etc/a has UID 0 should be 33",
        "/etc/a has mode -rw------- should be -rw-r--r--",
        "/etc/a has md5sum 149603e6c03516362a8da23f624db945 should be 22af645d1859cb5ca6da0c484f1f37ea",
    )


def test_nothing_is_removed() -> None:
    assert plan_files({}, {"a": Present(OLD)}) == ()

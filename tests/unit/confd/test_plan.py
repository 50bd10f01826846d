# SPDX-License-Identifier: Apache-2.0
"""Plans are pure: what they hold, and that a second one is empty."""

from __future__ import annotations

import pytest

from confd.plan import Switches, plan_resource
from confd.records import TemplateResource
from confd.state import Broken, Desired, File, Output, Present, Waiting, Wanted

PLAIN = TemplateResource("a.toml", "a.tmpl", "/etc/a")
FULL = TemplateResource("a.toml", "a.tmpl", "/etc/a", check_cmd="check", reload_cmd="reload")
OLD, NEW = File(b"old", 0o600, 0, 0), File(b"new", 0o600, 0, 0)


def wanted(resource: TemplateResource, mode: int | None = None, uid: int = 0) -> Wanted:
    return Wanted(resource, {"/etc/a": Output(b"new", mode, uid, 0)})


def present(file: File | None, *, reload_due: bool = False) -> Present:
    return Present({"/etc/a": file}, reload_due)


@pytest.mark.parametrize(
    ("item", "now", "switches", "planned"),
    [
        pytest.param(wanted(PLAIN), present(None), Switches(), ["stage", "replace"], id="new file"),
        pytest.param(wanted(PLAIN), present(NEW), Switches(), [], id="in sync, mode kept"),
        pytest.param(wanted(PLAIN, 0o644), present(NEW), Switches(), ["stage", "replace"], id="mode"),
        pytest.param(wanted(PLAIN, uid=1), present(NEW), Switches(), ["stage", "replace"], id="owner"),
        pytest.param(wanted(FULL), present(OLD), Switches(), ["stage", "check", "replace", "reload"], id="commands"),
        pytest.param(wanted(FULL), present(OLD), Switches(sync_only=True), ["stage", "replace"], id="sync-only"),
        pytest.param(wanted(FULL), present(OLD), Switches(noop=True), ["leave"], id="noop"),
        pytest.param(wanted(FULL), present(NEW, reload_due=True), Switches(), ["reload"], id="a reload is owed"),
        pytest.param(wanted(FULL), present(NEW, reload_due=True), Switches(noop=True), [], id="owed, noop"),
        pytest.param(Broken(FULL, "why"), present(OLD), Switches(), ["render"], id="cannot be rendered"),
        pytest.param(Waiting(FULL), present(OLD), Switches(), [], id="its keys have not come in"),
    ],
)  # fmt: skip
def test_plan(item: Desired, now: Present, switches: Switches, planned: list[str]) -> None:
    plan = plan_resource(item, now, switches)
    assert [str(action).split()[0] for action in plan] == planned


def test_differences_in_the_originals_words() -> None:
    plan = plan_resource(wanted(PLAIN, 0o644, 33), present(OLD))
    assert plan[0].differences == (  # type: ignore[union-attr]
        "/etc/a has UID 0 should be 33",
        "/etc/a has mode -rw------- should be -rw-r--r--",
        "/etc/a has md5sum 149603e6c03516362a8da23f624db945 should be 22af645d1859cb5ca6da0c484f1f37ea",
    )


def test_a_set_is_installed_as_one_and_what_vanished_goes_after_it() -> None:
    """Put before delete; one check, one reload for all."""
    two = Wanted(FULL, {name: Output(b"new", None, 0, 0) for name in ("/etc/a", "/etc/b")})
    plan = plan_resource(
        two, Present({"/etc/a": OLD, "/etc/b": None, "/etc/gone": OLD, "/etc/no": None})
    )
    assert [str(action) for action in plan] == [
        "stage /etc/a: 3 bytes",
        "stage /etc/b: 3 bytes",
        "check /etc/a",
        "replace /etc/a, /etc/b",
        "remove /etc/gone",
        "reload /etc/a",
    ]
    assert plan_resource(two, Present({"/etc/a": NEW, "/etc/b": NEW, "/etc/gone": None})) == ()

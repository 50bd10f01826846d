# SPDX-License-Identifier: Apache-2.0
"""The confdir's rules (specs/confd.md §2) and rendering with last good versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from confd.catalog import Catalog
from confd.records import Defaults
from confd.renderer import Renderer
from confd.state import Broken, Wanted
from confd.views import Views
from fairlead.etcd.types import KeyValue, Revision


def catalog(root: Path) -> Catalog:
    return Catalog(root, Defaults())


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def resource(root: Path, name: str, src: str = "a.tmpl") -> Path:
    text = f'[template]\nsrc = "{src}"\ndest = "/etc/{src}"\nkeys = ["/k"]\n'
    return write(root / "conf.d" / name, text)


def test_discovery(tmp_path: Path) -> None:
    for name in ("b.toml", "a/z.toml", ".x.toml", "xtoml", "no.toml.bak", "..data/m.toml"):
        resource(tmp_path, name)
    (tmp_path / "conf.d" / "linked").symlink_to(tmp_path / "conf.d" / "a")
    (tmp_path / "conf.d" / "c.toml").symlink_to(tmp_path / "conf.d" / "b.toml")
    found = catalog(tmp_path)
    assert found.refresh()
    names = [str(Path(file).relative_to(tmp_path / "conf.d")) for file in found.resources]
    assert names == [".x.toml", "a/z.toml", "b.toml", "xtoml"]
    assert not found.refresh()


def test_trouble(tmp_path: Path) -> None:
    absent = catalog(tmp_path / "none")
    absent.refresh()
    assert absent.trouble.endswith("/none' does not exist")
    empty = catalog(tmp_path)
    empty.refresh()
    assert empty.missing
    (tmp_path / "conf.d").mkdir()
    empty.refresh()
    assert (empty.trouble, empty.missing) == ("Found no templates", False)


def test_last_good_version_and_neighbours(tmp_path: Path) -> None:
    """Trap 14."""
    good, other = resource(tmp_path, "good.toml"), resource(tmp_path, "other.toml")
    found = catalog(tmp_path)
    found.refresh()
    other.write_text("[template")
    resource(tmp_path, "new.toml").write_text("nothing")
    found.refresh()
    assert set(found.resources) == {str(good), str(other)}
    assert set(found.faults) == {str(other), str(tmp_path / "conf.d" / "new.toml")}
    other.unlink()
    found.refresh()
    assert set(found.resources) == {str(good)}


def test_desired(tmp_path: Path) -> None:
    file = str(resource(tmp_path, "a.toml"))
    broken = str(resource(tmp_path, "b.toml", "b.tmpl"))
    template = write(tmp_path / "templates" / "a.tmpl", 'x {{getv "/k"}}\n')
    found, views = catalog(tmp_path), Views()
    found.refresh()
    views.assign(found.resources.values())
    one = Revision(1)
    views.apply([(b"/k", KeyValue(b"/k", b"\xff", one, one, 1))])
    renderer = Renderer(found, views, uid=1, gid=2)
    wanted = renderer.wanted(found.resources[file])
    assert isinstance(wanted, Wanted)
    output = wanted.outputs["/etc/a.tmpl"]
    assert (output.content, output.uid, output.gid) == (b"x \xff\n", 1, 2)
    assert renderer.wanted(found.resources[file]) is wanted, "nothing changed: not rendered again"
    missing = renderer.wanted(found.resources[broken])
    assert isinstance(missing, Broken)
    assert missing.reason == f"Missing template: {tmp_path}/templates/b.tmpl"
    template.write_text('{{getv "/none"}}')
    os.utime(template, ns=(1, 1))
    failed = renderer.wanted(found.resources[file])
    assert isinstance(failed, Broken)
    assert "key does not exist: /none" in str(failed)
    assert views.apply([(b"/none", KeyValue(b"/none", b"", one, one, 1))]) == set()


def test_owner_names(tmp_path: Path) -> None:
    """Trap 22: owner and group are honoured, an unknown name is a fault."""
    good = resource(tmp_path, "a.toml")
    good.write_text(good.read_text() + 'owner = "root"\ngroup = "root"\n')
    bad = resource(tmp_path, "b.toml")
    bad.write_text(bad.read_text() + 'owner = "no-such-user"\n')
    found = catalog(tmp_path)
    found.refresh()
    assert (found.resources[str(good)].uid, found.resources[str(good)].gid) == (0, 0)
    assert "no such user" in found.faults[str(bad)]


@pytest.mark.parametrize("text", ["{{.Foo}}|{{.}}"])
def test_dot_is_nothing(tmp_path: Path, text: str) -> None:
    """Trap 24."""
    file = str(resource(tmp_path, "a.toml"))
    write(tmp_path / "templates" / "a.tmpl", text)
    found, views = catalog(tmp_path), Views()
    found.refresh()
    views.assign(found.resources.values())
    wanted = Renderer(found, views).wanted(found.resources[file])
    assert isinstance(wanted, Wanted)
    assert wanted.outputs["/etc/a.tmpl"].content == b"<no value>|<no value>"

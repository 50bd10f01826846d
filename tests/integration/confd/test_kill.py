# SPDX-License-Identifier: Apache-2.0
"""`kill -9` before every single step that a pass takes: the old files or the new, no litter.

A child process makes one pass and kills itself before its n-th system call that changes a file
or starts a command (Python's audit events tell); then another child starts as confd does and
makes passes. So for every n, to and fro between two sets of keys, until a pass lives to its end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from confd.apply import Applier
from confd.catalog import Catalog
from confd.journal import Journal
from confd.metrics import Metrics
from confd.plan import Switches
from confd.renderer import Renderer
from confd.units import Parts, Unit
from confd.views import Views
from fairlead.etcd.types import KeyValue, Revision
from fairlead.log import Log, Sink

pytestmark = [pytest.mark.integration, pytest.mark.slow]

STEPS = frozenset(
    {"os.chmod", "os.chown", "os.link", "os.mkdir", "os.posix_spawn", "os.remove", "os.rename",
     "subprocess.Popen"}
)  # fmt: skip

SINGLE = """[template]
src = "a.tmpl"
dest = "OUT/a"
keys = ["/k"]
check_cmd = "test -s {{.src}}"
reload_cmd = "cat OUT/a > OUT/../loaded"
"""

GROUP = """[group]
check_cmd = "test -s {{index .staged \\"OUT/a\\"}}"
reload_cmd = "cat OUT/a OUT/b > OUT/../loaded"
[[template]]
src = "a.tmpl"
dest = "OUT/a"
keys = ["/k"]
[[template]]
src = "a.tmpl"
dest = "OUT/b"
keys = ["/k"]
"""

EACH = """[template]
src = "a.tmpl"
dest = "OUT/{{.Name}}"
keys = ["/"]
for_each = "/v/*"
reload_cmd = "cat OUT/* > OUT/../loaded"
"""

ROLLED_BACK = GROUP + '[[template]]\nsrc = "a.tmpl"\ndest = "OUT/c"\nkeys = ["/k"]\n'


class Place:
    def __init__(self, root: Path, toml: str) -> None:
        self.root, self.out = root, root / "out"
        for directory in ("conf.d", "templates", "out"):
            (root / directory).mkdir(parents=True)
        (root / "conf.d" / "a.toml").write_text(toml.replace("OUT", str(self.out)))
        (root / "templates" / "a.tmpl").write_text('{{getv "/k"}}')

    async def converge(self, keys: dict[str, str], passes: int) -> None:
        """Start as confd does, and make passes."""
        log = Log(Sink(write=lambda text: None))
        catalog, views = Catalog(self.root), Views()
        catalog.refresh()
        (resource,) = catalog.resources.values()
        views.assign([resource])
        one = Revision(1)
        views.apply(
            [(k.encode(), KeyValue(k.encode(), v.encode(), one, one, 1)) for k, v in keys.items()]
        )
        applier = Applier(log, Journal(self.root / "state", log), Metrics())
        parts = Parts(Renderer(catalog, views), applier, Switches(), 30.0, (0.5, 30.0), 1.0)
        unit = Unit(resource, parts)
        for _ in range(passes):
            await unit.loop.once()

    def files(self) -> dict[str, str]:
        return {
            path.name: path.read_text() if path.is_file() else "/" for path in self.out.iterdir()
        }

    def loaded(self) -> str:
        path = self.root / "loaded"
        return path.read_text() if path.exists() else ""


def changes(event: str, arguments: tuple[Any, ...]) -> bool:
    """Say whether an audit event is a step that changes something."""
    if event == "open":
        path, _, flags = arguments
        return isinstance(path, str) and path != os.devnull and bool(flags & os.O_ACCMODE)
    return event in STEPS


def in_child(work: Callable[[], Coroutine[Any, Any, None]], kill_at: int = 0) -> int:
    """Run `work` in a child that dies before its n-th step; return how it ended, 0 for well."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status, steps = 1, 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal steps
        if changes(event, arguments):
            steps += 1
            if steps == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        loop = asyncio.new_event_loop()
        sys.addaudithook(count)
        loop.run_until_complete(work())
        status = 0
    finally:
        os._exit(status)


ONE = {"/k": "one", "/v/a": "", "/v/b": ""}
TWO = {"/k": "two", "/v/b": "", "/v/c": ""}


@pytest.mark.parametrize(
    ("toml", "one", "two"),
    [
        pytest.param(SINGLE, "a", "a", id="single"),
        pytest.param(GROUP, "ab", "ab", id="group"),
        pytest.param(EACH, "ab", "bc", id="for_each"),
    ],
)
def test_at_every_step(tmp_path: Path, toml: str, one: str, two: str) -> None:
    place = Place(tmp_path, toml)
    old, new = (ONE, dict.fromkeys(one, "one")), (TWO, dict.fromkeys(two, "two"))
    assert in_child(lambda: place.converge(ONE, 1)) == 0
    for step in range(1, 100):
        assert (place.files(), place.loaded()) == (old[1], "".join(old[1].values()))
        ended = in_child(lambda keys=new[0]: place.converge(keys, 1), step)
        for name, text in place.files().items():  # every file whole, the old one or the new
            assert name[0] == "." or text in {old[1].get(name), new[1].get(name)}, (step, name)
        if ended == 0:
            assert (place.files(), place.loaded()) == (new[1], "".join(new[1].values()))
            assert step > 7, "too few steps: are they still audited?"
            return
        assert ended == -signal.SIGKILL
        assert in_child(lambda keys=new[0]: place.converge(keys, 1)) == 0
        assert (place.files(), place.loaded()) == (new[1], "".join(new[1].values())), step
        old, new = new, old
    pytest.fail("no pass lived to its end")


def test_at_every_step_of_a_roll_back(tmp_path: Path) -> None:
    """The third rename is refused, as a directory stands there: killed while taking back, too."""
    place = Place(tmp_path, ROLLED_BACK)
    assert in_child(lambda: place.converge(ONE, 1)) == 0
    old, new = ONE, TWO
    in_the_way = place.out / "c"
    for step in range(1, 100):
        in_the_way.unlink()
        in_the_way.mkdir()
        (in_the_way / "x").touch()
        ended = in_child(lambda keys=new: place.converge(keys, 1), step)
        for name, text in place.files().items():
            assert name[0] == "." or text in {"one", "two", "/"}, (step, name, text)
        if ended == 0:
            assert place.files() == {"a": old["/k"], "b": old["/k"], "c": "/"}
            return
        (in_the_way / "x").unlink()
        in_the_way.rmdir()
        assert in_child(lambda keys=new: place.converge(keys, 1)) == 0
        assert place.files() == dict.fromkeys("abc", new["/k"]), step
        old, new = new, old
    pytest.fail("no pass lived to its end")

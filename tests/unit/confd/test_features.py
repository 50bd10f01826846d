# SPDX-License-Identifier: Apache-2.0
"""Groups, for_each, dialects, Jinja2, formats, several sources, secrets: rendered and installed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from confd import formats
from confd.apply import Applier
from confd.catalog import Catalog
from confd.diff import unified
from confd.journal import Entry, Journal
from confd.metrics import Metrics
from confd.observe import present_files
from confd.plan import Notice, Switches, plan_resource
from confd.records import Defaults
from confd.renderer import Renderer
from confd.secrets import MASK, Mask, is_secret
from confd.staging import Litter
from confd.state import Broken, Desired, File, Wanted
from confd.views import Pair, Views
from fairlead.etcd.types import KeyValue, Revision
from fairlead.gotemplate.gotime import Time
from fairlead.log import Log, Sink


def pairs(keys: Mapping[str, str]) -> list[Pair]:
    one = Revision(1)
    return [(k.encode(), KeyValue(k.encode(), v.encode(), one, one, 1)) for k, v in keys.items()]


class World:
    """A machine whose name service is asked, and counted."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def getenv(self, name: str) -> str:
        return ""

    def now(self) -> Time:
        return Time(0, 0, 0, "UTC", 0.0)

    def file_exists(self, path: str) -> bool:
        return False

    def hostname(self) -> str:
        return "h"

    def addresses(self, host: str) -> list[str]:
        self.asked.append(host)
        return ["192.0.2.1"]

    def services(self, name: str) -> list[tuple[str, int, int, int]]:
        self.asked.append(name)
        return [("one.", 80, 1, 1)]

    def interface(self, name: str, version: int) -> str:
        return ""


class Place:
    """A confdir, its keys and an applier: `converge` is one pass."""

    def __init__(self, root: Path) -> None:
        self.root, self.out = root, root / "out"
        for directory in ("conf.d", "templates", "out"):
            (root / directory).mkdir()
        self.world = World()
        defaults = Defaults(sources=frozenset({"sec"}))
        self.catalog = Catalog(root, defaults, self.world)
        self.views = Views()
        self.renderer = Renderer(self.catalog, self.views)
        self.log = Log(Sink(write=lambda text: None))
        self.journal = Journal(root / "state", self.log)
        self.applier = Applier(self.log, self.journal, Metrics())

    def write(self, toml: str, **templates: str) -> str:
        file = self.root / "conf.d" / "a.toml"
        file.write_text(toml.replace("OUT", str(self.out)))
        for name, text in templates.items():
            (self.root / "templates" / name.replace("_", ".")).write_text(text)
        self.catalog.refresh()
        assert not self.catalog.faults, self.catalog.faults
        self.views.assign(self.catalog.resources.values())
        return str(file)

    def keys(self, source: str = "", /, **keys: str) -> None:
        found = {f"/{name.replace('__', '/')}": value for name, value in keys.items()}
        touched = self.views.apply(pairs(found), source)
        self.renderer.touched(file.partition("#")[0] for file in touched)

    def gone(self, *keys: str) -> None:
        self.renderer.touched(self.views.apply([(key.encode(), None) for key in keys]))

    async def desired(self) -> Desired:
        return await self.renderer.prepare(next(iter(self.catalog.resources.values())))

    async def converge(self) -> list[str]:
        wanted = await self.desired()
        if isinstance(wanted, Broken):
            return [wanted.reason]
        assert isinstance(wanted, Wanted)
        entry = self.journal.entry(wanted.resource.file)
        actual = present_files({*wanted.outputs, *entry.made}, reload_due=entry.reload_due)
        plan = plan_resource(wanted, actual, Switches())
        return [error.reason for error in await self.applier.carry_out(plan)]

    def files(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.out.iterdir()}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


GROUP = """[group]
check_cmd = "grep -q good {{range .srcs}}{{.}} {{end}}; test $? -eq 0 && ls {{index .staged \\"OUT/b\\"}}"
reload_cmd = "echo x >> OUT/../reloads"
[[template]]
src = "a.tmpl"
dest = "OUT/a"
keys = ["/k"]
[[template]]
src = "b.tmpl"
dest = "OUT/b"
keys = ["/k"]
"""


async def test_a_group_is_checked_installed_and_reloaded_as_one(place: Place) -> None:
    place.write(GROUP, a_tmpl='{{getv "/k"}} a', b_tmpl='{{getv "/k"}} b')
    place.keys(k="bad")
    assert await place.converge() == ["Config check failed: exit status 1"]
    assert place.files() == {}
    place.keys(k="good")
    assert await place.converge() == []
    assert place.files() == {"a": "good a", "b": "good b"}
    assert (place.root / "reloads").read_text() == "x\n", "one reload for both"


async def test_a_groups_check_reads_what_is_in_sync_where_it_stands(place: Place) -> None:
    """A change of one file alone: the check of the whole set must not lack the others."""
    check = 'cat {{range .srcs}}{{.}} {{end}}> OUT/../seen; grep -q a {{.src}} {{index .staged "OUT/a"}}'
    lines = GROUP.splitlines()
    lines[1] = f"check_cmd = '{check}'"
    place.write("\n".join(lines), a_tmpl="a\n", b_tmpl='{{getv "/k"}}\n')
    for value in ("one", "two"):
        place.keys(k=value)
        assert await place.converge() == []
        assert (place.root / "seen").read_text() == f"a\n{value}\n"


async def test_a_group_with_a_broken_member_changes_nothing(place: Place) -> None:
    place.write(GROUP, a_tmpl="good", b_tmpl='{{getv "/none"}}')
    assert "key does not exist: /none" in (await place.converge())[0]
    assert place.files() == {}


async def test_a_refused_rename_takes_the_others_back(place: Place) -> None:
    place.write(GROUP, a_tmpl="good new", b_tmpl="good new")
    (place.out / "a").write_text("old")
    (place.out / "b").mkdir()
    (place.out / "b" / "x").touch()
    before = (place.out / "a").stat().st_ino
    (reason,) = await place.converge()
    assert reason.startswith("rename ")
    assert (place.out / "a").read_text() == "old"
    assert (place.out / "a").stat().st_ino == before
    assert sorted(os.listdir(place.out)) == ["a", "b"], "no staged file and no saved one"


EACH = """[template]
src = "v.tmpl"
dest = "OUT/{{.Name}}.conf"
keys = ["/v"]
for_each = "/v/*"
"""


async def test_for_each_follows_the_keys(place: Place) -> None:
    file = place.write(EACH, v_tmpl='{{.Key}} {{getv (printf "%s/port" .Key) "-"}} {{.Value}}')
    place.keys(v__one__port="80", v__two="leaf")
    assert await place.converge() == []
    assert place.files() == {"one.conf": "/v/one 80 ", "two.conf": "/v/two - leaf"}
    place.gone("/v/one/port")
    again = Journal(place.root / "state", place.log)
    assert again.entry(file).made == {f"{place.out}/one.conf", f"{place.out}/two.conf"}
    assert await place.converge() == []
    assert place.files() == {"two.conf": "/v/two - leaf"}, "what vanished is removed"


async def test_for_each_leaves_no_directory(place: Place) -> None:
    place.write(EACH.replace("{{.Name}}", "{{.Value}}"), v_tmpl="x")
    place.keys(v__one="../../etc/passwd")
    assert "no good file name" in (await place.converge())[0]


ONE = '[template]\nsrc = "{src}"\ndest = "OUT/f"\nkeys = ["/k", "sec:/db"]\n'


@pytest.mark.parametrize(
    ("lines", "template", "printed"),
    [
        ("", '{{getv "sec:/db/pw"}} {{gets "sec:/db/*"}} {{ls "sec:/db"}}', "pw1 [{sec:/db/pw pw1}] [pw]"),
        ('left_delimiter = "<<"\nright_delimiter = ">>"', '<<getv "/k">> {{x}}', "v {{x}}"),
        ("exact_integers = true", '{{(json "{\\"n\\": 10000000}").n}}', "10000000"),
        ("exact_integers = true", '{{(json "{\\"n\\": 1.5, \\"m\\": 12345678901234567890}").m}}', "1.2345678901234567e+19"),
        ("sprig = true", '{{"a,b" | splitList "," | last | upper}}{{hasPrefix "a" "ab"}}{{list 1 1 2 | uniq}}', "Btrue[1 2]"),
        ("sprig = true", '{{contains "abc" "b"}}{{max 1 3 2}}{{dict "a" 1 | dig "b" 7}}', "true37"),
    ],
)  # fmt: skip
async def test_dialects(place: Place, lines: str, template: str, printed: str) -> None:
    place.write(ONE.format(src="a.tmpl") + lines, a_tmpl=template)
    place.keys(k="v")
    place.keys("sec", db__pw="pw1")
    assert await place.converge() == []
    assert place.files() == {"f": printed}


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ('{{gets "/none/*"}}', "nothing found: /none/*"),
        ('{{ls "/none"}}', "nothing found: /none"),
        ('{{(map "a" 1).b}}', 'map has no entry for key "b"'),
    ],
)
async def test_strict(place: Place, template: str, said: str) -> None:
    place.write(ONE.format(src="a.tmpl") + "strict = true", a_tmpl=template)
    assert said in (await place.converge())[0]


async def test_jinja2_by_suffix(place: Place) -> None:
    text = (
        '{% for kv in gets("/k/*") %}{{ kv.Key | replace("/", "-") }}={{ kv.Value }}\n{% endfor %}'
    )
    place.write(ONE.format(src="a.j2"), a_j2=text)
    place.keys(k__1="a", k__2="b")
    assert await place.converge() == []
    assert place.files() == {"f": "-k-1=a\n-k-2=b\n"}
    for bad, said in (
        ('{{ getv("/none") }}', "key does not exist: /none"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{% if %}", "Expected an expression"),
        ("{{ 1 / 0 }}", "division by zero"),
    ):
        place.write(ONE.format(src="a.j2"), a_j2=bad)
        os.utime(place.root / "templates" / "a.j2", ns=(1, len(bad)))
        assert said in (await place.converge())[0]


async def test_a_look_up_is_made_beside_the_render(place: Place) -> None:
    """And one whose name comes from another's answer is made too."""
    template = '{{range lookupSRV "a" "tcp" "b"}}{{.Target}} {{lookupIP .Target}}{{end}}'
    place.write(ONE.format(src="a.tmpl"), a_tmpl=template)
    assert await place.converge() == []
    assert place.files() == {"f": "one. [192.0.2.1]"} or place.files() == {"f": "one [192.0.2.1]"}
    assert len(place.world.asked) == 2


async def test_a_render_is_kept_until_an_included_file_changes(place: Place) -> None:
    place.write(ONE.format(src="a.tmpl"), a_tmpl='{{include "inc.tmpl"}}', inc_tmpl="one")
    first = await place.desired()
    assert await place.desired() is first
    (place.root / "templates" / "inc.tmpl").write_text("second")
    again = await place.desired()
    assert isinstance(again, Wanted)
    assert [output.content for output in again.outputs.values()] == [b"second"]


async def test_min_reload_interval_postpones_and_never_drops(place: Place) -> None:
    later: list[float] = []
    place.applier.later = lambda file, seconds: later.append(seconds)
    lines = 'min_reload_interval = "300ms"\nreload_cmd = "echo x >> OUT/../n"'
    place.write(ONE.format(src="a.tmpl") + lines, a_tmpl='{{getv "/k"}}')
    place.keys(k="1")
    assert await place.converge() == []
    place.keys(k="2")
    assert await place.converge() == []
    assert (place.files(), (place.root / "n").read_text()) == ({"f": "2"}, "x\n")
    assert 0 < later[0] <= 0.3
    await asyncio.sleep(later[0] + 0.01)
    assert await place.converge() == []
    assert (place.root / "n").read_text() == "x\nx\n"


async def test_a_reload_that_is_due_outlives_the_process(place: Place) -> None:
    file = place.write(ONE.format(src="a.tmpl") + 'reload_cmd = "false"', a_tmpl="x")
    assert await place.converge() == ["Config reload failed: exit status 1"]
    assert Journal(place.root / "state", place.log).entry(file) == Entry(reload_due=True)


async def test_output_format(place: Place) -> None:
    place.write(ONE.format(src="a.tmpl") + 'output_format = "json"', a_tmpl="{")
    (reason,) = await place.converge()
    assert reason.startswith("output format validation failed (json): ")
    assert place.files() == {}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("json", b"[1]", b"[1"),
        ("yaml", b"a: [1]\n---\nb", b"a: ["),
        ("toml", b"a = 1", b"a ="),
        ("xml", b"<a/>", b"<a>"),
        ("json", b'"\xc3\xa9"', b'"\xff"'),
    ],
)
def test_formats(name: str, good: bytes, bad: bytes) -> None:
    assert formats.fault(name, good) == ""
    assert formats.fault(name, bad)


def test_secrets_are_masked() -> None:
    named = ("/db/password", "/token", "/a/api-key", "/x/secret1", "/client_credentials")
    assert all(map(is_secret, named))
    assert not any(map(is_secret, ("/keys/a", "/compass", "/web/1", "/tokenizer")))
    mask = Mask(["vault"])
    mask.learn(
        [
            ("/db/password", "hunter22"),
            ("vault:/x/y", "s3cretive"),
            ("/a", "plain"),
            ("/token", "abc"),
        ]
    )
    assert mask("hunter22 s3cretive plain abc") == f"{MASK} {MASK} plain abc"


def test_a_difference_in_colour_without_secrets(place: Place) -> None:
    resource = next(iter(place.catalog.resources.values()), None)
    place.write(ONE.format(src="a.tmpl"), a_tmpl="")
    resource = next(iter(place.catalog.resources.values()))
    old, new = File(b"a\nb\n", 0o644, 0, 0), File(b"a\npw hunter22\n", 0o644, 0, 0)
    mask = Mask()
    mask.learn([("/password", "hunter22")])
    notice = Notice(resource, "/etc/f", new, old, ())
    assert unified(notice, mask=mask) == (
        f"--- /etc/f\n+++ /etc/f\n@@ -1,2 +1,2 @@\n a\n-b\n+pw {MASK}\n"
    )
    assert "\x1b[32m+pw" in unified(notice, color=True)


PLACED = """[template]
src = "a.tmpl"
dest = "OUT/f"
keys = ["/k"]
follow_symlink = true
make_directory = true
fsync = true
"""


async def test_a_link_is_followed_and_a_directory_made_if_asked(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    monkeypatch.setattr(
        os, "fsync", lambda number: synced.append(os.path.isdir(f"/dev/fd/{number}"))
    )
    (place.out / "f").symlink_to("deep/er/real")
    place.write(PLACED, a_tmpl='{{getv "/k"}}')
    for value in ("one", "two"):
        place.keys(k=value)
        assert await place.converge() == []
        assert (place.out / "f").is_symlink()
        assert {path.name: path.read_text() for path in (place.out / "deep" / "er").iterdir()} == {
            "real": value
        }
    assert synced == [False, True, False, True], "the staged file, then the directory"
    assert await place.converge() == []
    (place.out / "deep" / "er" / "real").unlink()
    (place.out / "deep" / "er").rmdir()
    (place.out / "deep" / "er").touch()
    assert "mkdir" in (await place.converge())[0]


def test_litter_of_the_dead_only(tmp_path: Path) -> None:
    dead = 4_194_305  # beyond any pid_max
    names = [
        f".f{dead:07d}123456",
        f".f{1:07d}123456",
        f".f{os.getpid():07d}123456",
        f".f{dead:07d}1234560",  # the copy that -keep-stage-file installs
        f".other{dead:07d}123456",
        ".f123",
        ".fx",
        "f",
    ]
    for name in names:
        (tmp_path / name).touch()
    litter = Litter()
    found = litter.beside([str(tmp_path / "f")], [str(tmp_path / names[2])])
    assert sorted(found) == [str(tmp_path / names[0]), str(tmp_path / names[3])]
    assert litter.beside([str(tmp_path / "f"), str(tmp_path / "none" / "f")]) == []

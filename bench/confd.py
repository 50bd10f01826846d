# SPDX-License-Identifier: Apache-2.0
"""confd on a real etcd, beside the Go originals where they are built: `python bench/confd.py`.

Looked for as `confd-go` and `confd-fork` in $FAIRLEAD_PEERS and on PATH. One key → one file;
100 resources with 100 keys each; 100 resources over the same 10,000 keys; and the processor time
of a 200-line nginx template over 1,000 keys, of the whole program (the difference between
rendering it 41 times and once in one file, so that start and reading the keys do not count) and
of the engine alone beside Go's (`go_template.go`, where `go` is found).

Ours runs from compiled modules, as pip leaves it: PYTHONDONTWRITEBYTECODE is not passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from fairlead.etcd.client import Client, connect
from fairlead.etcd.options import Options
from fairlead.etcd.types import Put
from fairlead.gotemplate import Func, Template
from fairlead.gotemplate.values import STRING, Slice, Strings, Struct
from fairlead.testing.etcd import real_etcd

BARS = {  # seconds, MiB, × Go's engine
    "change to file, median": 0.005,
    "own keys: one-time": 1.0,
    "own keys: one transaction, last file": 0.15,
    "shared keys: one-time": 3.0,
    "shared keys: watch start": 3.0,
    "shared keys: change that one reads": 0.02,
    "shared keys: change that all read": 2.0,
    "shared keys: MiB": 120.0,
    "200 lines, 1,000 keys: ms a render": 20.0,
    "engine alone: ms a render": 20.0,
    "engine alone: x Go": 3.0,
}
MANY = 100
LIMIT = 20.0

Words = Callable[[Path, str, str], list[str]]


def ours(confdir: Path, endpoint: str, mode: str) -> list[str]:
    own = ("-state-dir", f"{confdir}-state", "-admin-socket", f"{confdir}-s", "-log-level", "error")
    return [
        sys.executable,
        "-m",
        "confd",
        f"-{mode}",
        "-confdir",
        str(confdir),
        "-node",
        endpoint,
        *own,
    ]


def original(path: str) -> Words:
    return lambda confdir, endpoint, mode: [
        path, "-backend", "etcdv3", f"-{mode}", "-confdir", str(confdir), "-node", endpoint, "-log-level", "error",
    ]  # fmt: skip


def fork(path: str) -> Words:
    return lambda confdir, endpoint, mode: [
        path, "etcd", f"--{mode}", "--confdir", str(confdir), "--node", endpoint, "--log-level", "error",
    ]  # fmt: skip


def programs() -> dict[str, Words]:
    found: dict[str, Words] = {"ours": ours}
    where = os.environ.get("FAIRLEAD_PEERS", "") + os.pathsep + os.environ.get("PATH", "")
    for name, make in (("confd-go", original), ("confd-fork", fork)):
        path = shutil.which(name, path=where)
        if path:
            found[name] = make(path)
    return found


class Place:
    """A confdir and its destinations."""

    def __init__(self, root: Path, name: str) -> None:
        self.conf, self.out = root / name, root / f"{name}-out"
        for directory in (self.conf / "conf.d", self.conf / "templates", self.out):
            directory.mkdir(parents=True)

    def add(self, number: int, template: str, keys: str) -> Path:
        dest = self.out / f"f{number}"
        (self.conf / "templates" / f"{number}.tmpl").write_text(template)
        lines = f'[template]\nsrc = "{number}.tmpl"\ndest = "{dest}"\nkeys = ["{keys}"]\n'
        (self.conf / "conf.d" / f"{number:03}.toml").write_text(lines)
        return dest

    def clear(self) -> None:
        for file in self.out.iterdir():
            file.unlink()

    def written(self) -> int:
        return sum(not name.startswith(".") for name in os.listdir(self.out))


async def started(words: list[str]) -> asyncio.subprocess.Process:
    """Start a program; the originals' complaints (thousands) are left out, what it costs is shown."""
    theirs = None if words[0] == sys.executable else subprocess.DEVNULL
    return await asyncio.create_subprocess_exec(*words, stdout=subprocess.DEVNULL, stderr=theirs)


@contextlib.asynccontextmanager
async def running(words: list[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await started(words)
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def until(claim: Callable[[], bool], limit: float = LIMIT) -> float:
    """Return the seconds until `claim` held; infinity when it did not in time."""
    begun = time.perf_counter()
    while not claim():
        if time.perf_counter() - begun > limit:
            return float("inf")
        await asyncio.sleep(0.0003)
    return time.perf_counter() - begun


def holds(path: Path, text: bytes) -> bool:
    try:
        return text in path.read_bytes()
    except FileNotFoundError:
        return False


async def onetime(words: list[str]) -> tuple[float, float]:
    """Return a run's seconds and its processor seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    process = await started(words)
    await process.wait()
    took = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


async def put_many(store: Client, pairs: list[tuple[str, str]]) -> None:
    for at in range(0, len(pairs), 100):
        part = [Put(key.encode(), value.encode()) for key, value in pairs[at : at + 100]]
        await store.txn(success=part, repeatable=True)


async def one_key(words: Words, store: Client, place: Place, endpoint: str) -> dict[str, float]:
    dest = place.out / "f0"
    await store.put(b"/one/k", b"start")
    times = []
    async with running(words(place.conf, endpoint, "watch")):
        await until(lambda: holds(dest, b"start"))
        await asyncio.sleep(0.5)
        for number in range(100):
            text = b"v%d." % number
            await store.put(b"/one/k", text)
            times.append(await until(lambda text=text: holds(dest, text), 5))
            await asyncio.sleep(0.01)
    return {"change to file, median": statistics.median(times)}


async def own_keys(words: Words, store: Client, place: Place, endpoint: str) -> dict[str, float]:
    took, _ = await onetime(words(place.conf, endpoint, "onetime"))
    missing = MANY - place.written()
    place.clear()
    async with running(words(place.conf, endpoint, "watch")):
        await until(lambda: place.written() == MANY)
        await asyncio.sleep(1)
        marks = [Put(b"/own/%d/1" % n, b"touched") for n in range(MANY)]
        begun = time.perf_counter()
        await store.txn(success=marks, repeatable=True)
        rest = [place.out / f"f{n}" for n in range(MANY)]

        def last() -> bool:
            while rest and holds(rest[-1], b"touched"):
                rest.pop()
            return not rest

        late = await until(last)
        late = time.perf_counter() - begun if late < LIMIT else late
    await store.txn(success=[Put(b"/own/%d/1" % n, b"v") for n in range(MANY)], repeatable=True)
    return {"own keys: one-time": took, "own keys: files missing": missing,
            "own keys: one transaction, last file": late}  # fmt: skip


async def shared_keys(words: Words, store: Client, place: Place, endpoint: str) -> dict[str, float]:
    took, _ = await onetime(words(place.conf, endpoint, "onetime"))
    missing = MANY - place.written()
    place.clear()
    begun = time.perf_counter()
    async with running(words(place.conf, endpoint, "watch")) as process:
        await until(lambda: place.written() == MANY)
        start = time.perf_counter() - begun
        missing = max(missing, MANY - place.written())
        await asyncio.sleep(2)
        one = []
        for number in range(10):
            text = b"one%d." % number
            begun = time.perf_counter()
            await store.put(b"/all/own/%d" % (number + 50), text)
            await until(lambda text=text, n=number: holds(place.out / f"f{n + 50}", text))
            one.append(time.perf_counter() - begun)
            await asyncio.sleep(0.3)
        begun = time.perf_counter()
        await store.put(b"/all/s/5000", b"everybody")
        rest = [place.out / f"f{n}" for n in range(MANY)]

        def last() -> bool:
            while rest and holds(rest[-1], b"everybody"):
                rest.pop()
            return not rest

        await until(last)
        everybody, lost = time.perf_counter() - begun, len(rest)
        memory = pss(process.pid)
    await store.put(b"/all/s/5000", b"v5000")
    return {
        "shared keys: one-time": took, "shared keys: watch start": start,
        "shared keys: files missing": missing, "shared keys: change that one reads": statistics.median(one),
        "shared keys: change that all read": everybody, "shared keys: files lost": lost,
        "shared keys: MiB": memory,
    }  # fmt: skip


NGINX = "".join(
    f"""server {{
  listen 80;
  server_name s{n}.example.org {{{{getv "/web/name/{n}" "none"}}}};
  {{{{if exists "/web/tls/{n}"}}}}listen 443 ssl;{{{{end}}}}
  location / {{ proxy_pass http://web; proxy_set_header Host $host; }}
}}
"""
    for n in range(32)
) + (
    'upstream web {\n{{range gets "/web/up/*"}}  server {{.Value}} weight={{len .Key}}; # {{base .Key}}\n'
    '{{end}}}\n{{range $i, $v := getvs "/web/up/*"}}{{if eq $i 0}}# first {{$v}}{{end}}{{end}}\n'
)


async def whole_program(words: Words, places: tuple[Place, Place], endpoint: str) -> float:
    """Return the processor milliseconds of one render."""
    once, often = [], []
    for _ in range(5):
        for place, times in zip(places, (once, often), strict=True):
            place.clear()
            times.append((await onetime(words(place.conf, endpoint, "onetime")))[1])
    return (min(often) - min(once)) / 40 * 1000


RENDERS = 200


class Pair(Struct):
    """What confd's `gets` gives (this file is named as the package and cannot import it)."""

    GO_TYPE = "memkv.KVPair"
    FIELDS = ("Key", "Value")

    def __init__(self, key: str, value: str) -> None:
        self.Key, self.Value = key, value


class Pairs(Slice):
    GO_TYPE = "memkv.KVPairs"
    ELEM = "memkv.KVPair"
    TEXT = frozenset(Pair.FIELDS)


def engine_alone(pairs: list[tuple[str, str]]) -> dict[str, float]:
    """Return processor milliseconds of one render by our engine and by Go's, same functions."""
    held = dict(pairs)
    up = Pairs(Pair(key, value) for key, value in pairs if key.startswith("/web/up/"))
    values = Strings(pair.Value for pair in up)
    known = {
        "base": Func(lambda key: key.rpartition("/")[2], (STRING,)),
        "exists": Func(held.__contains__, (STRING,)),
        "gets": Func(lambda pattern: up, (STRING,)),
        "getvs": Func(lambda pattern: values, (STRING,)),
        "getv": Func(held.get, (STRING, STRING)),
    }
    template = Template("t", NGINX, known)
    text = template.render()
    begun = time.process_time()
    for _ in range(RENDERS):
        template.render()
    ours = (time.process_time() - begun) / RENDERS * 1000
    found = {"engine alone: ms a render": ours}
    go = shutil.which("go")
    if go is None:
        print("the engine is not compared with Go's: go is not found")
        return found
    source = Path(__file__).with_name("go_template.go")
    asked = json.dumps({"template": NGINX, "runs": 5 * RENDERS, "pairs": pairs})
    said = subprocess.run(
        [go, "run", source], input=asked.encode(), capture_output=True, check=True
    )
    spent, digest = said.stdout.split()
    assert digest.decode() == hashlib.sha256(text.encode()).hexdigest(), "Go renders other bytes"
    return found | {"engine alone: Go's ms": int(spent) / 1e6, "engine alone: x Go": ours / int(spent) * 1e6}  # fmt: skip


async def main() -> int:
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as root:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = f"{root}/compiled"
        one = Place(Path(root), "one")
        one.add(0, '{{getv "/one/k"}}', "/one")
        own = Place(Path(root), "own")
        shared = Place(Path(root), "shared")
        for n in range(MANY):
            own.add(
                n,
                f'{{{{range gets "/own/{n}/*"}}}}{{{{.Key}}}}={{{{.Value}}}}\n{{{{end}}}}',
                f"/own/{n}",
            )
            shared.add(
                n,
                f'{{{{getv "/all/own/{n}"}}}}\n{{{{range gets "/all/s/*"}}}}{{{{.Key}}}} {{{{.Value}}}}\n{{{{end}}}}',
                "/all",
            )
        few, many = Place(Path(root), "few"), Place(Path(root), "many")
        body = '{{define "body"}}' + NGINX + "{{end}}"
        few.add(0, body + '{{template "body"}}', "/web")
        many.add(0, body + '{{range seq 1 41}}{{template "body"}}{{end}}', "/web")
        async with real_etcd() as etcd, connect(Options(endpoints=etcd.endpoints)) as store:
            pairs = [(f"/own/{n}/{k}", "v") for n in range(MANY) for k in range(MANY)]
            pairs += [(f"/all/own/{n}", "x") for n in range(MANY)]
            pairs += [(f"/all/s/{k}", f"v{k}") for k in range(10_000 - MANY)]
            pairs += [(f"/web/up/{k:04}", f"10.0.{k // 250}.{k % 250}:80") for k in range(968)]
            pairs += [(f"/web/name/{k}", f"n{k}.example.net") for k in range(32)]
            await put_many(store, pairs)
            endpoint = etcd.endpoints[0]
            await store.put(b"/one/k", b"start")
            await onetime(ours(one.conf, endpoint, "onetime"))  # compiles
            for name, words in programs().items():
                found = await one_key(words, store, one, endpoint)
                own.clear()
                found |= await own_keys(words, store, own, endpoint)
                shared.clear()
                found |= await shared_keys(words, store, shared, endpoint)
                spent = await whole_program(words, (few, many), endpoint)
                found["200 lines, 1,000 keys: ms a render"] = spent
                results[name] = found
    mine = results["ours"]
    mine |= engine_alone(pairs[-1000:])
    print(f"{'':40}" + "".join(f"{name:>12}" for name in results) + f"{'bar':>10}")
    for what in mine:
        row = "".join(f"{found.get(what, float('nan')):12.4f}" for found in results.values())
        print(f"{what:40}{row}{BARS.get(what, 0):10g}")
    missed = [what for what, bar in BARS.items() if what in mine and mine[what] > bar]
    for what in missed:
        print(f"BAR MISSED: {what}: {mine[what]:.4f} > {BARS[what]:g}")
    if len(results) < 3:
        print("not compared with every original: confd-go or confd-fork is not in $FAIRLEAD_PEERS")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

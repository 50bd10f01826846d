# SPDX-License-Identifier: Apache-2.0
"""`fairlead demo` as a user runs it: it succeeds, it ends when told, it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fairlead.demo import hosts

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(150)]
FAIRLEAD = str(Path(sys.prefix) / "bin" / "fairlead")
ROOT = Path(__file__).parents[3]

rooted = pytest.mark.skipif(hosts.unavailable() is not None, reason=str(hosts.unavailable()))


def machine() -> dict[str, str]:
    """Return what the demo must leave as it was."""
    commands = {
        "links": "ip -o link",
        "addresses": "ip -o addr | sed 's/ *valid_lft.*//'",
        "routes": "ip route show table all; ip -6 route show table all | sed 's/ expires .*//'",
        "rules": "ip rule; nft list ruleset",
        "settings": "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding",
        "files": "hostname; cat /etc/resolv.conf; ls -a /run /run/fairlead /run/flannel"
        " /var/lib /var/lib/fairlead /etc/netns /run/netns 2>&1",
        "mounts": "cut -d' ' -f1-3 /proc/self/mounts",
    }
    return {
        what: subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False).stdout
        for what, text in commands.items()
    }


MARKED = {**os.environ, "FAIRLEAD_TEST_MARK": f"demo-{os.getpid()}"}
"""The demos' environment: what they start is told by it from what other tests have running."""


def ours() -> set[str]:
    """Return what a demo makes in /tmp and which processes it has."""
    mark = MARKED["FAIRLEAD_TEST_MARK"].encode()
    left = {str(path) for path in Path("/tmp").glob("fairlead-demo-*")}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes():
                    left.add((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
    return left


@rooted
def test_every_check_holds_and_nothing_stays() -> None:
    before, there = machine(), ours()
    done = subprocess.run(
        [FAIRLEAD, "demo"], capture_output=True, text=True, check=False, env=MARKED
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"every check held: (\d+) of \1,", done.stdout)
    assert "FAIL" not in done.stdout
    assert machine() == before
    assert ours() <= there


@rooted
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ended_halfway_it_leaves_nothing(how: signal.Signals) -> None:
    before, there = machine(), ours()
    with subprocess.Popen(
        [FAIRLEAD, "demo"], stdout=subprocess.PIPE, text=True, env=MARKED
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "fairlead register: three web servers" in line:
                break
        demo.send_signal(how)
        rest = demo.stdout.read()  # to its end: until the last process of the demo is gone
        status = demo.wait()
    assert status == (-how if how is signal.SIGKILL else 130), rest
    if how is not signal.SIGKILL:
        assert "everything is removed" in rest
    for _ in range(100):
        if ours() <= there:
            break
        time.sleep(0.05)
    assert ours() <= there
    assert machine() == before


@rooted
def test_kept_it_can_be_looked_at() -> None:
    """`fairlead status` beside `fairlead demo --keep`: all daemons, all ready."""
    there = ours()
    with subprocess.Popen(
        [FAIRLEAD, "demo", "--keep"], stdout=subprocess.PIPE, text=True, env=MARKED
    ) as demo:
        assert demo.stdout is not None
        commands = []
        for line in demo.stdout:
            if line.startswith("  ") and not line.startswith("   "):
                commands.append(line.strip())
            if line.startswith("Ctrl-C"):
                break
        shown = {}
        try:
            for command in commands:
                if "watch" in command:
                    continue  # runs until interrupted
                shown[command] = subprocess.run(
                    ["bash", "-c", command],
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=20,
                    env={**os.environ, "PATH": f"{Path(FAIRLEAD).parent}:{os.environ['PATH']}"},
                )
        finally:
            demo.send_signal(signal.SIGINT)
            demo.stdout.read()
            assert demo.wait() == 0
    assert len(shown) > 4
    for command, done in shown.items():
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    (status,) = (done.stdout for command, done in shown.items() if "fairlead status" in command)
    daemons = ["confd-b", "flanneld-a", "flanneld-b", "flanneld-c", "skydns-a", "vulcand-a"]
    assert [line.split()[0] for line in status.splitlines()[1:]] == daemons
    assert ours() <= there


WITHOUT = {
    "a user without rights": ["unshare", "--user", "--"],
    "root in a container": ["setpriv", "--bounding-set=-sys_admin", "--"],
}


@pytest.mark.parametrize("who", WITHOUT)
def test_without_namespaces_it_says_what_it_left_out(who: str) -> None:
    """Loopback only; run as root, another user is made by taking the rights away."""
    less = WITHOUT[who] if os.geteuid() == 0 else []
    there = ours()
    done = subprocess.run([*less, FAIRLEAD, "demo"], capture_output=True, text=True, check=False)
    if "unshare failed" in done.stderr:
        pytest.skip("no user namespaces here")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left out the overlay" in done.stdout
    assert "every check held" in done.stdout
    assert ours() <= there


def test_the_report_in_the_docs_is_one_of_this_demo() -> None:
    """docs/demo.md holds a report as printed: the same checks, all held."""
    page = (ROOT / "docs" / "demo.md").read_text()
    story = (ROOT / "fairlead" / "demo" / "story.py").read_text()
    names = set(re.findall(r'report\.check\(\s*"([^"]+)"', story))
    assert set(re.findall(r"^ok   (.*) \([\d.]+ s\)$", page, re.MULTILINE)) == names
    assert "FAIL" not in page

"""The CNI plugin as a runtime calls it, with a delegate that writes down what it gets (§14)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

DELEGATE = """\
#!/bin/sh
echo "$CNI_COMMAND $CNI_IFNAME $(cat)" >>"$SEEN"
[ -z "$FAIL" ] || { echo '{"code":101,"msg":"no bridge today"}'; exit 3; }
[ "$CNI_COMMAND" != ADD ] || echo '{"cniVersion":"1.0.0","ips":[]}'
"""


class Runtime:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.seen = folder / "seen"
        self.subnet = folder / "subnet.env"
        self.subnet.write_text(
            "FLANNEL_NETWORK=10.7.0.0/16\nFLANNEL_SUBNET=10.7.21.1/24\n"
            "FLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
        )
        plugin = folder / "bin" / "bridge"
        plugin.parent.mkdir()
        plugin.write_text(DELEGATE)
        plugin.chmod(0o755)

    def call(
        self,
        command: str,
        interface: str = "eth0",
        more: dict[str, object] | None = None,
        **environ: str,
    ) -> subprocess.CompletedProcess[str]:
        config = {"name": "net7", "type": "flannel", "cniVersion": "1.0.0", **(more or {})}
        config |= {"subnetFile": str(self.subnet), "dataDir": str(self.data)}
        return subprocess.run(
            [sys.executable, "-m", "flannelpy.cni"],
            input=json.dumps(config),
            env={
                **os.environ,
                "CNI_COMMAND": command,
                "CNI_CONTAINERID": "c1",
                "CNI_IFNAME": interface,
                "CNI_PATH": f"/nonexistent:{self.folder / 'bin'}",
                "SEEN": str(self.seen),
                **environ,
            },
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def calls(self) -> list[str]:
        return self.seen.read_text().splitlines() if self.seen.exists() else []


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path)


def test_add_saves_prints_and_delegates(runtime: Runtime) -> None:
    done = runtime.call("ADD")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"cniVersion": "1.0.0", "ips": []}
    (saved,) = runtime.data.iterdir()
    assert saved.stat().st_mode & 0o777 == 0o600
    assert runtime.data.stat().st_mode & 0o777 == 0o700
    assert done.stderr.strip() == saved.read_text()
    assert runtime.calls() == [f"ADD eth0 {saved.read_text()}"]


def test_del_uses_what_was_saved_and_forgets_it(runtime: Runtime) -> None:
    runtime.call("ADD")
    runtime.subnet.unlink()  # flanneld may have moved on: DEL must undo what ADD did
    assert runtime.call("DEL").returncode == 0
    assert [line.split()[0] for line in runtime.calls()] == ["ADD", "DEL"]
    assert runtime.calls()[0].split()[2] == runtime.calls()[1].split()[2]
    assert list(runtime.data.iterdir()) == []


def test_del_without_anything_saved_succeeds(runtime: Runtime) -> None:
    assert runtime.call("DEL").returncode == 0
    assert runtime.calls() == []


def test_del_with_a_damaged_file_succeeds_and_says_so(runtime: Runtime) -> None:
    runtime.data.mkdir()
    (runtime.data / "c1@eth0").write_text("{")
    done = runtime.call("DEL")
    assert done.returncode == 0
    assert "damaged" in done.stderr


def test_del_reads_the_name_the_original_saved_under(runtime: Runtime) -> None:
    runtime.data.mkdir()
    (runtime.data / "c1").write_text('{"type":"bridge","name":"net7"}')
    assert runtime.call("DEL").returncode == 0
    assert runtime.calls() == ['DEL eth0 {"type":"bridge","name":"net7"}']
    assert list(runtime.data.iterdir()) == []


def test_two_networks_of_one_container_do_not_collide(runtime: Runtime) -> None:
    runtime.call("ADD", "eth0")
    runtime.call("ADD", "eth1")
    assert runtime.call("DEL", "eth0").returncode == 0
    assert [file.name for file in runtime.data.iterdir()] == ["c1@eth1"]


def test_a_failed_add_leaves_nothing_and_passes_the_delegates_error_on(runtime: Runtime) -> None:
    done = runtime.call("ADD", FAIL="1")
    assert done.returncode == 1
    error = json.loads(done.stdout)
    assert (error["cniVersion"], error["code"]) == ("1.0.0", 101)
    assert "bridge: no bridge today" in error["msg"]
    assert list(runtime.data.iterdir()) == []


def test_a_failed_del_keeps_what_was_saved_for_the_next_try(runtime: Runtime) -> None:
    runtime.call("ADD")
    assert runtime.call("DEL", FAIL="1").returncode == 1
    assert [file.name for file in runtime.data.iterdir()] == ["c1@eth0"]


def test_check_is_delegated(runtime: Runtime) -> None:
    assert runtime.call("CHECK").returncode == 1
    runtime.call("ADD")
    assert runtime.call("CHECK").returncode == 0
    assert runtime.calls()[-1].startswith("CHECK eth0 ")


def test_status_says_whether_a_container_can_be_added(runtime: Runtime) -> None:
    assert runtime.call("STATUS").returncode == 0
    assert runtime.calls() == []  # a delegate may be too old to be asked
    error = json.loads(runtime.call("STATUS", CNI_PATH="/nonexistent").stdout)
    assert error["code"] == 50
    runtime.subnet.unlink()
    error = json.loads(runtime.call("STATUS").stdout)
    assert (error["code"], "flanneld" in error["details"]) == (50, True)


def test_gc_takes_away_what_no_container_has_any_more(runtime: Runtime) -> None:
    for container, interface in (("c1", "eth0"), ("c1", "eth1"), ("c2", "eth0")):
        runtime.call("ADD", interface, CNI_CONTAINERID=container)
    (runtime.data / "c3@eth0").write_text('{"type":"bridge","name":"another"}')
    (runtime.data / "c4@eth0").write_text("{")
    valid: dict[str, object] = {
        "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth1"}]
    }
    assert runtime.call("GC", more=valid, FAIL="1").returncode == 1
    assert len(list(runtime.data.iterdir())) == 5
    assert runtime.call("GC", more=valid).returncode == 0
    assert {file.name for file in runtime.data.iterdir()} == {"c1@eth1", "c3@eth0", "c4@eth0"}
    assert [line.split()[:2] for line in runtime.calls()[-2:]] == [["DEL", "eth0"]] * 2
    assert json.loads(runtime.call("GC").stdout)["code"] == 7


def test_no_subnet_file_points_to_flanneld(runtime: Runtime) -> None:
    runtime.subnet.unlink()
    error = json.loads(runtime.call("ADD").stdout)
    assert error["code"] == 11
    assert "flanneld" in error["details"]


def test_a_delegate_that_is_not_there_is_named(runtime: Runtime) -> None:
    error = json.loads(runtime.call("ADD", CNI_PATH="/nonexistent").stdout)
    assert 'no plugin "bridge" in CNI_PATH "/nonexistent"' in error["msg"]

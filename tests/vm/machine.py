# SPDX-License-Identifier: Apache-2.0
"""User-Mode Linux machines on this host's file tree, on a bridge of a namespace of their own.

A machine's kernel is Debian's user-mode-linux, a process like any other: it boots in two seconds
into a script that ends by switching it off. What the script writes is the machine's output.
For what that kernel lacks there may be one in $FAIRLEAD_PEERS with it built in (FULL).
"""

import os
import shutil
from pathlib import Path

KERNEL = shutil.which("linux.uml")
FULL = shutil.which("linux.uml", path=os.environ.get("FAIRLEAD_PEERS", "/nowhere"))
"""One with wireguard, ipip, vxlan and nf_tables; no modules need loading."""
_HEAD = """\
#!/bin/sh
export PATH={path} HOME=/root
mount -t proc none /proc; mount -t sysfs none /sys
for dir in /run /var/lib /tmp; do mount -t tmpfs none "$dir"; done
mount -t devtmpfs none /dev 2>/dev/null
hostname {name}
modules=/usr/lib/uml/modules/$(uname -r)/kernel
for module in {modules}; do busybox insmod "$modules/$module.ko"; done
echo 1 >/proc/sys/net/ipv4/ip_forward
ip link set lo up
ip addr add {address}/24 dev vec0
ip link set vec0 up
ip route add default via 192.0.2.1
cd {here}
"""
_TAIL = """
echo o >/proc/sysrq-trigger
sleep 10
"""


def unavailable(kernel=KERNEL):
    """Return why there can be no machines with this kernel here, or None."""
    if kernel is None:
        return "no such user-mode-linux: neither installed nor in FAIRLEAD_PEERS"
    if kernel == KERNEL and " amx_tile " in Path("/proc/cpuinfo").read_text():
        return "Debian's user-mode-linux keeps 2,696 bytes of registers, AMX has more"
    if shutil.which("busybox") is None:
        return "busybox is not installed (for insmod)"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun"
    return None


async def boot(site, name, number, script, *, kernel=KERNEL, modules=()):
    """Boot a machine 192.0.2.<number> that runs `script` to its end; return it as a program."""
    root, tap = site.root, f"tap{number}"
    await root.ip(f"tuntap add {tap} mode tap", f"link set {tap} master underlay up")
    init = site.logs / f"init-{name}"
    head = _HEAD.format(
        path="/usr/sbin:/usr/bin:/sbin:/bin", name=name, modules=" ".join(modules),
        address=f"192.0.2.{number}", here=Path.cwd(),
    )  # fmt: skip
    init.write_text(head + script + _TAIL)
    init.chmod(0o755)
    return await root.start(
        kernel, "mem=384M", "rootfstype=hostfs", "rootflags=/", "ro", f"init={init}", "quiet",
        "con=null", "con0=null,fd:1", f"vec0:transport=tap,ifname={tap},depth=128",
        f"umid={name}", f"uml_dir={site.logs}/", name=name,
    )  # fmt: skip

# SPDX-License-Identifier: Apache-2.0
"""The demo's cluster: which program runs where, with which flags.

Two layouts of the same programs: with root on hosts that are namespaces (`fairlead.demo.hosts`),
without root all on loopback addresses of this machine, without the overlay.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from pathlib import Path

from fairlead.demo.hosts import Container, Host, HostError, Namespace, Program, Site, which
from fairlead.demo.user import Place

HOSTS = ("a", "b", "c")
DOMAIN = "example.org"
NAME = f"web.{DOMAIN}"
SUBNETS = "/coreos.com/network/subnets"
NETWORK = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"},"EnableNFTables":true}'
WEB_PORT = 8000
LEASE_SECONDS = 5  # a web server's; short, so that a lost host is seen soon

NGINX_TEMPLATE = """\
worker_processes 1;
error_log stderr warn;
pid {work}/nginx.pid;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {work}/nginx-body;
  proxy_temp_path {work}/nginx-proxy;
  fastcgi_temp_path {work}/nginx-fastcgi;
  uwsgi_temp_path {work}/nginx-uwsgi;
  scgi_temp_path {work}/nginx-scgi;
  upstream web {{
{{{{- range getvs "/services/web/*"}}}}
    server {{{{.}}}};
{{{{- else}}}}
    server 127.0.0.1:9;
{{{{- end}}}}
  }}
  server {{
    listen {listen};
    location / {{ proxy_pass http://web; }}
  }}
}}
"""
NGINX_RESOURCE = """\
[template]
src = "nginx.conf.tmpl"
dest = "{work}/nginx.conf"
keys = ["/services/web"]
check_cmd = "{nginx} -t -q -e stderr -p {work} -c {{{{.src}}}}"
reload_cmd = "{nginx} -s reload -e stderr -p {work} -c {work}/nginx.conf"
"""


class Here(Namespace):
    """This machine as it is: programs run in the namespaces we are in."""

    def enter(self, *argv: str) -> tuple[str, ...]:
        """Run it here; it still ends when we do."""
        return ("setpriv", "--pdeathsig=KILL", "--", *argv)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything listens."""

    etcd: Place
    dns: Place
    lb: Place
    api: Place
    nginx: Place

    @property
    def etcd_url(self) -> str:
        """The etcd endpoint."""
        return f"http://{self.etcd}"

    @property
    def api_url(self) -> str:
        """The API of vulcand, for vctl."""
        return f"http://{self.api}"


ROOTED = Layout(
    etcd=Place("192.0.2.1", 2379),
    dns=Place("192.0.2.11", 53),
    lb=Place("192.0.2.11", 80),
    api=Place("192.0.2.11", 8182),
    nginx=Place("192.0.2.12", 80),
)


def loopback() -> Layout:
    """Return a layout on one loopback address that is probably nobody else's."""
    draw = random.SystemRandom()
    host = f"127.{draw.randint(16, 250)}.{draw.randint(1, 250)}.1"
    return Layout(
        etcd=Place(host, 2379),
        dns=Place(host, 5353),
        lb=Place(host, 8181),
        api=Place(host, 8182),
        nginx=Place(host, 8080),
    )


@dataclass(slots=True)
class Web:
    """One web server and what announces it.

    Attributes:
        host: where `fairlead register` runs, as it would with `podman run` as its command.
        box: the container that the server runs in; without containers the same as `host`.
        at: where it listens.
        register: `fairlead register` with the server below it.
    """

    name: str
    host: Namespace
    box: Namespace
    at: Place
    register: Program | None = None

    def server_pid(self) -> int:
        """Return the pid of the server itself, the child of `fairlead register`."""
        if self.register is None:
            raise HostError(f"{self.name} is not started")
        pid = self.register.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if len(children) != 1:
            raise HostError(f"{self.name}: register has {len(children)} children, not 1")
        return int(children[0])


@dataclass(slots=True)
class Cluster:
    """The programs of the demo.

    Attributes:
        site: the hosts; None without root.
        root: where etcd runs and the user sits.
        work: a directory of this run, seen from everywhere.
    """

    layout: Layout
    root: Namespace
    work: Path
    site: Site | None = None
    etcd: Program | None = None
    flanneld: dict[str, Program] = field(default_factory=dict)
    webs: dict[str, Web] = field(default_factory=dict)

    @property
    def sockets(self) -> Path:
        """The directory of the admin sockets."""
        return self.work / "fairlead"

    def host(self, name: str) -> Host:
        """Return a host; only with root."""
        if self.site is None:
            raise HostError("there are no hosts without root")
        return self.site[name]

    def place(self, name: str) -> Namespace:
        """Return where a program of host `name` runs."""
        return self.root if self.site is None else self.site[name]

    async def daemon(self, where: str, program: str, *flags: str) -> Program:
        """Start one of our daemons on host `where`."""
        state = self.work / f"{where}-{program}"
        return await self.place(where).start(
            which(program) or program,
            f"-admin-socket={self.sockets}/{program}-{where}.sock",
            f"-state-dir={state}",
            *flags,
            name=program,
        )

    async def start_etcd(self) -> Program:
        """Start the embedded store in the root; a second time on the same data."""
        self.etcd = await self.root.start(
            which("fairlead") or "fairlead",
            "etcd",
            f"-listen-client-urls={self.layout.etcd_url}",
            f"-data-dir={self.work}/etcd",
            "-insecure",  # the underlay is ours alone
            name="etcd",
        )
        return self.etcd

    async def start_flanneld(self, name: str) -> Program:
        """Start the overlay's agent on a host."""
        program = await self.daemon(
            name,
            "flanneld",
            f"-etcd-endpoints={self.layout.etcd_url}",
            "-iface=eth0",
            f"-subnet-file={self.subnet_file(name)}",
        )
        self.flanneld[name] = program
        return program

    def subnet_file(self, name: str) -> Path:
        """Where flanneld of host `name` writes its subnet."""
        return self.work / f"{name}-subnet.env"

    def subnet(self, name: str) -> tuple[IPv4Interface, int]:
        """Return a host's leased subnet with its first address, and the MTU.

        Raises:
            HostError: the file is not complete.
        """
        text = self.subnet_file(name).read_text()
        values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        try:
            return IPv4Interface(values["FLANNEL_SUBNET"]), int(values["FLANNEL_MTU"])
        except (KeyError, ValueError) as error:
            raise HostError(f'"{self.subnet_file(name)}": {error!r}') from error

    async def container(self, host: str, name: str) -> Container:
        """Make a container on a host's leased subnet that asks our DNS."""
        if self.site is None:
            raise HostError("there are no containers without root")
        subnet, mtu = self.subnet(host)
        resolver = (
            f"nameserver {self.layout.dns.host}\nsearch {DOMAIN}\noptions timeout:1 attempts:2\n"
        )
        return await self.site.container(self.site[host], name, subnet, mtu=mtu, resolver=resolver)

    def web(self, host: str, box: Namespace, address: str) -> Web:
        """Say where the web server of a host will run."""
        name = f"web-{host}"
        made = self.webs[name] = Web(name, self.place(host), box, Place(address, WEB_PORT))
        return made

    async def start_web(self, web: Web) -> None:
        """Start a web server and register it."""
        web.register = await web.host.start(
            which("fairlead") or "fairlead",
            "register",
            f"--endpoints={self.layout.etcd_url}",
            *(f"--id={web.name}", f"--address={web.at.host}", f"--port={web.at.port}"),
            *(f"--dns={NAME}", "--dns-ttl=1", "--backend=web"),
            "--put=/services/web/${id}=${address}:${port}",
            *("--check=http:/", "--check-interval=1s", f"--ttl={LEASE_SECONDS}s", "--drain=200ms"),
            "--",
            *self.server(web),
            name=f"register-{web.name}",
        )

    def server(self, web: Web) -> tuple[str, ...]:
        """Return the command of the web server itself."""
        python = (sys.executable, "-m", "fairlead.demo.web")
        return web.box.enter(*python, web.name, web.at.host, str(web.at.port))

    async def start_skydns(self) -> Program:
        """Start DNS on host a."""
        return await self.daemon(
            "a",
            "skydns",
            f"-machines={self.layout.etcd_url}",
            f"-addr={self.layout.dns}",
            f"-domain={DOMAIN}.",
        )

    async def start_vulcand(self) -> Program:
        """Start the load balancer on host a."""
        layout = self.layout
        return await self.daemon(
            "a",
            "vulcand",
            f"-etcd={layout.etcd_url}",
            "-etcdKey=/vulcand",
            *(f"-interface={layout.lb.host}", f"-port={layout.lb.port}"),
            *(f"-apiInterface={layout.api.host}", f"-apiPort={layout.api.port}"),
        )

    async def vctl(self, *argv: str) -> str:
        """Run vctl as an operator on host a would."""
        return await self.place("a").run(
            which("vctl") or "vctl", f"--vulcan={self.layout.api_url}", *argv
        )

    @property
    def nginx_file(self) -> Path:
        """The file that confd writes."""
        return self.work / "nginx.conf"

    async def start_confd(self) -> Program:
        """Write confd's template and start it on host b, watching."""
        confdir = self.work / "confd"
        for part in ("conf.d", "templates"):
            (confdir / part).mkdir(parents=True)
        words = {"work": self.work, "listen": self.layout.nginx, "nginx": which("nginx")}
        (confdir / "templates/nginx.conf.tmpl").write_text(NGINX_TEMPLATE.format(**words))
        (confdir / "conf.d/nginx.toml").write_text(NGINX_RESOURCE.format(**words))
        return await self.daemon(
            "b",
            "confd",
            *("-backend=etcdv3", f"-node={self.layout.etcd_url}", f"-confdir={confdir}", "-watch"),
        )

    async def start_nginx(self) -> Program:
        """Start a real nginx on host b with the file that confd wrote."""
        return await self.place("b").start(
            which("nginx") or "nginx",
            *("-e", "stderr", "-p", str(self.work), "-c", str(self.nginx_file)),
            *("-g", "daemon off;"),
            name="nginx",
        )


@contextlib.asynccontextmanager
async def rooted() -> AsyncIterator[Cluster]:
    """Make three hosts below the namespaces we are in, which are ours alone."""
    async with Site(*HOSTS, here=True) as site:
        cluster = Cluster(ROOTED, site.root, site.logs, site)
        cluster.sockets.mkdir()
        yield cluster


@contextlib.asynccontextmanager
async def unrooted() -> AsyncIterator[Cluster]:
    """Use this machine's loopback; ends what was started."""
    async with AsyncExitStack() as stack:
        work = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="fairlead-demo-", dir="/tmp"))
        )
        here = Here("loopback", 0, work)
        cluster = Cluster(loopback(), here, work)
        cluster.sockets.mkdir()
        stack.push_async_callback(here.stop)
        yield cluster


async def settle(*programs: Program) -> None:
    """Raise when one of the programs has ended by itself."""
    await asyncio.sleep(0)
    for program in programs:
        if program.status is not None:
            raise HostError(f"{program.name} ended with {program.status}:\n{program.tail()}")


def absent(*programs: str) -> list[str]:
    """Return which of the programs are not installed."""
    return [name for name in programs if which(name) is None and shutil.which(name) is None]

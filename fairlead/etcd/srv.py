# SPDX-License-Identifier: Apache-2.0
"""Endpoints from DNS: SRV records as etcd's own client reads them (specs/etcd.md §5.1)."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from pathlib import Path

from dnslib import QTYPE, RCODE, DNSError, DNSRecord

from fairlead.etcd.errors import NotSent
from fairlead.etcd.options import Endpoint, Options

RESOLV_CONF = Path("/etc/resolv.conf")


async def discover(options: Options) -> tuple[Endpoint, ...]:
    """Return the endpoints that the SRV records of `options.dns_srv` name; TLS ones first.

    Raises:
        NotSent: no record, or no name server answered; the next try may find some.
    """
    suffix = f"-{options.dns_srv_name}" if options.dns_srv_name else ""
    found: list[Endpoint] = []
    failures = []
    for service, scheme in (
        (f"_etcd-client-ssl{suffix}", "https"),
        (f"_etcd-client{suffix}", "http"),
    ):
        name = f"{service}._tcp.{options.dns_srv}"
        try:
            records = await _query(name, options.connect_timeout)
        except NotSent as error:
            failures.append(str(error))
        else:
            found += [Endpoint(scheme, host, port) for host, port in records]
    if not found:
        raise NotSent(f"dns-srv {options.dns_srv}: {'; '.join(failures) or 'no SRV record'}")
    return tuple(dict.fromkeys(found))


def servers(text: str) -> tuple[tuple[str, int], ...]:
    """Return the name servers of a resolv.conf; the local one where it names none."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                ipaddress.ip_address(words[1].partition("%")[0])
            except ValueError:
                continue
            found.append((words[1], 53))
    return tuple(found) or (("127.0.0.1", 53),)


def _configured() -> tuple[tuple[str, int], ...]:
    try:
        return servers(RESOLV_CONF.read_text())
    except OSError:
        return servers("")


async def _query(name: str, timeout: float) -> list[tuple[str, int]]:
    """Ask each name server in turn; return (host, port) by priority."""
    reason = "no name server"
    for host, port in _configured():
        question = DNSRecord.question(name, "SRV")
        question.header.id = secrets.randbelow(1 << 16)
        try:
            async with asyncio.timeout(timeout):
                answer = await _exchange(question, host, port)
        except (TimeoutError, OSError, DNSError) as error:
            reason = f"name server {host}: {error or 'no answer'}"
            continue
        if answer.header.rcode not in {RCODE.NOERROR, RCODE.NXDOMAIN}:
            reason = f"name server {host}: {RCODE.get(answer.header.rcode)}"
            continue
        records = [r.rdata for r in answer.rr if r.rtype == QTYPE.SRV]
        records.sort(key=lambda srv: (srv.priority, -srv.weight))
        return [(str(srv.target).rstrip("."), srv.port) for srv in records]
    raise NotSent(f"{name}: {reason}")


async def _exchange(question: DNSRecord, host: str, port: int) -> DNSRecord:
    """Ask over TCP, so that an answer of any size comes whole."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        body = question.pack()
        writer.write(len(body).to_bytes(2, "big") + body)
        size = int.from_bytes(await reader.readexactly(2), "big")
        answer = DNSRecord.parse(await reader.readexactly(size))
    except asyncio.IncompleteReadError as error:
        raise OSError("closed before it answered") from error
    finally:
        writer.close()
    if answer.header.id != question.header.id:
        raise OSError("answer to another question")
    return answer

# SPDX-License-Identifier: Apache-2.0
"""NOTIFY: who does not answer holds up nobody (RFC 1996)."""

import asyncio
import socket

import dns.message

from skydns import keys
from skydns.addresses import Peers, Server
from skydns.compiled import Answers
from skydns.notify import Notifier
from skydns.policy import Policy
from skydns.state import Served

(ZONE,) = keys.zones("z.test")


class Secondary(asyncio.DatagramProtocol):
    """Answers every NOTIFY, and remembers the serials."""

    def __init__(self):
        self.serials = asyncio.Queue()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.serials.put_nowait(dns.message.from_wire(data).answer[0][0].serial)
        self.transport.sendto(data[:2] + b"\xa4" + data[3:], addr)


async def test_a_dead_secondary_holds_up_neither_others_nor_the_next_change():
    loop = asyncio.get_running_loop()
    transport, secondary = await loop.create_datagram_endpoint(
        Secondary, local_addr=("127.0.0.1", 0)
    )
    live = transport.get_extra_info("sockname")[1]
    answers = Answers(Served(), Policy(frozenset((ZONE,))), lambda: 0.0)
    answers.loaded = True
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dead:
        dead.bind(("127.0.0.1", 0))
        told = tuple(Server("127.0.0.1", port) for port in (dead.getsockname()[1], live))
        notifier = Notifier(answers, Peers(notified=told), every=0.02)
        running = asyncio.create_task(notifier.run())
        await asyncio.sleep(0)  # the first look tells nobody
        async with asyncio.timeout(5):
            for serial in (7, 8, 9):
                answers.served.serials[ZONE] = serial
                answers.touch([ZONE])
                assert await secondary.serials.get() == serial
        running.cancel()
    transport.close()
    assert notifier.failed == 0  # given up for a newer serial, not failed

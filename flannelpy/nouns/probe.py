# SPDX-License-Identifier: Apache-2.0
"""Probes: an echo of a given size that must not be fragmented, a datagram that must be refused."""

from __future__ import annotations

import os
import secrets
import socket
import struct
import time
from ipaddress import IPv4Address

_SECONDS = 0.7
_TRIES = 2
_HEADERS = 28  # IPv4 20 + ICMP 8
_IP_MTU_DISCOVER, _PMTUDISC_PROBE = 10, 3  # DF set, and the kernel's own idea of the MTU ignored
_CLOSED_PORT = 33433  # below traceroute's; nobody listens there


def echo(source: IPv4Address, target: IPv4Address, size: int) -> bool:
    """Say whether `target` answers an echo request of `size` bytes, IP header counted.

    Raises:
        PermissionError: raw sockets are not allowed.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.bind((str(source), 0))
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
        mark = secrets.token_bytes(4)
        body = mark + bytes(size - _HEADERS - 4)
        for number in range(_TRIES):
            request = _request(os.getpid() & 0xFFFF, number, body)
            try:
                sock.sendto(request, (str(target), 0))
            except PermissionError:
                raise
            except OSError:
                return False  # larger than the device takes, or no route
            if _answered(sock, target, mark):
                return True
    return False


def _request(identity: int, number: int, body: bytes) -> bytes:
    head = struct.pack("!BBHHH", 8, 0, 0, identity, number)
    total = sum(struct.unpack(f"!{len(head + body) // 2}H", (head + body)[: len(head + body) & ~1]))
    total += (head + body)[-1] << 8 if len(body) % 2 else 0
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBHHH", 8, 0, ~total & 0xFFFF, identity, number) + body


def _answered(sock: socket.socket, target: IPv4Address, mark: bytes) -> bool:
    until = time.monotonic() + _SECONDS
    while (left := until - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            packet, (sender, _) = sock.recvfrom(65536)
        except TimeoutError:
            return False
        start = (packet[0] & 15) * 4
        if sender == str(target) and packet[start] == 0 and packet[start + 8 : start + 12] == mark:
            return True
    return False


def refused(source: IPv4Address, target: IPv4Address) -> bool:
    """Say whether a datagram to a closed port comes back as "port unreachable".

    Echo requests carry a checksum made in software; this one is left to the device, and a
    receiver drops it without a word when the device makes it wrong.
    """
    for _ in range(_TRIES):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((str(source), 0))
            sock.settimeout(_SECONDS)
            try:
                sock.connect((str(target), _CLOSED_PORT))
                sock.send(b"fairlead net doctor")
                sock.recv(64)
            except ConnectionRefusedError:
                return True
            except OSError:
                continue
            return True
    return False

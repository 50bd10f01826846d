# SPDX-License-Identifier: Apache-2.0
"""Is a service fit to be announced? Checks by TCP, HTTP and command, and what their results mean.

`parse` and `Health` are pure; `probe` does the IO. A check says yes by a TCP connection, an HTTP
status of 200 to 399, or a command's exit status 0, each within the timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from fairlead.errors import FairleadError

START_INTERVAL = 0.1  # seconds between tries until the first success (specs/registration.md §9)
CONSECUTIVE = 2  # equal results that turn the verdict, after the first success (ibid.)


class CheckError(FairleadError):
    """A check failed; the text says how."""

    transient = True


class Kind(Enum):
    """How a check asks."""

    NONE = "none"
    TCP = "tcp"
    HTTP = "http"
    HTTPS = "https"
    EXEC = "exec"


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        target: the path (HTTP) or the shell command (EXEC).
        host: where to connect; for EXEC what the command finds in SERVICE_IP.
        port: where to connect; for EXEC what the command finds in SERVICE_PORT.
    """

    kind: Kind
    host: str
    port: int
    target: str = ""


def parse(text: str, host: str, port: int) -> Check:
    """Return the check that `text` describes.

    Args:
        text: "none", "tcp", "tcp:PORT", "http:/PATH", "https:/PATH",
            "http[s]://HOST[:PORT]/PATH" or "exec:COMMAND".
        host: the service's address.
        port: the service's port; 0 for none.

    Raises:
        ValueError: it is none of these, or needs a port and there is none.
    """
    word, colon, rest = text.partition(":")
    try:
        kind = Kind(word)
    except ValueError:
        raise ValueError(
            f'check "{text}" is not known; give none, tcp[:PORT], http[s]:/PATH or exec:COMMAND'
        ) from None
    if kind is Kind.NONE and not colon:
        return Check(kind, host, port)
    if kind is Kind.EXEC and rest:
        return Check(kind, host, port, rest)
    target = ""
    if kind is Kind.TCP and colon:
        if not (rest.isascii() and rest.isdigit() and 0 < int(rest) < 65536):
            raise ValueError(f'check "{text}": "{rest}" is not a port')
        port = int(rest)
    elif kind in (Kind.HTTP, Kind.HTTPS):
        if rest.startswith("//"):
            url = urlsplit(text)
            host = url.hostname or host
            port = url.port or (443 if kind is Kind.HTTPS else 80)
            target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        elif rest.startswith("/"):
            target = rest
        else:
            raise ValueError(f'check "{text}" needs a path: {word}:/healthz')
        if any(ord(char) <= 32 or ord(char) == 127 for char in target):
            raise ValueError(f'check "{text}": a blank in the path; write %20')
    elif kind is not Kind.TCP:
        raise ValueError(f'check "{text}" is not complete; give exec:COMMAND')
    if not port:
        raise ValueError(f'check "{text}" needs a port: give --port')
    return Check(kind, host, port, target)


@dataclass(slots=True)
class Health:
    """What the results so far mean: the first success counts at once, then two equal ones do."""

    passing: bool = False
    began: bool = False
    against: int = 0

    def feed(self, success: bool) -> bool:
        """Take one result; return whether the verdict turned."""
        if not self.began:
            self.began = self.passing = success
            return success
        if success == self.passing:
            self.against = 0
            return False
        self.against += 1
        if self.against < CONSECUTIVE:
            return False
        self.passing, self.against = success, 0
        return True


async def probe(check: Check, timeout: float) -> None:
    """Run the check once.

    Raises:
        CheckError: it did not succeed within `timeout` seconds.
    """
    try:
        async with asyncio.timeout(timeout):
            if check.kind is Kind.EXEC:
                await _run(check)
            elif check.kind is Kind.TCP:
                _, writer = await asyncio.open_connection(check.host, check.port)
                await _close(writer)
            elif check.kind is not Kind.NONE:
                await _fetch(check)
    except TimeoutError as error:
        raise CheckError(f"no answer after {timeout:g} s") from error
    except OSError as error:
        raise CheckError(error.strerror or str(error)) from error


async def _fetch(check: Check) -> None:
    context = None
    if check.kind is Kind.HTTPS:
        # A check asks "does it answer", on an address that certificates seldom name.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(check.host, check.port, ssl=context)
    try:
        host = f"[{check.host}]" if ":" in check.host else check.host
        writer.write(
            f"GET {check.target} HTTP/1.1\r\nHost: {host}:{check.port}\r\n"
            "User-Agent: fairlead-check\r\nConnection: close\r\n\r\n".encode()
        )
        try:
            line = await reader.readline()
        except ValueError as error:
            raise CheckError("the answer is not HTTP") from error
    finally:
        await _close(writer)
    words = line.split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise CheckError("the answer is not HTTP" if line else "connection closed unanswered")
    if not 200 <= int(words[1]) < 400:
        raise CheckError(f"status {int(words[1])}")


async def _run(check: Check) -> None:
    process = await asyncio.create_subprocess_shell(
        check.target,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "SERVICE_IP": check.host, "SERVICE_PORT": str(check.port)},
        start_new_session=True,
    )
    try:
        status = await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it left running, or itself when late
        await process.wait()
    if status != 0:
        raise CheckError(f"exit status {status}")


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()

# SPDX-License-Identifier: Apache-2.0
"""An order from account to certificate (RFC 8555 §7), over HTTPS.

::

    directory ─► newAccount ─► newOrder ─► authorizations ─► a challenge each ─► finalize(CSR) ─► certificate
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from fairlead.errors import FairleadError
from lb.acme.jws import AccountKey, b64

JSON = dict[str, Any]
Publish = Callable[[str, str], Awaitable[None]]
"""Puts a token's key authorization where the server will look for it; returns when it is there."""
_BAD_NONCE: Final = "urn:ietf:params:acme:error:badNonce"
_TRIES: Final = 5  # of one request whose nonce is refused
_POLLS: Final = 60
_POLL: Final = 2.0  # seconds, where the server names no other wait
_LONGEST_WAIT: Final = 30.0
_MOST: Final = 1 << 20  # bytes of an answer


class AcmeError(FairleadError):
    """The server refused, cannot be reached, or does not speak ACME.

    Attributes:
        retry_after: seconds the server wants to be left alone; 0 where it does not say.
        tries: how many orders failed.
    """

    def __init__(self, why: str, kind: str = "", retry_after: float = 0.0, tries: int = 1) -> None:
        super().__init__(why)
        self.kind = kind
        self.retry_after = retry_after
        self.tries = tries


class _Failed(AcmeError):
    """An order or authorization that the server calls invalid."""


class Unproven(AcmeError):
    """A name was not shown to be ours by this challenge; by another it may be."""


@dataclass(frozen=True, slots=True)
class External:
    """An account at the certification authority, to which ACME's is bound (RFC 8555 §7.3.4).

    Attributes:
        secret: the MAC key.
    """

    key_id: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Answer:
    location: str
    retry_after: float
    body: bytes

    def json(self) -> JSON:
        try:
            found = json.loads(self.body)
        except ValueError as error:
            raise AcmeError("the answer is no JSON") from error
        if not isinstance(found, dict):
            raise AcmeError("the answer is no JSON object")
        return found


class Client:
    """One account at one server."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        directory: str,
        key: AccountKey,
        external: External | None = None,
    ) -> None:
        self._external = external
        self._session = session
        self._directory_url = directory
        self._directory: JSON = {}
        self._key = key
        self._account = ""
        self._nonces: list[str] = []

    async def certificate(
        self, name: str, private_key: bytes, email: str, way: str, publish: Publish
    ) -> bytes:
        """Return the chain for a name, PEM.

        Args:
            private_key: the certificate's, PEM.
            email: whom the server may write to; "" for nobody.
            way: the challenge by which the name is shown to be ours.

        Raises:
            Unproven: another way may do.
            AcmeError: with the server's own words.
        """
        try:
            await self._register(email)
            asked = {"identifiers": [{"type": "dns", "value": name}]}
            answer = await self._call(self._at("newOrder"), asked)
            order, url = answer.json(), answer.location
            for authorization in order["authorizations"]:
                await self._authorize(authorization, way, publish)
            if order.get("status") != "ready":
                order = await self._settled(url, "pending")
            csr = {"csr": b64(_request(name, private_key))}
            order = (await self._call(order["finalize"], csr)).json()
            if order.get("status") != "valid":
                order = await self._settled(url, "ready", "processing")
            return (await self._call(order["certificate"], None)).body
        except (KeyError, TypeError) as error:
            raise AcmeError(f"the answer lacks {error}") from error

    async def _register(self, email: str) -> None:
        """Find or make the account; to make one is to agree to the server's terms."""
        if self._account:
            return
        answer = await self._send("GET", self._directory_url, None)
        self._directory = answer.json()
        asked: JSON = {"termsOfServiceAgreed": True}
        if email:
            asked["contact"] = [f"mailto:{email}"]
        if self._external is not None:
            asked["externalAccountBinding"] = self._key.bound(
                self._external.key_id, self._external.secret, self._at("newAccount")
            )
        elif _meta(self._directory).get("externalAccountRequired"):
            raise AcmeError("the server wants an ExternalAccount, and the host's AutoCert has none")
        self._account = (await self._call(self._at("newAccount"), asked)).location

    async def _authorize(self, url: str, way: str, publish: Publish) -> None:
        found = (await self._call(url, None)).json()
        if found["status"] == "valid":
            return
        offered = [one for one in found["challenges"] if one["type"] == way]
        if not offered:
            raise Unproven(f"the server offers no {way} for this name")
        token = str(offered[0]["token"])
        await publish(token, f"{token}.{self._key.thumbprint}")
        await self._call(offered[0]["url"], {})
        try:
            await self._settled(url, "pending")
        except _Failed as error:
            raise Unproven(f"{way}: {error}") from error

    async def _settled(self, url: str, *waiting: str) -> JSON:
        """Return an order or authorization once it is in none of these states."""
        for _ in range(_POLLS):
            answer = await self._call(url, None)
            found = answer.json()
            if found["status"] == "invalid":
                raise _Failed(_why(found))
            if found["status"] not in waiting:
                return found
            await asyncio.sleep(min(answer.retry_after or _POLL, _LONGEST_WAIT))
        raise AcmeError(f"the server leaves {url} {' or '.join(waiting)}")

    def _at(self, what: str) -> str:
        try:
            return str(self._directory[what])
        except KeyError as error:
            raise AcmeError(f"the directory lacks {what}") from error

    async def _call(self, url: str, payload: object | None) -> _Answer:
        """Send a signed request; payload None is POST-as-GET."""
        for left in reversed(range(_TRIES)):
            protected: JSON = {"nonce": await self._nonce(), "url": url}
            protected |= {"kid": self._account} if self._account else {"jwk": self._key.jwk}
            try:
                return await self._send("POST", url, self._key.sign(protected, payload))
            except AcmeError as error:
                if error.kind != _BAD_NONCE or not left:
                    raise
        raise AssertionError("unreachable")

    async def _nonce(self) -> str:
        if not self._nonces:
            await self._send("HEAD", self._at("newNonce"), None)
        if not self._nonces:
            raise AcmeError("the server gives no nonce")
        return self._nonces.pop()

    async def _send(self, method: str, url: str, body: bytes | None) -> _Answer:
        headers = {"Content-Type": "application/jose+json"} if body is not None else {}
        try:
            async with self._session.request(method, url, data=body, headers=headers) as response:
                data = await response.content.read(_MOST)
                if "Replay-Nonce" in response.headers:
                    self._nonces.append(response.headers["Replay-Nonce"])
                wait = response.headers.get("Retry-After", "")
                retry_after = float(wait) if wait.isdigit() else 0.0
                answer = _Answer(response.headers.get("Location", ""), retry_after, data)
                if response.status >= 400:
                    raise _refusal(response.status, answer)
                return answer
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise AcmeError(f"{url}: {str(error) or type(error).__name__}") from error


def _refusal(status: int, answer: _Answer) -> AcmeError:
    try:
        problem = answer.json()
    except AcmeError:
        problem = {}
    kind = str(problem.get("type", ""))
    why = str(problem.get("detail", "")) or f"status {status}"
    return AcmeError(f"{why} ({kind.rpartition(':')[2] or status})", kind, answer.retry_after)


def _meta(directory: JSON) -> JSON:
    meta = directory.get("meta")
    return meta if isinstance(meta, dict) else {}


def _why(found: JSON) -> str:
    """Return the words of the first error in an order or authorization that failed."""
    problems = [found.get("error"), *(one.get("error") for one in found.get("challenges", ()))]
    told = [str(one.get("detail")) for one in problems if isinstance(one, dict)]
    return told[0] if told else f"the server says {found['status']}, and not why"


def _request(name: str, private_key: bytes) -> bytes:
    """Return the certificate signing request of a name, DER."""
    key = serialization.load_pem_private_key(private_key, None)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())  # type: ignore[arg-type]
    return signed.public_bytes(serialization.Encoding.DER)

# SPDX-License-Identifier: Apache-2.0
"""The admin API over HTTP, blocking; vctl makes one or two calls and ends."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from fairlead.errors import FairleadError
from fairlead.tls import trusting

JSON = dict[str, Any]
_TIMEOUT: Final = 30.0  # seconds


class ApiError(FairleadError):
    """The API refused, or cannot be reached."""


class Client:
    """Calls of one API."""

    def __init__(self, url: str, environ: Mapping[str, str] | None = None) -> None:
        given = environ or {}
        self._token = _token(given.get("VCTL_TOKEN_FILE", ""))
        self._files = [given.get(name, "") for name in ("VCTL_CACERT", "VCTL_CERT", "VCTL_KEY")]
        self.guarded = bool(self._token or self._files[1])
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ApiError(f'bad API address "{url}"')
        self._parts = parts

    def call(
        self,
        method: str,
        *path: str,
        body: object = None,
        form: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> JSON:
        """Make a call and return its answer.

        Raises:
            ApiError: with the API's own message.
        """
        parts = self._parts
        host = parts.hostname or ""
        connection = http.client.HTTPConnection(host, parts.port, timeout=_TIMEOUT)
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                host, parts.port, timeout=_TIMEOUT, context=self._context()
            )
        target = "/".join(
            (parts.path.rstrip("/"), "v2", *(quote(piece, safe="") for piece in path))
        )
        if query:
            target += "?" + urlencode(query)
        headers = {"Content-Type": "application/json"}
        data = None if body is None else json.dumps(body)
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            data = urlencode(form)
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            connection.request(method, target, data, headers)
            response = connection.getresponse()
            raw = response.read()
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise ApiError(f"{parts.geturl()}: {why}") from error
        finally:
            connection.close()
        try:
            answer = json.loads(raw)
        except ValueError as error:
            raise ApiError(f"{parts.geturl()}: status {response.status}, and no JSON") from error
        if response.status != 200 or not isinstance(answer, dict):
            message = answer.get("message") if isinstance(answer, dict) else None
            raise ApiError(str(message or f"status {response.status}"))
        return answer

    def _context(self) -> ssl.SSLContext:
        authority, cert, key = self._files
        try:
            context = trusting(authority)
            if cert:
                context.load_cert_chain(cert, key or None)
        except OSError as error:
            raise ApiError(f"VCTL_CACERT, VCTL_CERT, VCTL_KEY: {error}") from error
        return context


def _token(path: str) -> str:
    try:
        return Path(path).read_text().strip() if path else ""
    except OSError as error:
        raise ApiError(f"VCTL_TOKEN_FILE: {path}: {error.strerror}") from error

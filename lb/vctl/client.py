# SPDX-License-Identifier: Apache-2.0
"""The admin API over HTTP, blocking; vctl makes one or two calls and ends."""

from __future__ import annotations

import http.client
import json
from typing import Any, Final
from urllib.parse import quote, urlsplit

JSON = dict[str, Any]
_TIMEOUT: Final = 30.0  # seconds


class ApiError(Exception):
    """The API refused, or cannot be reached."""


class Client:
    """Calls of one API."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ApiError(f'bad API address "{url}"')
        self._parts = parts

    def call(self, method: str, *path: str, body: object = None) -> JSON:
        """Make a call and return its answer.

        Raises:
            ApiError: with the API's own message.
        """
        parts = self._parts
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT)
        target = "/".join(
            (parts.path.rstrip("/"), "v2", *(quote(piece, safe="") for piece in path))
        )
        try:
            connection.request(
                method,
                target,
                None if body is None else json.dumps(body),
                {"Content-Type": "application/json"},
            )
            response = connection.getresponse()
            raw = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(f"{parts.geturl()}: {error}") from error
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

# SPDX-License-Identifier: Apache-2.0
"""`vault`: secrets of its key-value engines, version 1 and 2; each field is a key.

`keys = ["/secret/db"]` gives `/secret/db/FIELD`. hvac is a blocking library, so everything here
goes through `asyncio.to_thread`. Vault tells of no change: it is read again once a minute.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import hvac
import requests
from hvac.exceptions import Forbidden, InvalidPath, VaultError

from confd.backends import BackendConfig, BackendError

_POLL_SECONDS: Final = 60.0
_JWT: Final = "/var/run/secrets/kubernetes.io/serviceaccount/token"


class Vault:
    """One server."""

    def __init__(self, config: BackendConfig) -> None:
        node = config.nodes[0] if config.nodes else "http://127.0.0.1:8200"
        self._config = config
        self._where = node if "://" in node else f"{config.text('scheme', 'http')}://{node}"
        cert = (config.text("client_cert"), config.text("client_key"))
        self._client: Any = hvac.Client(
            url=self._where,
            verify=False
            if config.flag("client_insecure")
            else config.text("client_cakeys") or True,
            cert=cert if all(cert) else None,
            timeout=config.real("dial_timeout", 5.0),
        )
        self._versions: dict[str, int] = {}
        self._logged_in = False

    def _log_in(self) -> None:
        client, get = self._client, self._config.text
        mount = get("path")
        place = {"mount_point": mount} if mount else {}
        match get("auth_type", "token"):
            case "token":
                client.token = get("auth_token")
            case "app-role":
                client.auth.approle.login(get("role_id"), get("secret_id"), **place)
            case "app-id":
                client.login(
                    f"/v1/auth/{mount or 'app-id'}/login",
                    json={"app_id": get("app_id"), "user_id": get("user_id")},
                )
            case "userpass":
                client.auth.userpass.login(get("username"), get("password"), **place)
            case "github":
                client.auth.github.login(get("auth_token"), **place)
            case "cert":
                client.auth.cert.login(**place)
            case "kubernetes":
                with open(_JWT, encoding="utf-8") as token:
                    client.auth.kubernetes.login(get("role_id"), token.read(), **place)
            case other:
                raise BackendError(f'vault: auth-type "{other}" is not known')
        self._logged_in = True

    def _version(self, mount: str) -> int:
        """Return the version of the key-value engine at `mount`."""
        if mount not in self._versions:
            found = self._client.read(f"sys/internal/ui/mounts/{mount}") or {}
            options = (found.get("data") or {}).get("options") or {}
            self._versions[mount] = int(options.get("version") or 1)
        return self._versions[mount]

    def _read(self, keys: Sequence[str]) -> dict[str, bytes]:
        if not self._logged_in:
            self._log_in()
        found: dict[str, bytes] = {}
        for key in keys:
            mount, _, rest = key.strip("/").partition("/")
            if not mount:
                raise BackendError('vault: a key must name an engine, e.g. "/secret/app"')
            self._walk(mount, rest, found)
        return found

    def _walk(self, mount: str, path: str, found: dict[str, bytes]) -> None:
        second = self._version(mount) == 2
        if path and not path.endswith("/"):
            answer = self._client.read(f"{mount}/{'data/' if second else ''}{path}")
            fields = ((answer or {}).get("data") or {}) if answer else {}
            if second:
                fields = fields.get("data") or {}
            _flatten(f"/{mount}/{path}", fields, found)
        inner = path.rstrip("/")
        listed = self._client.list(f"{mount}/{'metadata/' if second else ''}{inner}")
        for name in ((listed or {}).get("data") or {}).get("keys") or []:
            self._walk(mount, f"{inner}/{name}".lstrip("/"), found)

    async def read(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Return the fields of the secrets at or below `keys`."""
        try:
            return await asyncio.to_thread(self._read, keys)
        except InvalidPath:
            return {}
        except (VaultError, requests.RequestException, OSError, ValueError) as error:
            if isinstance(error, Forbidden):
                self._logged_in = False  # the token may have run out
            reason = str(error) or type(error).__name__
            raise BackendError(f"vault at {self._where}: {reason}") from error

    async def changed(self, keys: Sequence[str]) -> None:
        """Return after a minute."""
        await asyncio.sleep(_POLL_SECONDS)

    async def aclose(self) -> None:
        """Close the connections."""
        self._client.adapter.close()


def _flatten(path: str, value: Any, found: dict[str, bytes]) -> None:
    match value:
        case dict():
            for key, item in value.items():
                _flatten(f"{path}/{key}", item, found)
        case str():
            found[path] = value.encode()
        case None:
            pass
        case _:
            found[path] = json.dumps(value).encode()

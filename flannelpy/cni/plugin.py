# SPDX-License-Identifier: Apache-2.0
"""What the runtime asks for: ADD, DEL, CHECK of one attachment; STATUS, GC of the network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from flannelpy.cni.config import (
    BAD_CONFIGURATION,
    BAD_ENVIRONMENT,
    DATA_DIR,
    DELEGATE_FAILED,
    IO_FAILED,
    NOT_AVAILABLE,
    SUBNET_FILE,
    TRY_LATER,
    CniError,
    delegate,
    read_host,
)

VALID: Final = "cni.dev/valid-attachments"
# The CNI specification's characters of a container id; also keeps it from naming another folder.
_CONTAINER_ID: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*\Z")


class Attachment:
    """One interface of one container.

    Args:
        environ: CNI_COMMAND, CNI_CONTAINERID, CNI_IFNAME, CNI_PATH and what else the delegate
            needs.
        config: as `read_config` gives it.
        show: told what ADD delegates.
    """

    def __init__(
        self, environ: Mapping[str, str], config: dict[str, Any], show: Callable[[str], object]
    ) -> None:
        self._show = show
        self._environ = dict(environ)
        self._config = config
        container = environ.get("CNI_CONTAINERID", "")
        interface = environ.get("CNI_IFNAME", "")
        if not _CONTAINER_ID.match(container):
            raise CniError(BAD_ENVIRONMENT, f'CNI_CONTAINERID "{container}" is not a container id')
        if not interface or "/" in interface:
            raise CniError(BAD_ENVIRONMENT, f'CNI_IFNAME "{interface}" is not an interface name')
        folder = _folder(config)
        self._saved = folder / f"{container}@{interface}"
        self._saved_by_original = folder / container

    def add(self) -> bytes:
        """Give the container its interface; return the delegate's result."""
        config = wanted(self._config)
        made = json.dumps(config, sort_keys=True, separators=(",", ":"))  # as the original
        self._save(made)
        self._show(f"{made}\n")
        try:
            return call(config["type"], made, self._environ)
        except CniError:
            self._saved.unlink(missing_ok=True)
            raise

    def delete(self) -> None:
        """Take the interface away; nothing saved means nothing to do."""
        saved = self._there()
        if saved is None:
            return
        made = _read(saved)
        if made is None:
            sys.stderr.write(f'flannel: "{saved}" is damaged; nothing to delegate\n')
        else:
            call(made["type"], _text(made), self._environ)
        saved.unlink(missing_ok=True)

    def check(self) -> None:
        """Have the delegate look whether the interface is as ADD left it."""
        saved = self._there()
        if saved is None:
            raise CniError(
                DELEGATE_FAILED, f'"{self._saved}" is gone: the container was never added'
            )
        made = _read(saved)
        if made is None:
            raise CniError(DELEGATE_FAILED, f'"{saved}" is damaged')
        if "prevResult" in self._config:
            made["prevResult"] = self._config["prevResult"]
        call(made["type"], _text(made), self._environ)

    def _there(self) -> Path | None:
        """Return the file that ADD left, ours or the original's."""
        places = (self._saved, self._saved_by_original)
        return next((saved for saved in places if saved.exists()), None)

    def _save(self, made: str) -> None:
        """Keep the delegate's configuration for DEL: it must not follow later changes."""
        try:
            self._saved.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = self._saved.with_name(f".{self._saved.name}.part")
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(made)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._saved)
        except OSError as error:
            raise CniError(IO_FAILED, f'cannot write "{self._saved}": {error.strerror}') from error


def wanted(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the delegate's configuration, with what flanneld wrote last.

    Raises:
        CniError: flanneld has written nothing yet, or something is wrong with it or with ours.
    """
    file = config.get("subnetFile") or SUBNET_FILE
    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise CniError(
            TRY_LATER,
            f'cannot read "{file}": {error.strerror}',
            "flanneld writes it when it has leased a subnet: look at its log",
        ) from error
    return delegate(config, read_host(text, file))


def status(config: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """Look whether an ADD would have what it needs; the delegate may be too old to be asked.

    Raises:
        CniError: it would not.
    """
    try:
        program(wanted(config)["type"], environ)
    except CniError as error:
        raise CniError(NOT_AVAILABLE, str(error), error.details) from error


def collect(config: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """Take away what is saved for attachments of this network that the runtime does not know.

    A delegate's DEL does it, which every version has.

    Raises:
        CniError: the list of attachments is none, or a DEL failed; the others are done.
    """
    try:
        valid = {(it["containerID"], it["ifname"]) for it in config[VALID]}
    except (KeyError, TypeError) as error:
        raise CniError(BAD_CONFIGURATION, f'"{VALID}" must be a list of attachments') from error
    failed: CniError | None = None
    for saved in sorted(_folder(config).glob("*@*")):
        container, _, interface = saved.name.partition("@")
        made = None if (container, interface) in valid else _read(saved)
        if made is None or made.get("name") != config["name"]:
            continue
        about = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": container, "CNI_IFNAME": interface}
        try:
            call(made["type"], _text(made), {**environ, **about, "CNI_NETNS": ""})
            saved.unlink(missing_ok=True)
        except CniError as error:
            failed = failed or error
    if failed is not None:
        raise failed


def _text(made: Mapping[str, Any]) -> str:
    return json.dumps(made, separators=(",", ":"))


def _folder(config: Mapping[str, Any]) -> Path:
    return Path(config.get("dataDir") or DATA_DIR)


def _read(saved: Path) -> dict[str, Any] | None:
    """Return a delegate's configuration as it was saved; None: it is damaged.

    Raises:
        CniError: it cannot be read.
    """
    try:
        made = json.loads(saved.read_text(encoding="utf-8"))
    except OSError as error:
        raise CniError(IO_FAILED, f'cannot read "{saved}": {error.strerror}') from error
    except ValueError:
        return None
    return made if isinstance(made, dict) and isinstance(made.get("type"), str) else None


def program(kind: str, environ: Mapping[str, str]) -> Path:
    """Return the plugin `kind`.

    Raises:
        CniError: it is not in CNI_PATH.
    """
    path = environ.get("CNI_PATH", "")
    for folder in filter(None, path.split(":")):
        found = Path(folder) / kind
        if found.is_file() and os.access(found, os.X_OK):
            return found
    raise CniError(BAD_CONFIGURATION, f'no plugin "{kind}" in CNI_PATH "{path}"')


def call(kind: str, made: str, environ: Mapping[str, str]) -> bytes:
    """Run the plugin `kind` with `made` on its standard input; return what it prints.

    Raises:
        CniError: it is not in CNI_PATH, or what it refused.
    """
    done = subprocess.run(  # noqa: S603  (the runtime names the folder, the operator the plugin)
        [program(kind, environ)],
        input=made.encode(),
        env=dict(environ),
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode == 0:
        return done.stdout
    try:
        error = json.loads(done.stdout)
        raise CniError(int(error["code"]), f"{kind}: {error['msg']}", str(error.get("details", "")))
    except (ValueError, KeyError, TypeError):
        text = done.stdout.decode("utf-8", "replace").strip()
        raise CniError(
            DELEGATE_FAILED, f"{kind} ended with status {done.returncode}", text
        ) from None

# SPDX-License-Identifier: Apache-2.0
"""`-check-config`, `-validate`, `-preflight`: say what is wrong, with nothing started.

The words are the maintained fork's: `OK: FILE`, `FILE: field: message`, `Validation complete:
3/4 files passed` (specs/confd.md §12).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from confd.catalog import Catalog, check
from confd.config import Config, configure
from confd.records import TemplateResource
from confd.views import Pair, Views
from fairlead.errors import ConfigError, ConfigErrors, StoreError
from fairlead.etcd.types import KeyValue, Revision
from fairlead.flags import Values
from fairlead.gotemplate import TemplateError
from fairlead.gotemplate.values import to_bytes


def run_checks(values: Values) -> int:
    """Run the check that was asked for; return the exit status."""
    try:
        config = configure(values)
    except ConfigErrors as error:
        _complain(f"warning: {warning}" for warning in values.warnings)
        _complain(str(fault) for fault in error.errors)
        return 1
    _complain(f"warning: {warning}" for warning in values.warnings)
    if values.flag("preflight"):
        return _preflight(config, values.seconds("preflight-timeout"))
    catalog = check(config.confdir, config.defaults, values.text("resource"))
    if values.flag("validate") and values.text("mock-data"):
        _render_all(catalog, values.text("mock-data"))
    return _report(catalog)


def _complain(lines: Iterator[str] | list[str]) -> None:
    for line in lines:
        sys.stderr.write(f"{line}\n")


def _report(catalog: Catalog) -> int:
    if catalog.trouble:
        _complain([f"warning: {catalog.trouble}"])
    files = {**dict.fromkeys(catalog.resources), **dict.fromkeys(catalog.errors)}
    good = 0
    for file in files:
        resource = catalog.resources.get(file)
        for warning in resource.warnings if resource else ():
            _complain([f"warning: {file}: {warning}"])
        errors = catalog.errors.get(file, ())
        for error in errors:
            field = error.setting.removeprefix('key "').removesuffix('"')
            _complain([f"{file}: {field}: {error.reason}"])
        if not errors:
            good += 1
            sys.stdout.write(f"OK: {file}\n")
    sys.stdout.write(f"Validation complete: {good}/{len(files)} files passed\n")
    return 0 if good == len(files) and not catalog.missing else 1


# rendering from a file of keys


def pairs_of(document: object) -> list[Pair]:
    """Return the keys of a JSON document: a flat map of paths, or a tree; both may mix."""
    found: dict[str, str] = {}

    def walk(path: str, value: object) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                walk(f"{path}/{str(key).strip('/')}" if key != "/" else path, item)
        elif isinstance(value, list):
            for at, item in enumerate(value):
                walk(f"{path}/{at}", item)
        elif value is not None:
            found[path] = value if isinstance(value, str) else json.dumps(value)

    walk("", document)
    one = Revision(0)
    return [
        (to_bytes(name), KeyValue(to_bytes(name), to_bytes(text), one, one, 0))
        for name, text in found.items()
    ]


def fill(views: Views, resource: TemplateResource, pairs: list[Pair]) -> None:
    """Put keys into every source a resource reads."""
    for source in resource.fetches:
        views.apply(pairs, source)


def _render_all(catalog: Catalog, path: str) -> None:
    """Render every resource with the keys of a file; faults are added to the catalog's."""
    try:
        document: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fault = ConfigError("-mock-data", path, "command line", f"cannot be read: {error}")
        catalog.errors[path] = (fault,)
        return
    views, pairs = Views(), pairs_of(document)
    views.assign(catalog.resources.values())
    for file, resource in catalog.resources.items():
        fill(views, resource, pairs)
        for template in resource.templates:
            if file in catalog.errors:
                continue
            try:
                catalog.render(template, views.start_reads(template))
                if catalog.names.resolve_now():
                    catalog.render(template, views.start_reads(template))
            except TemplateError as error:
                fault = ConfigError('key "src"', template.src, file, str(error))
                catalog.errors[file] = (fault,)


# preflight


def _preflight(config: Config, seconds: float) -> int:
    """Read every resource's keys; return 1 when a source does not answer."""
    import asyncio

    return asyncio.run(_look(config, seconds))


async def _look(config: Config, seconds: float) -> int:
    import asyncio

    from confd.backends import BackendError
    from confd.sources import count_keys

    catalog = check(config.confdir, config.defaults)
    status = _report(catalog)
    for file, resource in catalog.resources.items():
        try:
            async with asyncio.timeout(seconds):
                number = await count_keys(config, resource)
        except TimeoutError:
            _complain([f"{file}: context deadline exceeded"])
            status = 1
        except (StoreError, BackendError, ConfigError) as error:
            _complain([f"{file}: {error}"])
            status = 1
        else:
            if resource.fetches and not number:
                _complain([f"warning: {file}: no key found"])
            sys.stdout.write(f"{file}: {number} keys\n")
    sys.stdout.write("Preflight passed\n" if not status else "Preflight failed\n")
    return status

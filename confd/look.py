# SPDX-License-Identifier: Apache-2.0
"""What `fairlead conf check | diff | render` do: look at a confdir, or a template, without a daemon."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Final

import click

from confd.catalog import Catalog, check
from confd.check import fill, pairs_of
from confd.config import Config, configure
from confd.diff import unified
from confd.observe import present_files
from confd.plan import Notice, Switches, plan_resource
from confd.records import Defaults, Dialect, TemplateResource
from confd.renderer import Renderer
from confd.secrets import Mask
from confd.settings import SETTINGS
from confd.state import Broken
from confd.views import Pair, Views
from fairlead.errors import ConfigErrors, FairleadError
from fairlead.log import Log, Sink

IN_SYNC: Final = 0
FAULT: Final = 1
WOULD_CHANGE: Final = 2


def _config(
    confdir: Path, node: tuple[str, ...], backend: str, files: tuple[str, ...], prefix: str
) -> Config:
    words = ["-confdir", str(confdir), "-backend", backend, "-prefix", prefix]
    words += [word for n in node for word in ("-node", n)]
    words += [word for f in files for word in ("-file", f)]
    try:
        return configure(SETTINGS.parse(words, os.environ))
    except ConfigErrors as error:
        raise click.ClickException(str(error)) from error


def _pairs(path: Path) -> list[Pair]:
    import yaml  # JSON is YAML too

    try:
        return pairs_of(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise click.ClickException(f"{path}: {error}") from error


def _fill(
    views: Views, resources: list[TemplateResource], config: Config, keys: Path | None
) -> None:
    """Put the keys into the views: from a file, or from where the resources say."""
    views.assign(resources)
    if keys is not None:
        pairs = _pairs(keys)
        for resource in resources:
            fill(views, resource, pairs)
        return
    import asyncio

    asyncio.run(_read(views, resources, config))


async def _read(views: Views, resources: list[TemplateResource], config: Config) -> None:
    import asyncio

    from confd.config import source_config
    from confd.sources import as_pairs, read_source, wanted

    for source, names in wanted(resources).items():
        own = config.sources.get(source) or source_config(json.loads(source))
        async with asyncio.timeout(config.read_seconds):
            views.apply(as_pairs(await read_source(source, own, names)), source)


def check_all(
    confdir: Path, keys_file: Path | None, prefix: str, output: str, resources: tuple[str, ...]
) -> int:
    """Check resources and templates; return the exit status."""
    catalog = check(confdir, Defaults(prefix=prefix), *resources[:1])
    for more in resources[1:]:
        catalog.read_one(Path(more))
    faults = {file: [str(e.reason) for e in errors] for file, errors in catalog.errors.items()}
    if keys_file is not None:
        views = Views()
        good = list(catalog.resources.values())
        views.assign(good)
        pairs = _pairs(keys_file)
        for resource in good:
            fill(views, resource, pairs)
            wanted = _render(catalog, views, resource)
            if isinstance(wanted, Broken) and resource.file not in faults:
                faults[resource.file] = [wanted.reason]
    files = sorted({*catalog.resources, *faults})
    warnings = {file: list(r.warnings) for file, r in catalog.resources.items() if r.warnings}
    if output == "json":
        told = [
            {"file": f, "faults": faults.get(f, []), "warnings": warnings.get(f, [])} for f in files
        ]
        click.echo(json.dumps(told, indent=2))
    else:
        _table(files, faults, warnings)
        if catalog.trouble:
            click.echo(catalog.trouble, err=True)
    return FAULT if faults or catalog.trouble else 0


def _table(files: list[str], faults: dict[str, list[str]], warnings: dict[str, list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("resource", "state", "what", box=None)
    for file in files:
        said = [*faults.get(file, []), *(f"warning: {text}" for text in warnings.get(file, []))]
        table.add_row(file, "faulty" if file in faults else "good", "\n".join(said))
    width = None if sys.stdout.isatty() else 10_000  # for programs: nothing is folded
    Console(width=width).print(table)


def _render(catalog: Catalog, views: Views, resource: TemplateResource) -> Any:
    renderer = Renderer(catalog, views)
    desired = renderer.wanted(resource)
    while catalog.names.resolve_now():
        renderer.touched((resource.file,))
        desired = renderer.wanted(resource)
    return desired


def diff_all(
    confdir: Path, keys_file: Path | None, node: tuple[str, ...], backend: str,
    files: tuple[str, ...], prefix: str, output: str, context: int, color: str,
) -> int:  # fmt: skip
    """Print what confd would change now; return the exit status."""
    config = _config(confdir, node, backend, files, prefix)
    catalog = Catalog(confdir, config.defaults)
    catalog.refresh()
    resources, views = list(catalog.resources.values()), Views(config.loose_sources)
    faults = list(catalog.faults.values())
    if catalog.trouble:
        faults.append(catalog.trouble)
    try:
        _fill(views, resources, config, keys_file)
    except (FairleadError, TimeoutError) as error:
        raise click.ClickException(str(error) or "the keys cannot be read in time") from error
    mask = Mask(config.secret_sources)
    notices: list[Notice] = []
    for resource in resources:
        for template in resource.templates:
            mask.learn(views.tree(template).pairs())
        desired = _render(catalog, views, resource)
        if isinstance(desired, Broken):
            faults.append(f"{resource.file}: {desired.reason}")
            continue
        actual = present_files(desired.outputs)
        plan = plan_resource(desired, actual, Switches(noop=True))
        notices += [action for action in plan if isinstance(action, Notice)]
    colored = color == "always" or (color == "auto" and sys.stdout.isatty())
    texts = {n.dest: unified(n, context=context, color=colored, mask=mask) for n in notices}
    if output == "json":
        click.echo(json.dumps({"changes": texts, "faults": faults}, indent=2))
    else:
        for text in texts.values():
            click.echo(text, nl=False, color=colored)
        for fault in faults:
            click.echo(mask(fault), err=True)
    return FAULT if faults else WOULD_CHANGE if notices else IN_SYNC


def render_all(
    templates: tuple[str, ...], keys: tuple[str, ...], keys_file: Path | None,
    node: tuple[str, ...], backend: str, files: tuple[str, ...], prefix: str,
    strict: bool, sprig: bool, exact_integers: bool,
) -> None:  # fmt: skip
    """Render templates without a resource file; all of them or none."""
    from confd.keys import effective_prefix, fetch_key
    from confd.staging import StageError, install, write

    config = _config(Path("/nonexistent"), node, backend, files, prefix)
    whole = effective_prefix("", prefix, "join")
    dialect = Dialect(strict=strict, exact=exact_integers, sprig=sprig)
    fetched = tuple(fetch_key(whole, key) for key in keys or ("/",))
    done: list[tuple[str, bytes]] = []
    for word in templates:
        src, _, dest = word.partition(":")
        path = Path(src).absolute()
        resource = TemplateResource(src, path.name, dest or "-", fetched, whole, dialect=dialect)
        catalog, views = Catalog(path.parent), Views(config.loose_sources)
        catalog.root = path.parent
        try:
            _fill(views, [resource], config, keys_file)
        except (FairleadError, TimeoutError) as error:
            raise click.ClickException(str(error) or "the keys cannot be read in time") from error
        desired = _render(catalog, views, resource)
        if isinstance(desired, Broken):
            raise click.ClickException(desired.reason)
        done += [(dest, output.content) for output in desired.outputs.values()]
    for dest, content in done:
        if not dest:
            sys.stdout.buffer.write(content)
            continue
        try:
            present = present_files([dest]).files[dest]
            mode = 0o644 if present is None else present.mode
            staged = write(dest, content, mode, os.geteuid(), os.getegid())
            install([(staged, dest)], Log(Sink(level=100)), keep=False)
        except StageError as error:
            raise click.ClickException(str(error)) from error

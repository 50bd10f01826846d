# SPDX-License-Identifier: Apache-2.0
"""The resources of a confdir and their compiled templates, as the files now stand.

`refresh` looks at the directory; a file that changed is read again. A resource or template that
has become faulty keeps its last good version; a new faulty one costs only itself (§2).
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

from confd import formats
from confd.funcs import functions
from confd.include import file_mark, including
from confd.lookups import World
from confd.metrics import Metrics
from confd.names import Names
from confd.paths import base
from confd.records import Defaults, Dialect, TemplateResource, decode_resource, read_resource
from confd.values import Tree
from confd.world import Machine
from fairlead.errors import ConfigError, ConfigErrors
from fairlead.gotemplate import CallError, Func, Template, TemplateError


class Renders(Protocol):
    """A compiled template of either engine."""

    def render(self, data: Any = ...) -> str:
        """Return the text, or raise TemplateError."""
        ...


@dataclass(slots=True)
class _Source:
    """A template file as it was last read."""

    mark: object
    template: Renders | None
    reason: str = ""


_NOTHING: Final = Tree("/", ())


@dataclass(slots=True)
class Catalog:
    """What a confdir holds.

    Attributes:
        names: the machine as renders see it.
        resources: resource file → resource, good ones and last good ones.
        faults: resource file → what is wrong with it now; `errors`: the same, one by one.
        root: the template directory, where it is not the confdir's own.
        trouble: why there is nothing to do, "" when there is something.
    """

    confdir: Path
    defaults: Defaults = field(default_factory=Defaults)
    world: World = field(default_factory=Machine)
    metrics: Metrics = field(default_factory=Metrics)
    resources: dict[str, TemplateResource] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    errors: dict[str, tuple[ConfigError, ...]] = field(default_factory=dict)
    trouble: str = ""
    missing: bool = False
    root: Path | None = None
    names: Names = field(init=False)
    _marks: dict[str, object] = field(default_factory=dict)
    _sources: dict[tuple[str, Dialect], _Source] = field(default_factory=dict)
    _functions: dict[Dialect, dict[str, Func]] = field(default_factory=dict)
    _tree: Tree = _NOTHING

    def __post_init__(self) -> None:
        self.names = Names(self.world)

    @property
    def templates(self) -> Path:
        """The template directory."""
        return self.root or self.confdir / "templates"

    def refresh(self) -> bool:
        """Read what changed; say whether the set of resources did."""
        before = dict(self.resources)
        files = self._files()
        marks: dict[str, object] = {}
        for path in files:
            name = str(path)
            marks[name] = file_mark(path)
            if name not in self._marks or self._marks[name] != marks[name]:
                self._read(path)
        for name in self._marks.keys() - marks.keys():
            self.resources.pop(name, None)
            self.faults.pop(name, None)
            self.errors.pop(name, None)
        self._marks = marks
        return before != self.resources

    def _files(self) -> list[Path]:
        """Return the resource files in the original's order; sets `trouble`."""
        self.trouble, self.missing = "", False
        if not self.confdir.is_dir():
            self.trouble = (
                f"Cannot load template resources: confdir '{self.confdir}' does not exist"
            )
            return []
        conf = self.confdir / "conf.d"  # may be a link
        if not conf.is_dir():
            self.trouble = f"stat {conf}: no such file or directory"
            self.missing = True
            return []
        found: list[Path] = []
        seen: set[str] = set()
        self._walk(conf, found, seen)
        if not found:
            self.trouble = "Found no templates"
        return found

    def _walk(self, directory: Path, found: list[Path], seen: set[str]) -> None:
        try:
            names = sorted(os.listdir(directory), key=os.fsencode)
        except OSError as error:
            self.faults[str(directory)] = f"cannot be read: {error.strerror}"
            return
        for name in names:
            path = directory / name
            if path.is_dir():
                # `..data` of a ConfigMap mount would show every resource twice
                if not path.is_symlink() and not name.startswith(".."):
                    self._walk(path, found, seen)
            elif name.endswith("toml") and not name.startswith(".."):
                real = os.path.realpath(path)
                if real not in seen:
                    seen.add(real)
                    found.append(path)

    def _read(self, path: Path) -> None:
        name = str(path)
        try:
            text = path.read_text(encoding="utf-8")
            self.resources[name] = _with_owners(decode_resource(name, text, self.defaults))
            self.faults.pop(name, None)
            self.errors.pop(name, None)
        except ConfigErrors as error:
            self.faults[name] = str(error)
            self.errors[name] = error.errors
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            fault = ConfigError("resource", name, name, f"cannot be read: {reason}")
            self.faults[name], self.errors[name] = str(fault), (fault,)

    def set_defaults(self, defaults: Defaults) -> None:
        """Take other defaults; the next `refresh` reads every resource again."""
        self.defaults = defaults
        self._marks = dict.fromkeys(self._marks)

    def read_one(self, path: Path) -> None:
        """Take this resource file alone, wherever it stands."""
        self._read(path)

    def source_of(self, template: TemplateResource) -> Path:
        """Return where a resource's template stands."""
        return self.templates / template.src.lstrip("/")

    def render(self, template: TemplateResource, tree: Tree) -> dict[str, bytes]:
        """Render a template from its tree; return destination → content.

        Raises:
            TemplateError: it is missing, or does not parse or execute, or makes what it must not.
        """
        path = self.source_of(template)
        source = self._source(path, template.dialect)
        if source.template is None:
            raise TemplateError(source.reason, name=path.name)
        self._tree, self.names.fleeting = tree, False
        try:
            if not template.for_each:
                return {template.dest: self._content(template, source.template.render())}
            return self._each(template, source.template, tree)
        finally:
            tree.reads.fleeting |= self.names.fleeting
            self._tree = _NOTHING

    def _each(self, template: TemplateResource, source: Renders, tree: Tree) -> dict[str, bytes]:
        """Render once for each match of `for_each`."""
        known = self._known(template.dialect)
        name = Template("dest", template.dest, known)
        found: dict[str, bytes] = {}
        try:
            parts = tree.parts(template.for_each)
        except CallError as error:
            raise TemplateError(f"for_each: {error}", name=template.src) from error
        for part in parts:
            item = {"Key": part, "Name": base(part), "Value": tree.find(part) or ""}
            dest = name.render(item)
            if dest in found or ".." in dest.split("/") or dest.endswith("/") or "\0" in dest:
                reason = "it stands twice" if dest in found else "no good file name"
                raise TemplateError(f'for_each: dest "{dest}" for {part}: {reason}', name="dest")
            found[dest] = self._content(template, source.render(item))
        return found

    def _content(self, template: TemplateResource, text: str) -> bytes:
        content = text.encode("utf-8", "surrogateescape")
        if template.output_format:
            reason = formats.fault(template.output_format, content)
            if reason:
                what = f"output format validation failed ({template.output_format}): {reason}"
                raise TemplateError(what, name=template.src)
        return content

    def _source(self, path: Path, dialect: Dialect) -> _Source:
        place, mark = (str(path), dialect), file_mark(path)
        source = self._sources.get(place)
        if source is None or source.mark != mark:
            source = self._sources[place] = self._compile(path, mark, dialect)
            self.metrics.misses.inc()
        else:
            self.metrics.hits.inc()
        return source

    def _known(self, dialect: Dialect) -> dict[str, Func]:
        """Return the functions that templates of a dialect may call."""
        if dialect not in self._functions:
            known = functions(
                lambda: self._tree, self.names, strict=dialect.strict, exact=dialect.exact
            )
            if dialect.sprig:
                from confd.sprig import with_sprig

                known = with_sprig(known, self.names.getenv)
            self._functions[dialect] = known
        return self._functions[dialect]

    def _note_file(self, path: Path, mark: object) -> None:
        self._tree.reads.files[str(path)] = mark

    def _compile(self, path: Path, mark: object, dialect: Dialect) -> _Source:
        if mark is None:
            return _Source(mark, None, f"Missing template: {path}")

        def compiled(name: str, text: str, known: Mapping[str, Func]) -> Template:
            return Template(
                name,
                text,
                known,
                left=dialect.left,
                right=dialect.right,
                missing_key="error" if dialect.strict else "default",
            )

        try:
            text = path.read_bytes().decode("utf-8", "surrogateescape")
            if path.suffix == ".j2":
                from confd.jinja import JinjaTemplate  # 60 ms, and few templates are Jinja2's

                known = self._known(dialect)
                made = JinjaTemplate(path.name, text, known, self.templates, strict=dialect.strict)
                return _Source(mark, made)
            known = including(
                self._known(dialect), self.templates, note=self._note_file, compiled=compiled
            )
            return _Source(mark, compiled(path.name, text, known))
        except OSError as error:
            return _Source(mark, None, f"cannot read template {path}: {error.strerror}")
        except TemplateError as error:
            return _Source(mark, None, f"Unable to process template {path}, {error}")

    def check_templates(self, file: str, resource: TemplateResource) -> list[ConfigError]:
        """Return what is wrong with a resource's templates and directories."""
        found: list[ConfigError] = []
        for template in resource.templates:
            source = self._source(self.source_of(template), template.dialect)
            if template.src and source.template is None:
                found.append(ConfigError('key "src"', template.src, file, source.reason))
            directory = Path(template.dest).parent
            made = template.placing.make_directory
            if not (template.for_each or made) and not directory.is_dir():
                reason = f"there is no directory {directory}"
                found.append(ConfigError('key "dest"', template.dest, file, reason))
        try:
            Template("checkcmd", resource.check_cmd)
        except TemplateError as error:
            found.append(ConfigError('key "check_cmd"', resource.check_cmd, file, str(error)))
        return found

    def drafts(self) -> dict[str, TemplateResource]:
        """Return what can be understood of the faulty resources, to find their other faults."""
        found: dict[str, TemplateResource] = {}
        for file in self.errors.keys() - self.resources.keys():
            try:
                draft, _ = read_resource(file, Path(file).read_text("utf-8"), self.defaults)
            except (OSError, UnicodeDecodeError):
                continue  # told already
            if draft is not None:
                found[file] = draft
        return found


def check(confdir: Path, defaults: Defaults, only: str = "") -> Catalog:
    """Return a confdir's resources, all that is wrong with them and their templates in `errors`."""
    catalog = Catalog(confdir, defaults)
    if only:
        catalog.read_one(Path(only))
    else:
        catalog.refresh()
    for file, resource in (catalog.resources | catalog.drafts()).items():
        more = catalog.check_templates(file, resource)
        if more:
            catalog.errors[file] = (*catalog.errors.get(file, ()), *more)
    return catalog


def _with_owners(resource: TemplateResource) -> TemplateResource:
    """Look the owners' names up."""
    members = tuple(map(_with_owner, resource.members))
    return replace(_with_owner(resource), members=members)


def _with_owner(resource: TemplateResource) -> TemplateResource:
    """Look the owner's names up."""
    uid, gid = resource.uid, resource.gid
    errors: list[ConfigError] = []
    if uid is None and resource.owner:
        try:
            uid = pwd.getpwnam(resource.owner).pw_uid
        except KeyError:
            errors.append(ConfigError('key "owner"', resource.owner, resource.file, "no such user"))
    if gid is None and resource.group:
        try:
            gid = grp.getgrnam(resource.group).gr_gid
        except KeyError:
            errors.append(
                ConfigError('key "group"', resource.group, resource.file, "no such group")
            )
    if errors:
        raise ConfigErrors(tuple(errors))
    return replace(resource, uid=uid, gid=gid)

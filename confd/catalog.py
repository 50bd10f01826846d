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

from confd.funcs import World, functions
from confd.include import including
from confd.records import TemplateResource, decode_resource
from confd.values import Tree
from confd.world import Machine
from fairlead.errors import ConfigError, ConfigErrors
from fairlead.gotemplate import Func, Template, TemplateError

_Mark = tuple[int, int, int]  # mtime_ns, size, inode


def _mark(path: Path) -> _Mark | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)


@dataclass(slots=True)
class _Source:
    """A template file as it was last read."""

    mark: _Mark | None
    template: Template | None
    reason: str = ""


@dataclass(slots=True)
class Catalog:
    """What a confdir holds.

    Attributes:
        resources: resource file → resource, good ones and last good ones.
        faults: resource file → what is wrong with it now; `errors`: the same, one by one.
        trouble: why there is nothing to do, "" when there is something.
    """

    confdir: Path
    prefix: str
    prefix_mode: str
    world: World
    resources: dict[str, TemplateResource] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    errors: dict[str, tuple[ConfigError, ...]] = field(default_factory=dict)
    trouble: str = ""
    missing: bool = False
    _marks: dict[str, _Mark | None] = field(default_factory=dict)
    _sources: dict[str, _Source] = field(default_factory=dict)
    _functions: Mapping[str, Func] = field(default_factory=dict)
    _tree: Tree = field(default_factory=lambda: Tree("/", ()))

    def __post_init__(self) -> None:
        self._functions = including(functions(lambda: self._tree, self.world), self.templates)

    @property
    def templates(self) -> Path:
        """The template directory."""
        return self.confdir / "templates"

    def refresh(self) -> bool:
        """Read what changed; say whether the set of resources did."""
        before = dict(self.resources)
        files = self._files()
        marks: dict[str, _Mark | None] = {}
        for path in files:
            name = str(path)
            marks[name] = _mark(path)
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
        conf = self.confdir / "conf.d"
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
            resource = decode_resource(name, text, prefix=self.prefix, prefix_mode=self.prefix_mode)
            self.resources[name] = _with_owner(resource)
            self.faults.pop(name, None)
            self.errors.pop(name, None)
        except ConfigErrors as error:
            self.faults[name] = str(error)
            self.errors[name] = error.errors
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            fault = ConfigError("resource", name, name, f"cannot be read: {reason}")
            self.faults[name], self.errors[name] = str(fault), (fault,)

    def render(self, resource: TemplateResource, tree: Tree) -> bytes:
        """Render a resource from its tree.

        Raises:
            TemplateError: the template is missing, or does not parse or execute.
        """
        path = self.templates / resource.src.lstrip("/")
        source = self._sources.get(str(path))
        mark = _mark(path)
        if source is None or source.mark != mark:
            source = self._sources[str(path)] = self._compile(path, mark)
        if source.template is None:
            raise TemplateError(source.reason, name=path.name)
        self._tree = tree
        return source.template.render().encode("utf-8", "surrogateescape")

    def check_templates(self) -> list[ConfigError]:
        """Return what is wrong with the templates and directories of the good resources."""
        found: list[ConfigError] = []
        for file, resource in self.resources.items():
            path = self.templates / resource.src.lstrip("/")
            source = self._compile(path, _mark(path))
            if source.template is None:
                found.append(ConfigError('key "src"', resource.src, file, source.reason))
            try:
                Template("checkcmd", resource.check_cmd)
            except TemplateError as error:
                found.append(ConfigError('key "check_cmd"', resource.check_cmd, file, str(error)))
            directory = Path(resource.dest).parent
            if not directory.is_dir():
                reason = f"there is no directory {directory}"
                found.append(ConfigError('key "dest"', resource.dest, file, reason))
        return found

    def _compile(self, path: Path, mark: _Mark | None) -> _Source:
        if mark is None:
            return _Source(mark, None, f"Missing template: {path}")
        try:
            text = path.read_bytes().decode("utf-8", "surrogateescape")
            return _Source(mark, Template(path.name, text, self._functions))
        except OSError as error:
            return _Source(mark, None, f"cannot read template {path}: {error.strerror}")
        except TemplateError as error:
            return _Source(mark, None, f"Unable to process template {path}, {error}")


def check(confdir: Path, prefix: str, prefix_mode: str) -> list[ConfigError]:
    """Return all that is wrong with a confdir's resources and templates."""
    catalog = Catalog(confdir, prefix, prefix_mode, Machine())
    catalog.refresh()
    found = [error for errors in catalog.errors.values() for error in errors]
    return [*found, *catalog.check_templates()]


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

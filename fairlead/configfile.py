# SPDX-License-Identifier: Apache-2.0
"""Configuration files as a list of keys, each with the line it stands on.

TOML and JSON by the file's ending (`.json`, else TOML). Tables are flattened with dots. The
parsers of the standard library tell no lines, so a scan of the text finds them; a key that the
scan cannot place (written inline, or quoted oddly) is reported with the file's name alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fairlead.errors import ConfigError, ConfigErrors


@dataclass(frozen=True, slots=True)
class FileKey:
    """One key of a file.

    Attributes:
        key: as written; tables are joined with dots.
        value: as the parser gave it: str, int, float, bool, list, a date, None.
        where: "path:line".
    """

    key: str
    value: object
    where: str


def read(path: str) -> tuple[FileKey, ...]:
    """Return the keys of a file.

    Raises:
        FileNotFoundError: the caller knows whether a missing file matters.
        ConfigErrors: it cannot be read, or is not TOML or JSON.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigErrors(
            (ConfigError("file", path, path, f"cannot be read: {reason}"),)
        ) from error
    return parse(path, text)


def parse(path: str, text: str) -> tuple[FileKey, ...]:
    """Return the keys of a file's text; errors as `read`."""
    return _json(path, text) if path.endswith(".json") else _toml(path, text)


def _broken(path: str, line: int, reason: str) -> ConfigErrors:
    return ConfigErrors((ConfigError("file", path, f"{path}:{line}", reason),))


def _toml(path: str, text: str) -> tuple[FileKey, ...]:
    import tomllib

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = int(place[1]) if place else text.count("\n") + 1
        reason = re.sub(r" \(at .*\)", "", str(error))
        raise _broken(path, line, f"not TOML: {reason[:1].lower()}{reason[1:]}") from error
    return _placed(path, document, _toml_lines(text))


_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?$")
_ASSIGN = re.compile(r"""\s*((?:[A-Za-z0-9_.-]+|"[^"]*"|'[^']*')(?:\s*\.\s*[\w"'-]+)*)\s*=""")


def _toml_lines(text: str) -> dict[str, int]:
    lines: dict[str, int] = {}
    table = ""
    inside = ""  # the quotes of a text over several lines
    for number, line in enumerate(text.splitlines(), 1):
        if inside:
            if inside in line:
                inside = ""
            continue
        header = _HEADER.match(line)
        if header:
            table = _unquote(header[1]) + "."
            continue
        assign = _ASSIGN.match(line)
        if assign:
            lines.setdefault(table + _unquote(assign[1]), number)
            for quotes in ('"""', "'''"):
                if line.count(quotes) % 2:
                    inside = quotes
    return lines


def _unquote(key: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in key.split("."))


def _json(path: str, text: str) -> tuple[FileKey, ...]:
    import json

    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        reason = f"not JSON: {error.msg[:1].lower()}{error.msg[1:]}"
        raise _broken(path, error.lineno, reason) from error
    if not isinstance(document, dict):
        raise _broken(path, 1, "not a JSON object")
    return _placed(path, document, _json_lines(text))


_JSON_PART = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*:)?|[{}\[\]\n]')


def _json_lines(text: str) -> dict[str, int]:
    lines: dict[str, int] = {}
    number = 1
    path: list[str] = []
    pending = ""
    depth_of_list = 0
    for part in _JSON_PART.finditer(text):
        match part[0]:
            case "\n":
                number += 1
            case "{":
                path.append(pending)
                pending = ""
            case "}":
                path.pop()
            case "[":
                depth_of_list += 1
            case "]":
                depth_of_list -= 1
            case _ if part[2] and not depth_of_list:
                pending = part[1]
                lines.setdefault(".".join((*filter(None, path), pending)), number)
                number += part[2].count("\n")
    return lines


def _placed(path: str, document: dict[str, object], lines: dict[str, int]) -> tuple[FileKey, ...]:
    found: list[FileKey] = []

    def walk(table: dict[str, object], prefix: str) -> None:
        for name, value in table.items():
            key = prefix + name
            if isinstance(value, dict) and value:
                walk(value, key + ".")
            else:
                line = lines.get(key)
                found.append(FileKey(key, value, f"{path}:{line}" if line else path))

    walk(document, "")
    return tuple(found)

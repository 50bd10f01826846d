# SPDX-License-Identifier: Apache-2.0
"""`output_format`: what a rendered file must parse as. Pure."""

from __future__ import annotations

import json
import tomllib


def fault(name: str, content: bytes) -> str:
    """Return what is wrong with `content` as JSON, YAML, TOML or XML; "" when it is good."""
    try:
        text = content.decode("utf-8")
        if name == "json":
            json.loads(text)
        elif name in ("yaml", "yml"):
            import yaml  # 30 ms, and few resources ask for it

            try:
                list(yaml.compose_all(text, Loader=yaml.SafeLoader))
            except yaml.YAMLError as error:
                return " ".join(str(error).split())
        elif name == "toml":
            tomllib.loads(text)
        elif name == "xml":
            return _xml(text)
    except (ValueError, RecursionError) as error:  # tomllib, json and decode raise it
        return str(error)
    return ""


def _xml(text: str) -> str:
    from xml.parsers import expat

    parser = expat.ParserCreate()
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        return str(error)
    return ""

# SPDX-License-Identifier: Apache-2.0
"""RE2: Go's regular expressions, in linear time. Pure."""

from __future__ import annotations

from typing import Any

import re2


class RegexpError(ValueError):
    """RE2 refuses an expression; the message is its reason."""


def compiled(pattern: str | bytes, memory: int, **more: Any) -> Any:
    """Return a compiled expression.

    Args:
        memory: bytes that it may take.
        more: others of RE2's options.

    Raises:
        RegexpError: it is no expression, or needs more.
    """
    options = re2.Options()
    options.max_mem = memory
    options.log_errors = False
    for name, value in more.items():
        setattr(options, name, value)
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        words = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise RegexpError(words) from error

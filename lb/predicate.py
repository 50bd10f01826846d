# SPDX-License-Identifier: Apache-2.0
"""Whether a request is tried again: failover predicates (specs/vulcand.md §7). Pure.

    IsNetworkError() && RequestMethod() == "GET" && Attempts() < 20

After each try the predicate is asked; if it is false, or MOST_TRIES were made, the last answer
stands. Beyond the original: `!`, IsIdempotent(), IsTimeout(), IsConnectError(), RequestPath().
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from lb import expr
from lb.expr import And, Call, Compare, ExpressionError, Literal, Node, Not, Or

DEFAULT: Final = 'IsNetworkError() && RequestMethod() == "GET" && Attempts() < 20'
MOST_TRIES: Final = 11
"""The original gives up when tries > 10 (§7)."""

IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is known after a try.

    Attributes:
        number: tries made, 1 after the first.
        status: the last response's code, or the one that the failure would be answered with.
        connected: whether the server was reached.
    """

    method: bytes
    path: bytes
    number: int
    status: int
    connected: bool = True


Predicate = Callable[[Attempt], bool]

_FUNCTIONS: Final[dict[str, tuple[type, Callable[[Attempt], Any]]]] = {
    "IsNetworkError": (bool, lambda a: a.status in (502, 504)),
    "IsTimeout": (bool, lambda a: a.status == 504),
    "IsConnectError": (bool, lambda a: not a.connected),
    "IsIdempotent": (bool, lambda a: a.method in IDEMPOTENT),
    "Attempts": (int, lambda a: a.number),
    "ResponseCode": (int, lambda a: a.status),
    "RequestMethod": (str, lambda a: a.method.decode("latin-1")),
    "RequestPath": (str, lambda a: a.path.decode("latin-1")),
}
OPERATORS: Final = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@lru_cache(maxsize=256)
def parse(text: str) -> Predicate:
    """Return the test that `text` spells.

    Raises:
        ExpressionError: no predicate; says why.
    """
    return _truth(expr.parse(text))


def _truth(node: Node) -> Predicate:
    match node:
        case And():
            left, right = _truth(node.left), _truth(node.right)
            return lambda a: left(a) and right(a)
        case Or():
            left, right = _truth(node.left), _truth(node.right)
            return lambda a: left(a) or right(a)
        case Not():
            inner = _truth(node.operand)
            return lambda a: not inner(a)
        case Compare():
            return _compare(node)
        case _:
            kind, value = _value(node)
            if kind is not bool:
                raise ExpressionError("a condition is wanted, e.g. Attempts() <= 2")
            return lambda a: bool(value(a))


def _compare(node: Compare) -> Predicate:
    left_kind, left = _value(node.left)
    right_kind, right = _value(node.right)
    if left_kind is not right_kind or left_kind is bool:
        raise ExpressionError(f'the two sides of "{node.op}" do not compare')
    if left_kind is str and node.op not in ("==", "!="):
        raise ExpressionError(f'strings do not compare by "{node.op}"')
    compare = OPERATORS[node.op]
    return lambda a: bool(compare(left(a), right(a)))


def _value(node: Node) -> tuple[type, Callable[[Attempt], Any]]:
    match node:
        case Literal(value=value):
            if isinstance(value, float):
                raise ExpressionError("integers and strings only")
            return type(value), lambda _: value
        case Call(name=name, args=args):
            if name not in _FUNCTIONS:
                raise ExpressionError(f'unknown function "{name}"; known: {", ".join(_FUNCTIONS)}')
            if args:
                raise ExpressionError(f"{name} takes no argument")
            return _FUNCTIONS[name]
        case _:
            raise ExpressionError("a function or a literal is wanted")


def again(predicate: Predicate, attempt: Attempt) -> bool:
    """Say whether to try once more."""
    return attempt.number < MOST_TRIES and predicate(attempt)

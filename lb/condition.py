# SPDX-License-Identifier: Apache-2.0
"""When a circuit breaker trips: conditions over rolling figures (specs/vulcand.md §4.4). Pure.

    NetworkErrorRatio() > 0.5 || LatencyAtQuantileMS(95.0) > 800

Integers and floats mix, in arguments and comparisons (V9). Beyond the original:
RequestThreshold() and `!`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lb import expr
from lb.expr import And, Call, Compare, ExpressionError, Literal, Node, Not, Or
from lb.predicate import OPERATORS
from lb.window import Figures

Condition = Callable[[Figures, float], bool]
"""Says whether it holds, of these figures, now."""
_Number = Callable[[Figures, float], float]

_TAKES: Final = {
    "NetworkErrorRatio": 0,
    "LatencyAtQuantileMS": 1,
    "ResponseCodeRatio": 4,
    "RequestThreshold": 0,
}


def parse(text: str) -> Condition:
    """Return the test that `text` spells.

    Raises:
        ExpressionError: no condition; says why.
    """
    return _truth(expr.parse(text))


def _truth(node: Node) -> Condition:
    match node:
        case And():
            left, right = _truth(node.left), _truth(node.right)
            return lambda f, now: left(f, now) and right(f, now)
        case Or():
            left, right = _truth(node.left), _truth(node.right)
            return lambda f, now: left(f, now) or right(f, now)
        case Not():
            inner = _truth(node.operand)
            return lambda f, now: not inner(f, now)
        case Compare(op=op):
            first, second = _number(node.left), _number(node.right)
            compare = OPERATORS[op]
            return lambda f, now: bool(compare(first(f, now), second(f, now)))
        case _:
            raise ExpressionError("a comparison is wanted, e.g. NetworkErrorRatio() > 0.5")


def _number(node: Node) -> _Number:
    match node:
        case Literal(value=value) if not isinstance(value, str):
            constant = float(value)
            return lambda f, now: constant
        case Call(name=name, args=args):
            return _function(name, args)
        case _:
            raise ExpressionError("a function or a number is wanted")


def _function(name: str, args: tuple[Node, ...]) -> _Number:
    if name not in _TAKES:
        raise ExpressionError(f'unknown function "{name}"; known: {", ".join(_TAKES)}')
    numbers = [a.value for a in args if isinstance(a, Literal) and not isinstance(a.value, str)]
    if len(numbers) != len(args) or len(args) != _TAKES[name]:
        raise ExpressionError(f"{name} takes {_TAKES[name] or 'no'} numbers")
    if name == "NetworkErrorRatio":
        return lambda f, now: f.network_error_ratio(now)
    if name == "RequestThreshold":
        return lambda f, now: f.requests(now)
    if name == "LatencyAtQuantileMS":
        quantile = (float(numbers[0]),)
        if not 0 <= quantile[0] <= 100:
            raise ExpressionError("a quantile lies between 0 and 100")
        return lambda f, now: f.quantiles(now, quantile)[0] // 1000
    a, b, c, d = (int(number) for number in numbers)
    return lambda f, now: f.code_ratio(now, (a, b, c, d))

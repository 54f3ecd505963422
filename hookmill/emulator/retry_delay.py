"""`Upstash-Retry-Delay`: an arithmetic expression in milliseconds with the variable `retried`.

Python's parser reads it. Only a short list of operators and functions is allowed, and nothing else
is ever evaluated.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

from hookmill.emulator.models import ApiError

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "pow": math.pow,
    "sqrt": math.sqrt,
    "abs": abs,
    "exp": math.exp,
    "floor": math.floor,
    "ceil": math.ceil,
    "round": round,
    "min": min,
    "max": max,
}
_ARGUMENTS = {"pow": (2, 2), "min": (1, 16), "max": (1, 16)}
_OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
_LONGEST = 256


def check(text: str) -> str:
    """Return the expression; raise `ApiError` if it is invalid."""
    _compiled(_parse(text).body)
    return text


def milliseconds(text: str, retried: int) -> int | None:
    """Return the delay in milliseconds, at least 0; None where the expression has no finite value.

    `retried` is the number of earlier retries, 0 after the first attempt.
    """
    try:
        return max(0, round(_compiled(_parse(text).body)(retried)))
    except (ApiError, ArithmeticError, ValueError):
        return None


def _parse(text: str) -> ast.Expression:
    if len(text) > _LONGEST:
        raise ApiError(400, f"retry delay: longer than {_LONGEST} characters")
    try:
        return ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ApiError(400, f"retry delay: cannot read {text!r}") from None


def _compiled(node: ast.expr) -> Callable[[float], float]:
    """Return a function that computes the expression from `retried`.

    Raises `ApiError` if any part is not allowed, even a part that is never computed.
    """
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() | float() as number):
            return lambda _: float(number)
        case ast.Name(id="retried"):
            return float
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _applied(_OPERATORS[type(op)], left, right)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _applied(_OPERATORS[type(op)], operand)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            least, most = _ARGUMENTS.get(name, (1, 1))
            if least <= len(args) <= most:
                return _applied(_FUNCTIONS[name], *args)
    raise ApiError(
        400,
        f"retry delay: {ast.unparse(node)!r} is not allowed: use numbers, retried, + - * / % and "
        f"{', '.join(_FUNCTIONS)}",
    )


def _applied(function: Callable[..., float], *parts: ast.expr) -> Callable[[float], float]:
    arguments = [_compiled(part) for part in parts]
    return lambda retried: float(function(*(argument(retried) for argument in arguments)))

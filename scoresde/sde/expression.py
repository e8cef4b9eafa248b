"""Functions of time written as text, such as `sqrt(0.1 + 19.9*t)`.

A text may come with somebody else's configuration, so it is never evaluated as Python: it is parsed, and only the
arithmetic listed here is carried out, each operation by torch.
"""

import ast
from collections.abc import Callable

import torch
from torch import Tensor

from scoresde.errors import InputError

_CONSTANTS = {"pi": torch.pi, "e": torch.e}
_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    name: getattr(torch, name)
    for name in ("exp", "log", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh", "expm1", "log1p")
}
_BINARY: dict[type, Callable[[Tensor, Tensor], Tensor]] = {
    ast.Add: torch.add,
    ast.Sub: torch.sub,
    ast.Mult: torch.mul,
    ast.Div: torch.div,
    ast.Pow: torch.pow,
}
_UNARY: dict[type, Callable[[Tensor], Tensor]] = {ast.USub: torch.neg, ast.UAdd: torch.positive}
_LONGEST = 500  # characters; keeps the depth of an expression within what Python can walk
_KNOWN = f"numbers, t, {', '.join(_CONSTANTS)}, + - * / ** and {', '.join(_FUNCTIONS)}"

Node = Callable[[Tensor], Tensor]


def parse(text: str, name: str) -> Node:
    """The function of t that `text` describes: of float64 tensors, whose shape a constant broadcasts to.

    Args:
        text: numbers, t, pi, e, + - * / **, parentheses and the named functions.
        name: of the argument, for messages.

    Raises:
        InputError: names what is not allowed in the text.
    """
    if len(text) > _LONGEST:
        raise InputError(f"{name}: {len(text)} characters are too many; give an expression of at most {_LONGEST}")
    try:
        return _node(ast.parse(text.strip(), mode="eval").body, name, text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: {text!r} is not an expression in t; write one such as sqrt(0.1 + 19.9*t)") from None


def _node(tree: ast.expr, name: str, text: str) -> Node:
    match tree:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() | float() as value):
            number = _number(value)  # in float64: whole numbers of Python have no bound, and 9**9**9 would never end
            return lambda t: number
        case ast.Name(id="t"):
            return lambda t: t
        case ast.Name(id=constant) if constant in _CONSTANTS:
            return _node(ast.Constant(_CONSTANTS[constant]), name, text)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            unary, inner = _UNARY[type(op)], _node(operand, name, text)
            return lambda t: unary(inner(t))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            binary, a, b = _BINARY[type(op)], _node(left, name, text), _node(right, name, text)
            return lambda t: binary(a(t), b(t))
        case ast.Call(func=ast.Name(id=called), args=[argument], keywords=[]) if called in _FUNCTIONS:
            function, inner = _FUNCTIONS[called], _node(argument, name, text)
            return lambda t: function(inner(t))
    hint = "; write ** for a power" if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.BitXor) else ""
    raise InputError(f"{name}: {ast.unparse(tree)!r} in {text!r} is not allowed{hint}; give {_KNOWN}")


def _number(value: float) -> Tensor:
    try:
        return torch.tensor(float(value), dtype=torch.float64)
    except OverflowError:
        return torch.tensor(torch.inf, dtype=torch.float64)

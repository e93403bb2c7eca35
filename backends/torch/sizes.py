"""Option arithmetic as Python expressions."""

from __future__ import annotations

from collections.abc import Callable

from seqdsl.backends.torch.python import Atom, Binary, Expr, Unary, call, number, quoted
from seqdsl.ir.sizes import Apply, Lit, Opt, Size

_INFIX = frozenset(
    ["+", "-", "*", "/", "//", "%", "**", "<", "<=", ">", ">=", "==", "!=", "and", "or"]
)
_FUNCTIONS = {
    "min": "min",
    "max": "max",
    "abs": "abs",
    "round": "round",
    "sqrt": "math.sqrt",
    "exp": "math.exp",
    "log": "math.log",
    "floor": "math.floor",
    "ceil": "math.ceil",
}


def size_code(size: Size, option: Callable[[str], Expr]) -> Expr:
    """`size` in Python, with `option` saying how an option is read."""
    match size:
        case Lit(value=value):
            return Atom(quoted(value)) if isinstance(value, str) else number(value)
        case Opt(name=name):
            return option(name)
        case Apply(op=op, args=args):
            parts = tuple(size_code(a, option) for a in args)
            if op in _INFIX:
                return Binary(op, *parts)
            if op in ("neg", "not"):
                return Unary("-" if op == "neg" else "not", parts[0])
            return call(_FUNCTIONS[op], *parts)

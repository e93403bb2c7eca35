"""Expressions and types as text: flat, or wrapped to a width."""

from __future__ import annotations

from collections.abc import Sequence

from seqdsl.syntax import ast

WIDTH = 88
STEP = 4

_LEVELS = {"or": 1, "and": 2, "not": 3} | {"+": 5, "-": 5, "**": 8}
_LEVELS.update(dict.fromkeys(("*", "/", "//", "%"), 6))
_COMPARE, _FACTOR, _ATOM = 4, 7, 9
_ARITHMETIC = ("+", "-", "*", "/", "//", "%", "**")

Part = ast.Expr | ast.Item | ast.Keyword | ast.DimItem | ast.DimMap


def format_expr(expr: ast.Expr, level: int = 0, tight: bool = False) -> str:
    """An expression on one line, in parentheses if it binds looser than `level`."""
    text = _flat(expr, tight)
    return f"({text})" if level_of(expr) < level else text


def level_of(expr: ast.Expr) -> int:
    """How tightly an expression binds, from 0 (`a if c else b`) to 9 (a name)."""
    match expr:
        case ast.Conditional() | ast.Call(key=str()) | ast.ParamExpr(key=str()):
            return 0
        case ast.Binary(op=op):
            return _LEVELS[op]
        case ast.Unary(op=op):
            return _LEVELS["not"] if op == "not" else _FACTOR
        case ast.Compare():
            return _COMPARE
        case ast.Number(text=text) if text.startswith("-"):
            return _FACTOR
        case _:
            return _ATOM


def sides(expr: ast.Binary) -> tuple[int, int]:
    """The levels that the two operands of an operator need."""
    level = _LEVELS[expr.op]
    return (_ATOM, _FACTOR) if expr.op == "**" else (level, level + 1)


def _flat(expr: ast.Expr, tight: bool = False) -> str:
    match expr:
        case ast.Name(id=text) | ast.Number(text=text):
            return text
        case ast.Bool(value=value):
            return "true" if value else "false"
        case ast.String(value=value):
            return f'"{value}"'
        case ast.Unary(op=op, operand=operand):
            inner = format_expr(operand, level_of(expr), tight)
            return f"not {inner}" if op == "not" else op + inner
        case ast.Binary(op=op, left=left, right=right):
            first, second = sides(expr)
            sign = op if tight else f" {op} "
            return (
                format_expr(left, first, tight)
                + sign
                + format_expr(right, second, tight)
            )
        case ast.Compare(ops=ops, operands=operands):
            first, *rest = [format_expr(operand, _COMPARE + 1) for operand in operands]
            pairs = zip(ops, rest, strict=True)
            return first + "".join(f" {op} {text}" for op, text in pairs)
        case ast.Conditional(then=then, condition=condition, otherwise=otherwise):
            choice = f"{format_expr(then, 1)} if {format_expr(condition, 1)}"
            return f"{choice} else {format_expr(otherwise)}"
        case _:
            head, opening, parts, closing = brackets(expr)
            return head + opening + ", ".join(map(format_part, parts)) + closing


def brackets(expr: ast.Expr) -> tuple[str, str, Sequence[Part], str]:
    """A call, index, … as what stands before its last brackets, in, and after them."""
    match expr:
        case ast.Call(func=func, brackets=items, args=args, keywords=keywords):
            head = _callee(func, items is not None)
            if items is not None:
                head += f"[{', '.join(map(format_part, items))}]"
            return head, "(", (*args, *keywords), ")" + _key(expr.key)
        case ast.ParamExpr(args=args, keywords=keywords, key=key):
            if not args and not keywords and key is None:
                return "param", "", (), ""
            return "param", "(", (*args, *keywords), ")" + _key(key)
        case ast.Index(value=value, items=items):
            return format_expr(value, _ATOM), "[", items, "]"
        case ast.Redim(value=value, maps=maps):
            return format_expr(value, _ATOM), ".(", maps, ")"
        case ast.DimList(items=items):
            return "", "[", items, "]"
        case ast.Member(value=value, name=name):
            return f"{format_expr(value, _ATOM)}.{name}", "", (), ""
        case _:
            return _flat(expr), "", (), ""


def _callee(func: ast.Expr, bracketed: bool) -> str:
    # Without the parentheses `(x[K])(y)` would be a call of x with brackets, and
    # `(param)(y)` a parameter.
    ambiguous = isinstance(func, ast.Index | ast.ParamExpr)
    if ambiguous and not bracketed:
        return f"({_flat(func)})"
    return format_expr(func, _ATOM)


def _key(key: str | None) -> str:
    return f" as {key}" if key else ""


def format_part(part: Part) -> str:
    """One entry between brackets, on one line."""
    match part:
        case ast.Keyword(name=name, value=value):
            return f"{name} = {format_expr(value)}"
        case ast.DimItem(expr=expr, rename=rename):
            return (dense(expr) if expr else "...") + _key(rename)
        case ast.Item(axis=str(axis), slice=ast.Slice() as cut, rename=rename):
            return f"{axis} = {_slice(cut)}{_key(rename)}"
        case ast.Item(expr=expr, axis=axis, rename=rename):
            text = dense(expr) if expr else ""
            return (f"{axis} = {text}" if axis else text) + _key(rename)
        case ast.DimMap(source=source, target=target):
            return f"{_side(source)} -> {_side(target)}"
        case _:
            return format_expr(part)


def _slice(cut: ast.Slice) -> str:
    start, stop, step = (
        dense(end) if end else "" for end in (cut.start, cut.stop, cut.step)
    )
    return f"{start}:{stop}:{step}" if step else f"{start}:{stop}"


def _side(dims: tuple[ast.Expr, ...]) -> str:
    match dims:
        case (dim,) if not isinstance(dim, ast.DimList):
            return format_expr(dim)
        case _:
            return f"[{', '.join(map(dense, dims))}]"


def dense(expr: ast.Expr) -> str:
    """An expression in an index, a shape or a default: `t-1`, `D/heads`.

    Arithmetic on plain names and numbers is set without blanks there.
    """
    return format_expr(expr, level_before_key(expr), tight=_plain(expr))


def _plain(expr: ast.Expr) -> bool:
    match expr:
        case ast.Name() | ast.Number():
            return True
        case ast.Unary(op="-" | "+", operand=operand):
            return _plain(operand)
        case ast.Binary(op=op, left=left, right=right):
            return op in _ARITHMETIC and _plain(left) and _plain(right)
        case _:
            return False


def level_before_key(expr: ast.Expr) -> int:
    """The level an expression needs where an `as` may follow that is not its own."""
    match expr:
        case ast.Call(key=str()) | ast.ParamExpr(key=str()):
            return 1
        case ast.Conditional(otherwise=otherwise):
            return level_before_key(otherwise)
        case _:
            return 0


def format_type(type_: ast.TypeExpr) -> str:
    """`float [H, K]`, `[H]` or `int`."""
    if type_.shape is None:
        return type_.dtype or ""
    shape = f"[{', '.join(map(format_part, type_.shape))}]"
    return f"{type_.dtype} {shape}" if type_.dtype else shape

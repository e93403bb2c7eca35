"""Builds the expressions and types of a spec; see `build`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from seqdsl.diagnostics import Diagnostic, SpecError
from seqdsl.source import Span
from seqdsl.syntax import ast
from seqdsl.syntax.lex import Token

# Children are tokens (all are kept, for the spans), nodes, tuples of either, and None
# for each token of an optional part that is absent. The parser is not typed.
Children = list[Any]


def span_of(children: Children) -> Span:
    """From the first to the last child that is there."""
    present = [c for c in children if c is not None]
    first: Span = _at(present[0], 0).span
    last: Span = _at(present[-1], -1).span
    return Span(first.source, first.start, last.end)


def _at(child: Any, end: int) -> Any:
    """A child, or the first or last of those in it."""
    # A token is a tuple too, of its fields.
    while isinstance(child, tuple) and not isinstance(child, Token):
        child = cast("tuple[Any, ...]", child)[end]
    return child


def dotted(key: tuple[Token, ...] | None) -> str | None:
    """`foo.bar` from the tokens of a key."""
    return ".".join(token.text for token in key) if key else None


def take_key(expr: Any) -> tuple[Any, str | None]:
    """Split a trailing `as key` off an expression.

    The grammar gives the `as w` of `~ normal(0, 1) as w` to the call, where it belongs
    to the statement around it.
    """
    whole = expr
    spine: list[tuple[Any, str]] = []
    while expr is not None and not _grouped(expr):
        match expr:
            case ast.Call(key=str(key)) | ast.ParamExpr(key=str(key)):
                expr = replace(expr, key=None)
                for parent, field in reversed(spine):
                    expr = replace(parent, **{field: expr})
                return expr, key
            case ast.Binary(right=last):
                spine.append((expr, "right"))
            case ast.Unary(operand=last):
                spine.append((expr, "operand"))
            case ast.Conditional(otherwise=last):
                spine.append((expr, "otherwise"))
            case _:
                return whole, None
        expr = last
    return whole, None


def _grouped(expr: ast.Expr) -> bool:
    """Whether a keyed or indexed expression stands in parentheses of its own."""
    span = expr.span
    return span.source.text[span.end - 1] == ")"


def _renamed(children: Children) -> tuple[Any, str | None]:
    """`expr as name`, whichever rule has taken the `as`."""
    expr, _, name = children
    if name:
        return expr, name.text
    taken, key = take_key(expr)
    if key and "." in key:
        raise SpecError([_dotted_dim(expr)])
    return taken, key


def _dotted_dim(expr: ast.Expr) -> Diagnostic:
    return Diagnostic(
        "E0049",
        "a dim has a name without dots",
        expr.span,
        help=("write a single name after `as`",),
    )


def _unnamed_slice(span: Span) -> Diagnostic:
    return Diagnostic(
        "E0042",
        "a slice names the dim that it makes",
        span,
        help=("write `x[K = 0:4 as J]`",),
    )


def _positional(args: tuple[Any, ...] | None) -> tuple[ast.Expr, ...]:
    return tuple(arg for arg in args or () if not isinstance(arg, ast.Keyword))


def _keywords(args: tuple[Any, ...] | None) -> tuple[ast.Keyword, ...]:
    keywords = False
    for arg in args or ():
        if keywords and not isinstance(arg, ast.Keyword):
            raise SpecError([_late_positional(arg)])
        keywords = isinstance(arg, ast.Keyword)
    return tuple(arg for arg in args or () if isinstance(arg, ast.Keyword))


def _late_positional(arg: ast.Expr) -> Diagnostic:
    return Diagnostic(
        "E0043",
        "this argument has no name but follows one that has",
        arg.span,
        help=("put the arguments without a name first",),
    )


def _side(expr: Any) -> tuple[ast.Expr, ...]:
    """One side of `x.(H -> [heads, K])`."""
    if not isinstance(expr, ast.DimList):
        return (expr,)
    for item in expr.items:
        if item.expr is None or item.rename is not None:
            raise SpecError([_odd_side(item)])
    return tuple(item.expr for item in expr.items if item.expr is not None)


def _odd_side(item: ast.DimItem) -> Diagnostic:
    return Diagnostic(
        "E0044",
        "only names of dims can stand in a `.(… -> …)`",
        item.span,
        help=("write the dims one by one: `x.([heads, K] -> D)`",),
    )


class ExpressionBuilder:
    """One method per rule or alias of the grammar that makes a type or an expression."""

    # ---- Types

    def type_scalar(self, children: Children) -> ast.TypeExpr:
        return ast.TypeExpr(dtype=children[0].text, shape=None, span=span_of(children))

    def type_shape(self, children: Children) -> ast.TypeExpr:
        dtype, shape = children
        return ast.TypeExpr(
            dtype=dtype.text if dtype else None,
            shape=shape.items,
            span=span_of(children),
        )

    def dtype(self, children: Children) -> Token:
        return children[0]

    def shape(self, children: Children) -> ast.DimList:
        return ast.DimList(items=children[1] or (), span=span_of(children))

    def dim_rest(self, children: Children) -> ast.DimItem:
        return ast.DimItem(expr=None, span=span_of(children))

    def dim_plain(self, children: Children) -> ast.DimItem:
        expr, rename = _renamed(children)
        return ast.DimItem(expr=expr, rename=rename, span=span_of(children))

    # ---- Expressions

    def conditional(self, children: Children) -> ast.Conditional:
        then, _, condition, _, otherwise = children
        return ast.Conditional(
            then=then, condition=condition, otherwise=otherwise, span=span_of(children)
        )

    def binary(self, children: Children) -> ast.Binary:
        left, op, right = children
        return ast.Binary(op=op.text, left=left, right=right, span=span_of(children))

    def unary(self, children: Children) -> ast.Unary:
        op, operand = children
        return ast.Unary(op=op.text, operand=operand, span=span_of(children))

    def compare(self, children: Children) -> ast.Compare:
        return ast.Compare(
            ops=tuple(op.text for op in children[1::2]),
            operands=tuple(children[::2]),
            span=span_of(children),
        )

    def index(self, children: Children) -> ast.Index:
        return ast.Index(value=children[0], items=children[2], span=span_of(children))

    def call(self, children: Children) -> ast.Call:
        func, _, args, _, _, key = children
        brackets = None
        if isinstance(func, ast.Index) and not _grouped(func):
            func, brackets = func.value, func.items
        return ast.Call(
            func=func,
            brackets=brackets,
            args=_positional(args),
            keywords=_keywords(args),
            key=dotted(key),
            span=span_of(children),
        )

    def redim(self, children: Children) -> ast.Redim:
        return ast.Redim(value=children[0], maps=children[3], span=span_of(children))

    def member(self, children: Children) -> ast.Member:
        return ast.Member(
            value=children[0], name=children[2].text, span=span_of(children)
        )

    def item(self, children: Children) -> ast.Item:
        expr, rename = _renamed(children)
        return ast.Item(expr=expr, rename=rename, span=span_of(children))

    def item_at(self, children: Children) -> ast.Item:
        axis, _, expr = children
        return ast.Item(axis=axis.text, expr=expr, span=span_of(children))

    def item_slice(self, children: Children) -> ast.Item:
        axis, _, cut, as_, name = children
        last = "step" if cut.step else "stop"
        expr, rename = _renamed([getattr(cut, last), as_, name])
        if rename is None:
            raise SpecError([_unnamed_slice(span_of(children))])
        cut = replace(cut, **{last: expr})
        return ast.Item(
            axis=axis.text, slice=cut, rename=rename, span=span_of(children)
        )

    def slice(self, children: Children) -> ast.Slice:
        start, _, stop, _, step = children
        return ast.Slice(start=start, stop=stop, step=step, span=span_of(children))

    def commas(self, children: Children) -> tuple[Any, ...]:
        return tuple(c for c in children if not isinstance(c, Token))

    options = arguments = dims = items = args = dimmaps = commas

    def keyword(self, children: Children) -> ast.Keyword:
        name, _, value = children
        return ast.Keyword(name=name.text, value=value, span=span_of(children))

    def dimmap(self, children: Children) -> ast.DimMap:
        source, _, target = children
        return ast.DimMap(
            source=_side(source), target=_side(target), span=span_of(children)
        )

    def name(self, children: Children) -> ast.Name:
        return ast.Name(id=children[0].text, span=children[0].span)

    name_of_dtype = name

    def number(self, children: Children) -> ast.Number:
        text: str = children[0].text
        integral = text.replace("_", "").isdecimal()
        value = int(text) if integral else float(text)
        return ast.Number(value=value, text=text, span=children[0].span)

    def string(self, children: Children) -> ast.String:
        return ast.String(value=children[0].text[1:-1], span=children[0].span)

    def boolean(self, children: Children) -> ast.Bool:
        return ast.Bool(value=children[0].text == "true", span=children[0].span)

    def param_expr(self, children: Children) -> ast.ParamExpr:
        _, _, args, _, _, key = children
        return ast.ParamExpr(
            args=_positional(args),
            keywords=_keywords(args),
            key=dotted(key),
            span=span_of(children),
        )

    def group(self, children: Children) -> ast.Expr:
        # The brackets belong to the span: a caret under `(1 - z) * n` wants them.
        return replace(children[1], span=span_of(children))

    def dim_list(self, children: Children) -> ast.DimList:
        return children[0]

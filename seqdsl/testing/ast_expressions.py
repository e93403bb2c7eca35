"""Hypothesis strategies for expressions and types, as syntax trees."""

from __future__ import annotations

from typing import TypeVar

from hypothesis import strategies as st

from seqdsl.syntax import ast

T = TypeVar("T")
Exprs = st.SearchStrategy[ast.Expr]

names = st.sampled_from(
    ["x", "h", "S", "D", "H", "heads", "t", "n", "sum", "linear", "α", "W1", "_"]
)
keys = st.none() | st.lists(names, min_size=1, max_size=2).map(".".join)
name_nodes = st.builds(ast.Name, id=names)


def tuples(
    entries: st.SearchStrategy[T], least: int = 0, most: int = 2
) -> st.SearchStrategy[tuple[T, ...]]:
    """Tuples of `least` to `most` entries."""
    # Unlike `map(tuple)`, an annotated function keeps the type of the entries.
    return st.lists(entries, min_size=least, max_size=most).map(_tuple)


def _tuple(entries: list[T]) -> tuple[T, ...]:
    return tuple(entries)


def _number(text: str) -> ast.Number:
    value = int(text) if text.replace("_", "").isdecimal() else float(text)
    return ast.Number(value=value, text=text)


_numbers = st.one_of(
    st.sampled_from(["0", "1", "1e-6", ".5", "0.02", "1_000", "2E+3"]),
    st.integers(min_value=0).map(str),
    st.floats(min_value=0, allow_nan=False, allow_infinity=False).map(repr),
).map(_number)
_atoms: Exprs = st.one_of(
    name_nodes,
    _numbers,
    st.builds(ast.String, value=st.text("abc #()='-é", max_size=6)),
    st.builds(ast.Bool, value=st.booleans()),
    st.just(ast.ParamExpr()),
    st.just(ast.DimList(items=())),
)


def _dims(exprs: Exprs) -> st.SearchStrategy[ast.DimItem]:
    return st.just(ast.DimItem(expr=None)) | st.builds(
        ast.DimItem, expr=exprs, rename=st.none() | names
    )


def _items(exprs: Exprs) -> st.SearchStrategy[ast.Item]:
    end = st.none() | exprs
    cuts = st.builds(ast.Slice, start=end, stop=end, step=end)
    return st.one_of(
        st.builds(ast.Item, expr=exprs, rename=st.none() | names),
        st.builds(ast.Item, axis=names, expr=exprs),
        st.builds(ast.Item, axis=names, slice=cuts, rename=names),
    )


def _comparison(first: ast.Expr, rest: list[tuple[str, ast.Expr]]) -> ast.Compare:
    ops = tuple(op for op, _ in rest)
    return ast.Compare(ops=ops, operands=(first, *(expr for _, expr in rest)))


def _operations(exprs: Exprs) -> Exprs:
    binary = st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "and", "or"])
    compare = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
    rest = st.lists(st.tuples(compare, exprs), min_size=1, max_size=2)
    return st.one_of(
        st.builds(ast.Unary, op=st.sampled_from(["-", "+", "not"]), operand=exprs),
        st.builds(ast.Binary, op=binary, left=exprs, right=exprs),
        st.builds(_comparison, exprs, rest),
        st.builds(ast.Conditional, then=exprs, condition=exprs, otherwise=exprs),
    )


def _brackets(exprs: Exprs) -> Exprs:
    args = tuples(exprs)
    items = tuples(_items(exprs), least=1)
    keywords = tuples(st.builds(ast.Keyword, name=names, value=exprs))
    maps = tuples(st.builds(ast.DimMap, source=args, target=args), least=1)
    return st.one_of(
        st.builds(
            ast.Call,
            func=exprs,
            brackets=st.none() | items,
            args=args,
            keywords=keywords,
            key=keys,
        ),
        st.builds(ast.ParamExpr, args=args, keywords=keywords, key=keys),
        st.builds(ast.Index, value=exprs, items=items),
        st.builds(ast.Redim, value=exprs, maps=maps),
        st.builds(ast.Member, value=exprs, name=names),
        st.builds(ast.DimList, items=tuples(_dims(exprs))),
    )


def _deeper(exprs: Exprs) -> Exprs:
    return _operations(exprs) | _brackets(exprs)


expressions: Exprs = st.recursive(_atoms, _deeper, max_leaves=12)
"""Any expression."""

_small: Exprs = st.recursive(_atoms, _deeper, max_leaves=4)
_dtypes = st.sampled_from(["float", "int", "bool", "complex"])
types: st.SearchStrategy[ast.TypeExpr] = st.one_of(
    st.builds(ast.TypeExpr, dtype=_dtypes, shape=st.none()),
    st.builds(ast.TypeExpr, dtype=st.none() | _dtypes, shape=tuples(_dims(_small))),
)
"""Any type."""

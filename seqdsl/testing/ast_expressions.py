"""Hypothesis strategies for expressions and types, as syntax trees."""

from __future__ import annotations

from typing import TypeVar

from hypothesis import strategies as st

from seqdsl.syntax import ast

T = TypeVar("T")

names = st.sampled_from(
    ["x", "h", "S", "D", "H", "heads", "t", "n", "sum", "linear", "α", "W1", "_"]
)
keys = st.none() | st.lists(names, min_size=1, max_size=2).map(".".join)
name_nodes = st.builds(lambda id: ast.Name(id=id), names)


def _number(text: str) -> ast.Number:
    value = int(text) if text.replace("_", "").isdecimal() else float(text)
    return ast.Number(value=value, text=text)


_numbers = st.one_of(
    st.sampled_from(["0", "1", "1e-6", ".5", "0.02", "1_000", "2E+3"]),
    st.integers(min_value=0).map(str),
    st.floats(min_value=0, allow_nan=False, allow_infinity=False).map(repr),
).map(_number)
_strings = st.text("abc #()='-é", max_size=6).map(lambda value: ast.String(value=value))
_atoms = st.one_of(
    name_nodes,
    _numbers,
    _strings,
    st.booleans().map(lambda value: ast.Bool(value=value)),
    st.just(ast.ParamExpr()),
    st.just(ast.DimList(items=())),
)


def tuples(
    entries: st.SearchStrategy[T], least: int = 0, most: int = 2
) -> st.SearchStrategy[tuple[T, ...]]:
    """Tuples of `least` to `most` entries."""
    return st.lists(entries, min_size=least, max_size=most).map(tuple)


def _dims(exprs: st.SearchStrategy[ast.Expr]) -> st.SearchStrategy[ast.DimItem]:
    return st.just(ast.DimItem(expr=None)) | st.builds(
        lambda expr, rename: ast.DimItem(expr=expr, rename=rename),
        exprs,
        st.none() | names,
    )


def _items(exprs: st.SearchStrategy[ast.Expr]) -> st.SearchStrategy[ast.Item]:
    ends = st.none() | exprs
    slices = st.builds(
        lambda start, stop, step: ast.Slice(start=start, stop=stop, step=step),
        ends,
        ends,
        ends,
    )
    return st.one_of(
        st.builds(
            lambda expr, rename: ast.Item(expr=expr, rename=rename),
            exprs,
            st.none() | names,
        ),
        st.builds(lambda axis, expr: ast.Item(axis=axis, expr=expr), names, exprs),
        st.builds(
            lambda axis, cut, rename: ast.Item(axis=axis, slice=cut, rename=rename),
            names,
            slices,
            names,
        ),
    )


def _operations(exprs: st.SearchStrategy[ast.Expr]) -> st.SearchStrategy[ast.Expr]:
    binary = st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "and", "or"])
    compare = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])

    def comparison(first: ast.Expr, rest: list[tuple[str, ast.Expr]]) -> ast.Compare:
        ops = tuple(op for op, _ in rest)
        return ast.Compare(ops=ops, operands=(first, *(expr for _, expr in rest)))

    return st.one_of(
        st.builds(
            lambda op, operand: ast.Unary(op=op, operand=operand),
            st.sampled_from(["-", "+", "not"]),
            exprs,
        ),
        st.builds(
            lambda op, left, right: ast.Binary(op=op, left=left, right=right),
            binary,
            exprs,
            exprs,
        ),
        st.builds(
            comparison,
            exprs,
            st.lists(st.tuples(compare, exprs), min_size=1, max_size=2),
        ),
        st.builds(
            lambda then, condition, otherwise: ast.Conditional(
                then=then, condition=condition, otherwise=otherwise
            ),
            exprs,
            exprs,
            exprs,
        ),
    )


def _brackets(exprs: st.SearchStrategy[ast.Expr]) -> st.SearchStrategy[ast.Expr]:
    items = tuples(_items(exprs), least=1)
    keywords = tuples(
        st.builds(lambda name, value: ast.Keyword(name=name, value=value), names, exprs)
    )
    sides = tuples(exprs)
    maps = st.builds(
        lambda source, target: ast.DimMap(source=source, target=target), sides, sides
    )
    return st.one_of(
        st.builds(
            lambda func, brackets, args, keywords, key: ast.Call(
                func=func, brackets=brackets, args=args, keywords=keywords, key=key
            ),
            exprs,
            st.none() | items,
            tuples(exprs),
            keywords,
            keys,
        ),
        st.builds(
            lambda args, keywords, key: ast.ParamExpr(
                args=args, keywords=keywords, key=key
            ),
            tuples(exprs),
            keywords,
            keys,
        ),
        st.builds(
            lambda value, items: ast.Index(value=value, items=items), exprs, items
        ),
        st.builds(
            lambda value, maps: ast.Redim(value=value, maps=maps),
            exprs,
            tuples(maps, least=1),
        ),
        st.builds(lambda value, name: ast.Member(value=value, name=name), exprs, names),
        tuples(_dims(exprs)).map(lambda items: ast.DimList(items=items)),
    )


def _deeper(exprs: st.SearchStrategy[ast.Expr]) -> st.SearchStrategy[ast.Expr]:
    return _operations(exprs) | _brackets(exprs)


expressions: st.SearchStrategy[ast.Expr] = st.recursive(_atoms, _deeper, max_leaves=12)
"""Any expression."""

_small = st.recursive(_atoms, _deeper, max_leaves=4)
_dtypes = st.sampled_from(["float", "int", "bool", "complex"])
types: st.SearchStrategy[ast.TypeExpr] = st.one_of(
    _dtypes.map(lambda dtype: ast.TypeExpr(dtype=dtype, shape=None)),
    st.builds(
        lambda dtype, shape: ast.TypeExpr(dtype=dtype, shape=shape),
        st.none() | _dtypes,
        tuples(_dims(_small)),
    ),
)
"""Any type."""

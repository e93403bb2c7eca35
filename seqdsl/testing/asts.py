"""Hypothesis strategies for syntax trees: any spec that a text could spell."""

from __future__ import annotations

from hypothesis import strategies as st

from seqdsl.source import BUILTIN
from seqdsl.syntax import ast
from seqdsl.testing.ast_expressions import (
    expressions,
    keys,
    name_nodes,
    names,
    tuples,
    types,
)

_optional = st.none() | expressions

_simple: st.SearchStrategy[ast.Stmt] = st.one_of(
    st.builds(
        lambda name, type_, per: ast.InputStmt(name=name, type=type_, per=per),
        names,
        types,
        st.sampled_from(["step", "batch", "call"]),
    ),
    st.builds(
        lambda name, value: ast.OutputStmt(name=name, value=value),
        st.none() | names,
        expressions,
    ),
    st.builds(
        lambda name, type_, initial: ast.StateStmt(
            name=name, type=type_, initial=initial
        ),
        names,
        types,
        _optional,
    ),
    st.builds(
        lambda name, type_, initial, frozen, key: ast.ParamStmt(
            name=name, type=type_, initial=initial, frozen=frozen, key=key
        ),
        names,
        types,
        _optional,
        st.booleans(),
        keys,
    ),
    st.builds(
        lambda name, value: ast.DimStmt(name=name, value=value), names, expressions
    ),
    st.builds(
        lambda target, type_, value: ast.Equation(
            targets=(target,), type=type_, value=value
        ),
        name_nodes,
        st.none() | types,
        expressions,
    ),
    st.builds(
        lambda targets, value: ast.Equation(targets=targets, type=None, value=value),
        tuples(name_nodes, least=2, most=3),
        expressions,
    ),
    st.builds(lambda value: ast.Result(value=value), expressions),
)


def _repeats(bodies: st.SearchStrategy[ast.Stmt]) -> st.SearchStrategy[ast.Stmt]:
    return st.builds(
        lambda axis, count, condition, body: ast.RepeatStmt(
            axis=axis, count=count, condition=condition, body=body
        ),
        names,
        expressions,
        _optional,
        tuples(bodies, least=1),
    )


statements: st.SearchStrategy[ast.Stmt] = st.recursive(_simple, _repeats, max_leaves=3)
"""Any statement."""

_bodies = tuples(statements, least=1, most=3)
_options = st.builds(
    lambda name, default: ast.OptionDecl(name=name, default=default), names, _optional
)
_arguments = st.builds(
    lambda name, type_, default: ast.ArgDecl(name=name, type=type_, default=default),
    names,
    st.none() | types,
    _optional,
)
_paths = tuples(names, least=1, most=3)

declarations: st.SearchStrategy[ast.Decl] = st.one_of(
    st.builds(
        lambda path, alias: ast.Import(path=path, alias=alias),
        _paths,
        st.none() | names,
    ),
    st.builds(
        lambda path, imported: ast.Import(path=path, names=imported),
        _paths,
        tuples(name_nodes, least=1),
    ),
    st.builds(
        lambda name, brackets, options, body: ast.LayerDecl(
            name=name, brackets=brackets, options=options, body=body
        ),
        names,
        tuples(name_nodes),
        tuples(_options),
        _bodies,
    ),
    st.builds(
        lambda name, brackets, args, body: ast.DefDecl(
            name=name, brackets=brackets, args=args, body=body
        ),
        names,
        tuples(name_nodes),
        tuples(_arguments),
        _bodies,
    ),
    st.builds(
        lambda name, args, result: ast.ExternDecl(name=name, args=args, result=result),
        names,
        tuples(_arguments),
        types,
    ),
)
"""Any declaration."""

specs: st.SearchStrategy[ast.Spec] = tuples(declarations, most=3).map(
    lambda found: ast.Spec(source=BUILTIN, declarations=found)
)
"""Any spec, without spans and comments."""

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

__all__ = ["declarations", "expressions", "specs", "statements", "types"]

Stmts = st.SearchStrategy[ast.Stmt]

_optional = st.none() | expressions
_rates = st.sampled_from(["step", "batch", "call"])
_no_type = st.none()

_simple: Stmts = st.one_of(
    st.builds(ast.InputStmt, name=names, type=types, per=_rates),
    st.builds(ast.OutputStmt, name=st.none() | names, value=expressions),
    st.builds(ast.StateStmt, name=names, type=types, initial=_optional),
    st.builds(
        ast.ParamStmt,
        name=names,
        type=types,
        initial=_optional,
        frozen=st.booleans(),
        key=keys,
    ),
    st.builds(ast.DimStmt, name=names, value=expressions),
    st.builds(
        ast.Equation,
        targets=tuples(name_nodes, least=1, most=1),
        type=_no_type | types,
        value=expressions,
    ),
    st.builds(
        ast.Equation,
        targets=tuples(name_nodes, least=2, most=3),
        type=_no_type,
        value=expressions,
    ),
    st.builds(ast.Result, value=expressions),
)


def _repeats(bodies: Stmts) -> Stmts:
    return st.builds(
        ast.RepeatStmt,
        axis=names,
        count=expressions,
        condition=_optional,
        body=tuples(bodies, least=1),
    )


statements: Stmts = st.recursive(_simple, _repeats, max_leaves=3)
"""Any statement."""

_bodies = tuples(statements, least=1, most=3)
_options = tuples(st.builds(ast.OptionDecl, name=names, default=_optional))
_arguments = tuples(
    st.builds(ast.ArgDecl, name=names, type=_no_type | types, default=_optional)
)
_paths = tuples(names, least=1, most=3)

declarations: st.SearchStrategy[ast.Decl] = st.one_of(
    st.builds(ast.Import, path=_paths, alias=st.none() | names),
    st.builds(ast.Import, path=_paths, names=tuples(name_nodes, least=1)),
    st.builds(
        ast.LayerDecl,
        name=names,
        brackets=tuples(name_nodes),
        options=_options,
        body=_bodies,
    ),
    st.builds(
        ast.DefDecl,
        name=names,
        brackets=tuples(name_nodes),
        args=_arguments,
        body=_bodies,
    ),
    st.builds(
        ast.MonoidDecl,
        name=names,
        brackets=tuples(name_nodes),
        args=_arguments,
        commutes=st.booleans(),
        body=_bodies,
    ),
    st.builds(ast.ExternDecl, name=names, args=_arguments, result=types),
)
"""Any declaration."""


def _spec(found: tuple[ast.Decl, ...]) -> ast.Spec:
    return ast.Spec(source=BUILTIN, declarations=found)


specs: st.SearchStrategy[ast.Spec] = st.builds(_spec, tuples(declarations, most=3))
"""Any spec, without spans and comments."""

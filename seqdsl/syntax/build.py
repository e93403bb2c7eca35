"""What the parser calls for each rule of the grammar: children in, `ast` node out."""

from __future__ import annotations

from seqdsl.diagnostics import Diagnostic, SpecError
from seqdsl.source import Span
from seqdsl.syntax import ast
from seqdsl.syntax.build_expressions import (
    Children,
    ExpressionBuilder,
    dotted,
    span_of,
    take_key,
)
from seqdsl.syntax.lex import Token


def _line(children: Children) -> Span:
    """The span of a statement without its NEWLINE."""
    return span_of(children[:-1])


def _texts(path: tuple[Token, ...]) -> tuple[str, ...]:
    return tuple(token.text for token in path)


_RATES = ("step", "batch", "call")


def _unknown_rate(word: Token) -> Diagnostic:
    return Diagnostic(
        "E0024",
        f"an input is not given per `{word.text}`",
        word.span,
        help=("write `per step`, `per batch` or `per call`",),
    )


def _unknown_law(word: Token) -> Diagnostic:
    return Diagnostic(
        "E0049",
        f"`{word.text}` says nothing about a monoid",
        word.span,
        help=(
            "write `commutes` where the order of steps does not matter, else nothing",
        ),
    )


class Builder(ExpressionBuilder):
    """One method per rule or alias of the grammar."""

    # ---- Declarations

    def start(self, children: Children) -> tuple[ast.Decl, ...]:
        return tuple(children)

    def import_all(self, children: Children) -> ast.Import:
        return ast.Import(path=_texts(children[1]), span=_line(children))

    def import_as(self, children: Children) -> ast.Import:
        path, alias = _texts(children[1]), children[3].text
        return ast.Import(path=path, alias=alias, span=_line(children))

    def import_names(self, children: Children) -> ast.Import:
        path, names = _texts(children[1]), children[3]
        return ast.Import(path=path, names=names, span=_line(children))

    def path(self, children: Children) -> tuple[Token, ...]:
        return tuple(c for c in children if c.type == "NAME")

    key = path

    def layer(self, children: Children) -> ast.LayerDecl:
        _, name, brackets, _, options, _, _, body = children
        return ast.LayerDecl(
            name=name.text,
            brackets=brackets or (),
            options=options or (),
            body=body,
            span=span_of(children),
            header=span_of(children[:-1]),
        )

    def define(self, children: Children) -> ast.DefDecl:
        _, name, brackets, _, args, _, _, body = children
        return ast.DefDecl(
            name=name.text,
            brackets=brackets or (),
            args=args or (),
            body=body,
            span=span_of(children),
            header=span_of(children[:-1]),
        )

    def monoid(self, children: Children) -> ast.MonoidDecl:
        _, name, brackets, _, args, _, word, _, body = children
        if word and word.text != "commutes":
            raise SpecError([_unknown_law(word)])
        return ast.MonoidDecl(
            name=name.text,
            brackets=brackets or (),
            args=args or (),
            commutes=word is not None,
            body=body,
            span=span_of(children),
            header=span_of(children[:-1]),
        )

    def extern(self, children: Children) -> ast.ExternDecl:
        _, name, _, args, _, _, result, _ = children
        return ast.ExternDecl(
            name=name.text, args=args or (), result=result, span=_line(children)
        )

    def brackets(self, children: Children) -> tuple[ast.Name, ...]:
        return children[1]

    def names(self, children: Children) -> tuple[ast.Name, ...]:
        return tuple(
            ast.Name(id=c.text, span=c.span) for c in children if c.type == "NAME"
        )

    targets = names

    def option(self, children: Children) -> ast.OptionDecl:
        name, _, default = children
        return ast.OptionDecl(name=name.text, default=default, span=span_of(children))

    def argument(self, children: Children) -> ast.ArgDecl:
        name, _, type_, _, default = children
        return ast.ArgDecl(
            name=name.text, type=type_, default=default, span=span_of(children)
        )

    def block(self, children: Children) -> tuple[ast.Stmt, ...]:
        return tuple(children[2:-1])

    # ---- Statements

    def input(self, children: Children) -> ast.InputStmt:
        _, name, _, type_, _, per, _ = children
        if per and per.text not in _RATES:
            raise SpecError([_unknown_rate(per)])
        return ast.InputStmt(
            name=name.text,
            type=type_,
            per=per.text if per else "step",
            span=_line(children),
        )

    def output(self, children: Children) -> ast.OutputStmt:
        return ast.OutputStmt(name=None, value=children[1], span=_line(children))

    def output_named(self, children: Children) -> ast.OutputStmt:
        name, value = children[1].text, children[3]
        return ast.OutputStmt(name=name, value=value, span=_line(children))

    def state(self, children: Children) -> ast.StateStmt:
        _, name, _, type_, _, initial, _ = children
        return ast.StateStmt(
            name=name.text, type=type_, initial=initial, span=_line(children)
        )

    def param(self, children: Children) -> ast.ParamStmt:
        _, name, _, type_, _, initial, frozen, _, key, _ = children
        taken = None
        if key is None:
            initial, taken = take_key(initial)
        return ast.ParamStmt(
            name=name.text,
            type=type_,
            initial=initial,
            frozen=frozen is not None,
            key=dotted(key) or taken,
            span=_line(children),
        )

    def dim(self, children: Children) -> ast.DimStmt:
        return ast.DimStmt(
            name=children[1].text, value=children[3], span=_line(children)
        )

    def equation(self, children: Children) -> ast.Equation:
        name, _, type_, _, value, _ = children
        target = ast.Name(id=name.text, span=name.span)
        return ast.Equation(
            targets=(target,), type=type_, value=value, span=_line(children)
        )

    def equation_several(self, children: Children) -> ast.Equation:
        targets, _, value, _ = children
        return ast.Equation(
            targets=targets, type=None, value=value, span=_line(children)
        )

    def repeat(self, children: Children) -> ast.RepeatStmt:
        _, axis, _, count, _, condition, _, body = children
        return ast.RepeatStmt(
            axis=axis.text,
            count=count,
            condition=condition,
            body=body,
            span=span_of(children),
        )

    def result(self, children: Children) -> ast.Result:
        return ast.Result(value=children[0], span=_line(children))

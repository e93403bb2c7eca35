"""`ast.Spec` to text in the canonical layout, with its comments in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from seqdsl.source import Span
from seqdsl.syntax import ast
from seqdsl.syntax.format_expressions import STEP, format_expr
from seqdsl.syntax.format_statements import (
    format_header,
    format_import,
    format_statement,
)

__all__ = ["format_expr", "format_spec"]


def format_spec(spec: ast.Spec) -> str:
    """A spec as text; parsing it gives an equal spec, formatting that the same text."""
    return _Writer(spec).run()


class _Writer:
    """Goes through statements and comments in the order of the file."""

    def __init__(self, spec: ast.Spec) -> None:
        self.spec = spec
        self.text = spec.source.text
        self.comments = list(reversed(spec.comments))
        self.lines: list[str] = []
        self.last_line = self.last_end = 0
        # Nothing to set apart yet: at the start of the file or of a block.
        self.opening = True

    def run(self) -> str:
        after_block = False
        for decl in self.spec.declarations:
            block = isinstance(decl, ast.LayerDecl | ast.DefDecl | ast.MonoidDecl)
            before = len(self.lines)
            self._comments_before(decl.span, 0, blank=after_block)
            alone = len(self.lines) == before
            self._declaration(decl, blank=alone and (block or after_block))
            after_block = block
        while self.comments:
            self._alone(self.comments.pop(), 0, blank=after_block)
            after_block = False
        return "\n".join([*self.lines, ""]) if self.lines else ""

    def _declaration(self, decl: ast.Decl, blank: bool) -> None:
        if blank:
            self._blank()
        match decl:
            case ast.Import():
                self._written(decl.span, format_import(decl), 0)
            case ast.ExternDecl():
                self._written(decl.span, format_header(decl), 0)
            case ast.LayerDecl() | ast.DefDecl() | ast.MonoidDecl():
                self._written(decl.header, format_header(decl), 0)
                self._block(decl.body, STEP)

    def _block(self, body: Sequence[ast.Stmt], indent: int) -> None:
        self.opening = True
        for stmt in body:
            self._comments_before(stmt.span, indent)
            text = format_statement(stmt, indent)
            if isinstance(stmt, ast.RepeatStmt):
                self._written(self._header_of(stmt), text, indent)
                self._block(stmt.body, indent + STEP)
            else:
                self._written(stmt.span, text, indent)
        self._comments_after(body, indent)

    def _header_of(self, stmt: ast.RepeatStmt) -> Span:
        colon = self.text.find(":", (stmt.condition or stmt.count).span.end)
        return replace(stmt.span, end=max(colon + 1, stmt.span.start))

    def _written(self, span: Span, text: str, indent: int) -> None:
        """Add a statement at its indentation, with the comment behind it."""
        self._gap(span.line)
        inner = False
        while self.comments and self.comments[-1].span.start < span.end:
            self.comments.pop()
            inner = True
        if inner:
            # Where the parts of an expression have comments, its layout is the writer's.
            text = self._as_written(span, indent)
        if self.comments and self._follows(self.comments[-1], span.end):
            text += "  " + self.comments.pop().span.text
        self.lines.append(" " * indent + text)
        self._note(span)

    def _follows(self, comment: ast.Comment, end: int) -> bool:
        return not comment.alone and "\n" not in self.text[end : comment.span.start]

    def _as_written(self, span: Span, indent: int) -> str:
        first, *rest = span.text.splitlines()
        old = self.text[self.text.rfind("\n", 0, span.start) + 1 : span.start]
        lines = [first.rstrip()]
        for line in rest:
            # Move the lines by as much as the first one, or at least to its indentation.
            moved = line[len(old) :] if line.startswith(old) else line.lstrip()
            lines.append((" " * indent + moved).rstrip())
        return "\n".join(lines)

    def _comments_before(self, span: Span, indent: int, blank: bool = False) -> None:
        while self.comments and self.comments[-1].span.start < span.start:
            self._alone(self.comments.pop(), indent, blank)
            blank = False

    def _comments_after(self, body: Sequence[ast.Stmt], indent: int) -> None:
        """The comments that end a block: those indented like its statements."""
        column = body[0].span.column if body else 0
        while self.comments:
            span = self.comments[-1].span
            between = self.text[self.last_end : span.start]
            if between.strip() or span.column < column:
                return
            self._alone(self.comments.pop(), indent)

    def _alone(self, comment: ast.Comment, indent: int, blank: bool = False) -> None:
        if blank:
            self._blank()
        self._gap(comment.span.line)
        self.lines.append(" " * indent + comment.span.text)
        self._note(comment.span)

    def _gap(self, line: int) -> None:
        if line - self.last_line > 1:
            self._blank()

    def _blank(self) -> None:
        if not self.opening:
            self.lines.append("")
        self.opening = True

    def _note(self, span: Span) -> None:
        self.opening = False
        self.last_line, self.last_end = span.end_line, span.end

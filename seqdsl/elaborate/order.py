"""Reading order of equations, and what an equation's text contains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from seqdsl.elaborate.scope import LayerOption, Scope, Value
from seqdsl.syntax import ast

_PARAMETRIC = ("linear", "embed", "conv")


def nodes_in(root: object) -> Iterator[ast.Ast]:
    """Every AST node below `root`, in textual order."""
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Ast):
            yield node
            fields = [
                getattr(node, f) for f in node.__dataclass_fields__ if f != "span"
            ]
            stack.extend(reversed(fields))
        elif isinstance(node, tuple):
            stack.extend(reversed(node))  # pyright: ignore[reportUnknownArgumentType]


def names_in(root: object) -> Iterator[str]:
    """Every bare name below `root`."""
    for node in nodes_in(root):
        if isinstance(node, ast.Name):
            yield node.id


def dependency_order(values: Sequence[Value]) -> list[Value]:
    """Equations with what they read before them, as far as there is no circle.

    Elaboration follows references by itself; this order only keeps it from going deep.
    """
    waiting = {v.name.rsplit(".", 1)[-1]: v for v in values if v.statement is not None}
    reads = {n: names_in(v.statement.value) for n, v in waiting.items() if v.statement}
    return [waiting[name] for name in read_order(reads)]


def read_order(reads: Mapping[str, Iterator[str]]) -> list[str]:
    """Names so that each comes after what it reads, as far as there is no circle."""
    done: dict[str, None] = {}
    visiting: set[str] = set()
    for root in reads:
        stack = [] if root in visiting else [root]
        visiting.add(root)
        while stack:
            for other in reads[stack[-1]]:
                if other in reads and other not in visiting:
                    visiting.add(other)
                    stack.append(other)
                    break
            else:
                done[stack.pop()] = None
    return list(done)


def parametric_calls(scope: Scope, expr: ast.Expr) -> int:
    """How many calls in `expr` create parameters."""
    count = 0
    for node in nodes_in(expr):
        if (
            isinstance(node, ast.ParamExpr)
            or isinstance(node, ast.Call)
            and _creates(scope, node.func)
        ):
            count += 1
    return count


def _creates(scope: Scope, func: ast.Expr) -> bool:
    match func:
        case ast.Name(id=name):
            entity = scope.find(name)
            if entity is not None:
                return isinstance(entity, LayerOption)
            found = scope.file.lookup(name)
            if found is None:
                return name in _PARAMETRIC
            return isinstance(getattr(found, "decl", None), ast.LayerDecl)
        case ast.Member(value=ast.Name(id=prefix), name=name):
            module = scope.file.lookup(prefix) if scope.find(prefix) is None else None
            found = getattr(module, "scope", {}).get(name)
            return isinstance(getattr(found, "decl", None), ast.LayerDecl)
        case _:
            return False

"""The printed form of a plan: which loops there are and what runs in each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from seqdsl.analysis.verdict import monoid_name
from seqdsl.ir import nodes as ir
from seqdsl.ir.text import node_text
from seqdsl.schedule.forms import (
    DiagonalScan,
    Form,
    MatrixScan,
    MonoidScan,
    Newton,
    Pieces,
    Products,
    computed,
)
from seqdsl.schedule.plan import (
    Assign,
    Call,
    DepthLoop,
    Parallel,
    Plan,
    Step,
    TimeLoop,
)


def plan_text(plan: Plan) -> str:
    """`plan` with one line a step; what stands in a loop is indented."""
    lines = [f"layer {plan.model.name}", *_steps(plan.steps, 1)]
    return "\n".join(lines) + "\n"


def _steps(steps: tuple[Step, ...], depth: int) -> Iterator[str]:
    margin = "  " * depth
    for step in steps:
        match step:
            case Assign(equation=equation):
                yield margin + _equation(equation)
            case Call(call=call):
                args = ", ".join(f"{k} = {node_text(v)}" for k, v in call.args)
                yield f"{margin}{call.name} = {call.instance}({args})"
            case TimeLoop(direction=direction, carried=carried, hoisted=hoisted):
                for equation in hoisted:
                    yield f"{margin}{_equation(equation)}  # hoisted"
                if step.replay:
                    yield f"{margin}again by chunks, carrying {', '.join(step.replayed)}:"
                    yield from _steps(step.replay, depth + 1)
                yield f"{margin}for t {direction}, carrying {', '.join(carried)}:"
                yield from _steps(step.body, depth + 1)
            case Parallel(loop=loop, form=form):
                yield f"{margin}{form_text(form, loop.direction)}"
            case DepthLoop(repeat=repeat, carried=carried):
                yield f"{margin}for {_repeat(repeat)}, carrying {', '.join(carried)}:"
                yield from _steps(step.body, depth + 1)
            case _:
                assert_never(step)


def _equation(equation: ir.Equation) -> str:
    return f"{equation.name} = {node_text(equation.expr)}"


def _repeat(repeat: ir.Repeat) -> str:
    count = repeat.count
    shown = node_text(count) if isinstance(count, ir.Base) else f"{count}"
    until = "" if repeat.condition is None else f" while {node_text(repeat.condition)}"
    return f"{repeat.axis} in {shown}{until}"


def form_text(form: Form, direction: str) -> str:
    """One line on a parallel form."""
    name = ", ".join(computed(form))
    match form:
        case DiagonalScan(semiring=semiring, coefficient=a, offset=b):
            how = "convolve with powers of" if form.filtered else f"scan {direction} in"
            what = "" if form.filtered else f" {semiring}:"
            return f"{name} = {how}{what} {_or(a, '1')} then {_or(b, '0')}"
        case MatrixScan(semiring=semiring, lags=lags):
            sizes = ", ".join(f"{s}[t-{k}]" for s, k in lags.items())
            return f"{name} = scan {direction} of matrices in {semiring} over {sizes}"
        case MonoidScan(monoid=monoid):
            return f"{name} = scan {direction} of {monoid_name(monoid)}s"
        case Products(chunk=chunk, states=states, writes=writes):
            rank = f"{len(writes)} writes a step"
            return (
                f"{name} = chunks of {chunk} {direction} of {', '.join(states)}: {rank}"
            )
        case Pieces(borders=borders, parts=parts):
            where, chunks = " or ".join(map(node_text, borders)), len(form.products())
            each = f"{len(parts) - chunks} scans and {chunks} chunks in each"
            return f"{name} = pieces until {where}, {each}"
        case Newton(copies=copies):
            each = f" for each of {', '.join(copies)}" if copies else ""
            return f"{name} = newton {direction}{each}"
        case _:
            assert_never(form)


def _or(node: ir.Node | None, otherwise: str) -> str:
    return otherwise if node is None else node_text(node)

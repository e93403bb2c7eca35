"""Why an update is not affine, in the user's own lines, and what would make it so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from seqdsl.analysis.graph import name_of
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.terms import Poly, is_bad
from seqdsl.diagnostics import Diagnostic, Label
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import children
from seqdsl.source import NOWHERE, Span

MAXIMUM = 8
"""No more reasons than this are given for one recurrence."""


def culprits(normal: Normal, states: tuple[str, ...]) -> list[ir.Node]:
    """The expressions that bring what is nonlinear into the updates.

    A function inside the argument of another is not one of them: only the outer
    function's value enters the update.
    """
    bad = tuple(t for s in states for t in normal.bad(normal.value(s)))
    wanted = _nonlinear(bad)
    if any(not _nonlinear((t,)) for t in bad):
        wanted.add(_PRODUCT)
    _look_inside(normal, wanted)
    found: dict[int, ir.Node] = {}
    seen: set[int] = set()
    for state in states:
        for node in _makers(normal, normal.model.equation[state].expr, wanted, seen):
            found[id(node)] = node
    return sorted(found.values(), key=lambda n: (n.span.source.name, n.span.start))


def _look_inside(normal: Normal, wanted: set[int]) -> None:
    """What is in what was too long to be taken apart, or only carried on, in its place."""
    outer = [*normal.long.values(), *normal.carried.values()]
    inner = [
        (_nonlinear(normal.poly(n)), set[int]().union(*_inside_of(normal, n)))
        for n in outer
    ]
    growing = True
    while growing:
        growing = False
        for own, below in inner:
            if below and own & wanted:
                wanted -= own
                wanted |= below
                growing = True


def _inside_of(normal: Normal, node: ir.Node) -> Iterator[set[int]]:
    return (_nonlinear(normal.poly(c)) for c in children(node) if normal.active(c))


_PRODUCT = -1
"""Stands among the keys of what is wanted for products of reads."""


def _nonlinear(poly: Poly) -> set[int]:
    return {f.key for t in poly for f in t.active if f.kind == "nonlinear"}


def _deep(bad: Poly) -> set[int]:
    """Keys of all that the terms `bad` are made of, functions inside functions too."""
    found = set[int]()
    todo = [f for t in bad for f in t.active]
    if any(not _nonlinear((t,)) for t in bad):
        found.add(_PRODUCT)
    while todo:
        factor = todo.pop()
        if factor.key not in found:
            found.add(factor.key)
            todo.extend(f for p in factor.args for t in p for f in t.active)
    return found


def _makers(
    normal: Normal, node: ir.Node, wanted: set[int], seen: set[int]
) -> Iterator[ir.Node]:
    if id(node) in seen or not normal.active(node) or not _spoilt(normal, node):
        return
    seen.add(id(node))
    if isinstance(node, ir.Ref) and node.name in normal.model.equation:
        yield from _makers(normal, normal.model.equation[node.name].expr, wanted, seen)
        return
    below = [c for c in children(node) if normal.active(c)]
    if isinstance(node, ir.Shift | ir.At | ir.Stack | ir.Copy):
        below = []
    old = set[int]().union(*(_nonlinear(normal.poly(c)) for c in below))
    new = _nonlinear(normal.poly(node)) - old
    products = not any(_spoilt(normal, c) for c in below)
    if new & wanted or (products and not new and _PRODUCT in wanted):
        yield node
    for child in below:
        yield from _makers(normal, child, wanted, seen)


def _spoilt(normal: Normal, node: ir.Node) -> bool:
    return any(map(is_bad, normal.poly(node)))


def reads_in(normal: Normal, node: ir.Node) -> dict[str, Span]:
    """Reads of the recurrence below `node`: text and place, through definitions."""
    found: dict[str, Span] = {}
    seen: set[str] = set()
    stack = [node]
    while stack:
        current = stack.pop()
        if not normal.active(current):
            continue
        if normal.is_read(current) or isinstance(current, ir.At | ir.Stack | ir.Copy):
            found.setdefault(text_of(current), current.span)
        elif isinstance(current, ir.Ref) and current.name in normal.model.equation:
            if current.name not in seen:
                seen.add(current.name)
                stack.append(normal.model.equation[current.name].expr)
        else:
            stack.extend(reversed(children(current)))
    return found


def text_of(node: ir.Node) -> str:
    """The user's spelling of a node, shortened to one line."""
    text = " ".join(node.span.text.split()) if node.span is not NOWHERE else ""
    if text:
        return text if len(text) <= 40 else f"{text[:37]}…"
    match node:
        case ir.Ref() | ir.Result():
            return name_of(node)
        case ir.Shift(arg=arg, axis=axis, offset=offset):
            return f"{name_of(arg)}[{axis}{offset:+d}]"
        case ir.At(arg=arg) | ir.Stack(arg=arg) | ir.Copy(arg=arg):
            return name_of(arg)
        case ir.Map(op=op) | ir.Reduce(op=op) | ir.Along(op=op):
            return op
        case _:
            return type(node).__name__.lower()


@dataclass(frozen=True)
class Remedies:
    """Edits that were tried and work, one sentence each.

    `excused` are the ids of functions that look like the reason and are not: what is left
    after an edit scans with them.
    """

    texts: tuple[str, ...] = ()
    excused: frozenset[int] = frozenset()


def explain(
    normal: Normal, states: tuple[str, ...], remedies: Remedies
) -> tuple[tuple[Diagnostic, ...], tuple[Diagnostic, ...]]:
    """A diagnostic for every expression that is in the way; and those to show.

    The first has the help. What is only too long to be taken apart matters where nothing
    else is in the way; so does what an edit elsewhere would leave in a scan.
    """
    spoilt = {s: _deep(normal.bad(normal.value(s))) for s in states}
    found: dict[tuple[str, Span], Diagnostic] = {}
    excused: set[tuple[str, Span]] = set()
    for node in culprits(normal, states):
        code, message = _message(normal, node)
        key = code, _place(normal, node, states)
        keys = _nonlinear(normal.poly(node)) or {_PRODUCT}
        own = tuple(s for s in states if keys & spoilt[s]) or states
        found.setdefault(
            key, Diagnostic(code, message, key[1], _labels(normal, node, own))
        )
        if code == "E0314" or id(node) in remedies.excused:
            excused.add(key)
    every = tuple(found.values())
    shown = tuple(d for key, d in found.items() if key not in excused) or every
    first = tuple(replace(d, help=remedies.texts) for d in shown[:1])
    return every, (*first, *shown[1:MAXIMUM])


def _place(normal: Normal, node: ir.Node, states: tuple[str, ...]) -> Span:
    if node.span is not NOWHERE:
        return node.span
    return normal.model.equation[states[0]].span


def _labels(
    normal: Normal, node: ir.Node, states: tuple[str, ...]
) -> tuple[Label, ...]:
    """The reads on other lines, and the updates that are spoilt."""
    labels = [
        Label(span, f"`{text}` is read here")
        for text, span in reads_in(normal, node).items()
        if span is not NOWHERE and not _inside(span, node.span)
    ]
    for state in states:
        span = normal.model.equation[state].span
        if span is not NOWHERE and not _inside(node.span, span):
            labels.append(Label(span, f"so this update is not affine in `{state}`"))
    return tuple(labels)


def _inside(a: Span, b: Span) -> bool:
    return a.source is b.source and b.start <= a.start and a.end <= b.end


def _dims(node: ir.Node) -> set[str]:
    return {d for c in children(node) for d in c.type.dims}


_CUTS = ("floor", "ceil", "round", "sign", "int", "bool", "floordiv", "mod")
_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not")


def _message(normal: Normal, node: ir.Node) -> tuple[str, str]:
    read = next(iter(reads_in(normal, node)), states_text(normal))
    if id(node) in normal.long:
        return "E0314", f"what is made of `{read}` here is too long to be taken apart"
    match node:
        case ir.Map():
            return _map_message(normal, node, read)
        case ir.Contract(over=over) | ir.Reduce(over=over) | ir.Along(over=over) if any(
            name in normal.model.copies for name in over
        ):
            return "E0306", f"`{read}` reads all earlier steps of the recurrence"
        case ir.Contract(over=over) if not _dims(node) >= set(over):
            return "E0305", f"`{read}` goes through a sum over other steps here"
        case ir.Conv(axes=axes) if normal.axis in axes:
            return "E0306", f"`{read}` is read at several steps by a convolution"
        case ir.Contract():
            return "E0302", f"values that both depend on `{read}` are contracted"
        case ir.Copy():
            return "E0306", f"`{read}` reads all earlier steps of the recurrence"
        case ir.Reduce(over=over) if normal.axis in over:
            return "E0306", f"`{read}` goes through a reduction over all steps"
        case ir.Reduce(op=op) | ir.Along(op=op):
            return "E0305", f"`{read}` goes through {op} here"
        case ir.ExternCall(name=name):
            return "E0307", f"`{read}` goes through the extern op `{name}`"
        case ir.Result(call=call):
            layer = normal.model.instance[normal.model.call[call].instance].model.name
            return "E0308", f"the state goes through the layer `{layer}`"
        case _:
            return _loop_message(node, read)


def _loop_message(node: ir.Node, read: str) -> tuple[str, str]:
    match node:
        case ir.At() | ir.Stack():
            return "E0309", f"`{read}` is the result of a whole repeat"
        case ir.Shift(axis=axis):
            return "E0309", f"`{text_of(node)}` also runs along `{axis}`"
        case _:
            return "E0301", f"`{read}` goes through `{text_of(node)}`"


def _map_message(normal: Normal, node: ir.Map, read: str) -> tuple[str, str]:
    match node.op:
        case "pow" if not isinstance(node.args[1], ir.Const):
            return "E0301", f"`{read}` goes into a power here"
        case "pow" if "int" != node.args[1].type.dtype:
            return "E0301", f"`{read}` goes through a root or power here"
        case "mul" | "square" | "pow":
            return "E0302", f"values that depend on `{read}` are multiplied"
        case "div":
            return "E0303", f"this divides by a value that depends on `{read}`"
        case "where":
            return "E0304", f"which value is taken depends on `{read}`"
        case op if op in _COMPARISONS:
            return "E0304", f"`{read}` is compared or decides something here"
        case "stopgrad":
            return "E0312", f"the gradient of `{read}` is cut here"
        case "real" | "imag" | "conj" | "complex":
            return (
                "E0311",
                f"`{node.op}` of `{read}` is not linear over complex numbers",
            )
        case op if op in _CUTS:
            return "E0301", f"`{read}` is cut to steps by {op} here"
        case op:
            return "E0301", f"`{read}` goes through {op} here"


def states_text(normal: Normal) -> str:
    """Any name of the recurrence, for want of a read."""
    return min(normal.members)

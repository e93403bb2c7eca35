"""The adjoint of a model, as a model: `adjoint(model)`.

    >>> from seqdsl.elaborate import elaborate_text
    >>> from seqdsl.ir.text import node_text
    >>> model = elaborate_text('''
    ... layer Decay(D):
    ...     input x: [D]
    ...     input a: [D]
    ...     state h: [D] = 0
    ...     h = a * h[t-1] + x
    ...     output h
    ... ''')
    >>> found = adjoint(model)
    >>> for e in found.backward.equations:
    ...     print(f"{e.name} = {node_text(e.expr)}")
    h = h_saved
    d_h = g_h + d_h_prev[t+1]
    d_h_prev = a * d_h
    d_a = h[t-1] * d_h
    d_h_first = d_h_prev[t = 0]
    >>> found.upstream, found.gradients["x"], found.kept.saved
    ({'h': 'g_h', 'h_last': 'g_h_last'}, 'd_x', ('h',))

`d_h_prev` is the adjoint state: a recurrence the other way, which starts from the
gradient of the final state and ends as the gradient of the initial one. It is always
affine, so that the analysis gives it a scan and the schedule runs it as any other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from seqdsl.differentiate.active import differentiable
from seqdsl.differentiate.broadcast import typed
from seqdsl.differentiate.draft import Draft
from seqdsl.differentiate.keep import Kept, keep
from seqdsl.differentiate.normal import normal_form
from seqdsl.differentiate.reverse import Reverse
from seqdsl.differentiate.states import open_states, per_segment, per_step
from seqdsl.differentiate.untied import by_steps
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.names import fresh, names_of
from seqdsl.ir.types import TIME
from seqdsl.ir.values import type_of
from seqdsl.ir.walk import references
from seqdsl.rewrite.drop_aliases import drop_aliases
from seqdsl.rewrite.drop_unused import drop_unread, drop_unused


@dataclass(frozen=True)
class Adjoint:
    """A model to run forward, and its derivative to run backward.

    `forward` has the outputs of the model, then the final states, then what is kept.
    Its inputs are those of the model, then the initial states. `backward` reads of
    these inputs, of the parameters and of what is kept whatever it needs, and the
    upstream gradients. Everything is called by name:

    - `first`, `last`: by state, the input that it starts from, the output it ends as
    - `upstream`: by output of `forward`, the input of `backward` with its gradient
    - `saved`: by input of `backward` that is kept, the output of `forward` that it is
    - `gradients`: by input or parameter, the output of `backward` with its gradient;
      what is missing has gradient 0

    Complex gradients follow torch. `kept` says what is computed again, and which states
    need to be kept at chunk borders only; `backward` as it stands runs those again from
    the start.
    """

    forward: ir.Model
    backward: ir.Model
    first: Mapping[str, str]
    last: Mapping[str, str]
    upstream: Mapping[str, str]
    saved: Mapping[str, str]
    gradients: Mapping[str, str]
    kept: Kept


def adjoint(
    model: ir.Model,
    wrt: Collection[str] | None = None,
    *,
    states: bool = True,
    segments: bool = False,
) -> Adjoint:
    """The adjoint of `model` for gradients of its inputs and parameters `wrt`.

    By default these are all that hold float or complex numbers and are not frozen, and
    the initial states. With `states`, states that are carried along time alone start
    from inputs and end as outputs; else they start as the spec says, and gradients go
    on into that. Sub-layers are inlined.

    Every recurrence of the adjoint stops where the forward one starts, so packed
    sequences need nothing else, unless something is per sequence (`per batch`, or a
    state at an end): with `segments` it is per segment, and given and wanted at the
    segment's first or last step. With `states` there must be a step.

    Raises `UnsupportedError` for what has no adjoint, such as an extern op, and
    `SpecError` (E0315) where a `grad` of the spec cannot be written out.
    """
    opened = open_states(model) if states else None
    if opened is not None:
        model = opened.model
    forward = normal_form(per_segment(model) if segments else model)
    found = Reverse(
        Draft(forward, segments),
        differentiable(forward) if wrt is None else wrt,
        () if opened is None else tuple(opened.first.values()),
    )
    found.run()
    gradients = _gradients(found)
    backward = _backward(found.draft, found.upstream.values(), gradients.values())
    kept = keep(forward, _read_by(backward, found.draft))
    # what all sequences share is had again from the position alone
    kept = replace(kept, saved=tuple(v for v in kept.saved if not _shared(forward, v)))
    forward, names = _with_saved(forward, kept.saved, segments)
    backward, saved = _from_saved(backward, names, segments)
    upstream = {o: i.name for o, i in found.upstream.items()}
    return Adjoint(
        forward=forward,
        backward=backward,
        first={} if opened is None else opened.first,
        last={} if opened is None else opened.last,
        upstream={o: name for o, name in upstream.items() if name in backward.input},
        saved=saved,
        gradients={name: output.name for name, output in gradients.items()},
        kept=kept,
    )


def _gradients(found: Reverse) -> dict[str, ir.Output]:
    """Outputs for all gradients that are wanted and not 0, by what they are of."""
    outputs: dict[str, ir.Output] = {}
    for name in found.wanted:
        if name in found.here:
            value = found.gradient(name)
            whole = by_steps(found.draft, value, name)
            outputs[name] = ir.Output(name=value.name, expr=whole, span=value.span)
    return outputs


def _backward(
    draft: Draft, upstream: Iterable[ir.Input], outputs: Iterable[ir.Output]
) -> ir.Model:
    """Everything that the gradients are computed from, nothing kept."""
    forward = draft.model
    whole = replace(
        forward,
        name=f"{forward.name}_adjoint",
        dims={**forward.dims, **draft.dims.added},
        inputs=(*forward.inputs, *upstream),
        equations=(*forward.equations, *draft.equations.values()),
        states=(*forward.states, *draft.states.values()),
        outputs=tuple(outputs),
        repeats=(
            *forward.repeats,
            *draft.mirrors.values(),
            *draft.again.values(),
        ),
        copies=(*forward.copies, *draft.copies, *draft.dims.more),
    )
    plain = draft.equations.keys() - draft.states.keys()
    return drop_unused(drop_aliases(whole, plain))


def _shared(model: ir.Model, name: str) -> bool:
    axes = type_of(model, name).axes
    return "t" in axes and "batch" not in axes


def _read_by(backward: ir.Model, draft: Draft) -> list[str]:
    """Values of the forward pass that the gradients read themselves."""
    own = draft.equations
    exprs = [e.expr for e in backward.equations if e.name in own]
    exprs += [s.initial for s in backward.states if s.name in own]
    exprs += [o.expr for o in backward.outputs]
    exprs += [r.count for r in backward.repeats if isinstance(r.count, ir.Base)]
    reads = {r.name for e in exprs for r in references(e) if isinstance(r, ir.Ref)}
    return [e.name for e in draft.model.equations if e.name in reads]


def _with_saved(
    forward: ir.Model, saved: tuple[str, ...], segments: bool
) -> tuple[ir.Model, dict[str, str]]:
    """`forward` with outputs for what is kept, and these outputs by value.

    What has a value per segment is kept at every step.
    """
    plain = {o.expr.name: o.name for o in forward.outputs if isinstance(o.expr, ir.Ref)}
    taken = {o.name for o in forward.outputs}
    names = {v: plain[v] if v in plain else fresh(v, taken) for v in saved}
    added: list[ir.Output] = []
    for name in saved:
        if name not in plain:
            value = build.ref(name, type_of(forward, name))
            whole = typed(value, per_step(value.type)) if segments else value
            added.append(ir.Output(name=names[name], expr=whole))
    return replace(forward, outputs=(*forward.outputs, *added)), names


def _from_saved(
    backward: ir.Model, names: Mapping[str, str], segments: bool
) -> tuple[ir.Model, dict[str, str]]:
    """`backward` with inputs for what is kept, and the outputs kept by input."""
    taken = names_of(backward)
    inputs: list[ir.Input] = []
    equations: list[ir.Equation] = []
    saved: dict[str, str] = {}
    for equation in backward.equations:
        if equation.name not in names:
            equations.append(equation)
            continue
        name, type_ = equation.name, type_of(backward, equation.name)
        steps = per_step(type_) if segments else type_
        own = name in backward.state or steps != type_
        given = fresh(f"{name}_saved", taken) if own else name
        if own:
            # A state stays one: outside the sequence it has its initial value.
            kept = build.ref(given, steps)
            if steps != type_:
                kept = build.at(kept, TIME, build.const(0))
            equations.append(replace(equation, expr=kept))
        inputs.append(ir.Input(name=given, type=steps, span=equation.span))
        saved[given] = names[name]
    whole = replace(
        backward, inputs=(*backward.inputs, *inputs), equations=tuple(equations)
    )
    read = drop_unused(whole)
    return drop_unread(read, {*read.input, *read.param}), saved

"""Properties of one call: its values, and what they may depend on."""

from __future__ import annotations

import torch

from seqdsl.diagnostics import CallError, SeqdslError
from seqdsl.testing.cases import Case, inputs_for
from seqdsl.testing.properties.answers import compiled, reference
from seqdsl.testing.properties.compare import (
    CLOSE,
    EXACT,
    Broken,
    part,
    prepared,
    require,
    row,
    same,
)
from seqdsl.testing.subject import Caller, Subject, Tensors


def forward_equals_reference(subject: Subject, case: Case) -> None:
    case = case.whole(packed=False)
    ours = compiled(subject, case).values
    theirs = reference(subject, case).values
    same(ours, theirs, "forward against the reference", _tolerance(case))


def segments_equal_reference(subject: Subject, case: Case) -> None:
    ours = compiled(subject, case).values
    theirs = reference(subject, case).values
    same(ours, theirs, "segments against the reference")


def _tolerance(case: Case) -> float:
    return 1e-6 if case.values == "large" else CLOSE


def rows_are_independent(subject: Subject, case: Case) -> None:
    caller, inputs = prepared(subject, case)
    whole = compiled(subject, case).values
    batched = [o.name for o in subject.model.outputs if "batch" in o.expr.type.axes]
    for number in range(case.batch):
        size = (1, case.time)
        alone = caller.forward(row(subject, inputs, number), size=size)
        mine = {n: whole[n][number : number + 1] for n in batched}
        same(alone, mine, f"row {number} alone", names=batched)


def causal(subject: Subject, case: Case) -> None:
    """Later inputs are replaced; earlier outputs must stay, up to rounding."""
    caller, inputs = prepared(subject, case)
    before = compiled(subject, case).values
    other = inputs_for(subject, Case(case.seed + 1, *case.size, values=case.values))
    for t in range(1, case.time):
        changed = {
            n: torch.cat([v[:, :t], other[n][:, t:]], 1) if subject.moves(n) else v
            for n, v in inputs.items()
        }
        after = caller.forward(changed, size=case.size)
        kept = {n: before[n][:, :t] for n in subject.moving_outputs}
        now = {n: after[n][:, :t] for n in subject.moving_outputs}
        same(now, kept, f"outputs before step {t}, of which only inputs changed")


def a_prefix_is_a_prefix(subject: Subject, case: Case) -> None:
    caller, inputs = prepared(subject, case)
    whole = compiled(subject, case).values
    for t in range(case.time):
        short = caller.forward(part(subject, inputs, 0, t), size=(case.batch, t))
        mine = {n: whole[n][:, :t] for n in subject.moving_outputs}
        same(short, mine, f"the first {t} steps", names=subject.moving_outputs)


def no_steps(subject: Subject, case: Case) -> None:
    caller, inputs = prepared(subject, case)
    try:
        ours = caller.forward(inputs, size=case.size)
    except CallError:
        if subject.traits.whole_sequence:
            return  # a value of the last step, or a maximum over all, has no meaning
        raise
    names = subject.moving_outputs
    theirs = subject.reference(inputs, subject.params(case.seed), size=case.size)
    same(ours, theirs, "an empty sequence", names=names)


def deterministic(subject: Subject, case: Case) -> None:
    caller, inputs = prepared(subject, case)
    first = caller.forward(inputs, size=case.size)
    same(caller.forward(inputs, size=case.size), first, "a second call", EXACT)


def arguments_are_left_alone(subject: Subject, case: Case) -> None:
    caller, inputs = prepared(subject, case)
    copies = {n: v.clone() for n, v in inputs.items()}
    params = {n: p.clone() for n, p in subject.module.state_dict().items()}
    caller.forward(inputs, size=case.size)
    same(inputs, copies, "inputs after the call", EXACT)
    same(dict(subject.module.state_dict()), params, "parameters after it", EXACT)


def strides_do_not_matter(subject: Subject, case: Case) -> None:
    caller, inputs = prepared(subject, case)
    whole = compiled(subject, case).values
    strided: Tensors = {
        n: v.movedim(0, -1).contiguous().movedim(-1, 0) if v.dim() > 1 else v
        for n, v in inputs.items()
    }
    same(caller.forward(strided, size=case.size), whole, "inputs with other strides")


def bad_calls_are_refused(subject: Subject, case: Case) -> None:
    caller, inputs = prepared(subject, case)
    for name, value in inputs.items():
        wrong = {"another rank": value.unsqueeze(-1)}
        if subject.model.input[name].type.dims:
            wrong["another extent"] = torch.cat([value, value[..., :1]], -1)
        for what, tensor in wrong.items():
            _refused(caller, {**inputs, name: tensor}, case, name, what)
    if inputs:
        missing = dict(list(inputs.items())[:-1])
        _refused(caller, missing, case, list(inputs)[-1], "nothing")


def _refused(caller: Caller, inputs: Tensors, case: Case, name: str, what: str) -> None:
    try:
        caller.forward(inputs, size=case.size)
    except (CallError, TypeError) as error:
        # as for any Python function, an argument left away is a TypeError
        refused = isinstance(error, CallError) or what == "nothing"
        require(refused, f"{what} for `{name}` raises {error!r}")
        require(name in str(error), f"`{error}` does not name the input `{name}`")
        return
    except SeqdslError as error:
        raise Broken(f"{what} for `{name}` raises {type(error).__name__}") from error
    raise Broken(f"{what} for the input `{name}` is taken without a CallError")

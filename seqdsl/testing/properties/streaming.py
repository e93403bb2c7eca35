"""Properties of pieces, steps and the state between them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from seqdsl.diagnostics import UnsupportedError
from seqdsl.testing.cases import Case
from seqdsl.testing.properties.answers import compiled
from seqdsl.testing.properties.compare import (
    EXACT,
    Broken,
    at_step,
    joined,
    part,
    prepared,
    require,
    row,
    same,
    stacked,
)
from seqdsl.testing.subject import Caller, Subject, Tensors


def pieces(
    caller: Caller, inputs: Tensors, case: Case, segments: Tensor | None = None
) -> Tensors:
    """Outputs of the pieces of a case, joined."""
    found: list[Tensors] = []
    state: object = None
    for start, end in case.pieces:
        ids = None if segments is None else segments[:, start:end]
        piece = part(caller.subject, inputs, start, end)
        size = (case.batch, end - start)
        outputs, state = caller.piece(piece, state, ids, size)
        found.append(outputs)
    return joined(found, caller.subject.moving_outputs)


def steps(
    caller: Caller, inputs: Tensors, state: object, start: int, end: int
) -> Tensors:
    """Outputs of single steps."""
    found: list[Tensors] = []
    for t in range(start, end):
        outputs, state = caller.step(at_step(caller.subject, inputs, t), state)
        found.append(outputs)
    return stacked(found, caller.subject.moving_outputs)


def pieces_equal_whole(subject: Subject, case: Case) -> None:
    caller, inputs = prepared(subject, case)
    whole = compiled(subject, case).values
    same(pieces(caller, inputs, case), whole, "pieces", names=subject.moving_outputs)


def steps_equal_forward(subject: Subject, case: Case) -> None:
    caller, inputs = prepared(subject, case)
    whole = compiled(subject, case).values
    state = caller.initial_state(case.batch)
    found = steps(caller, inputs, state, 0, case.time)
    same(found, whole, "step by step", names=subject.moving_outputs)


def prefill_then_steps(subject: Subject, case: Case) -> None:
    caller, inputs = prepared(subject, case)
    names = subject.moving_outputs
    whole = compiled(subject, case).values
    half = case.time // 2
    first = part(subject, inputs, 0, half)
    start, state = caller.piece(first, None, size=(case.batch, half))
    rest = steps(caller, inputs, state, half, case.time)
    found = joined([start, rest], names)
    same(found, whole, f"{half} steps at once, then one by one", names=names)


def steps_then_a_piece(subject: Subject, case: Case) -> None:
    caller, inputs = prepared(subject, case)
    names = subject.moving_outputs
    whole = compiled(subject, case).values
    state: object = caller.initial_state(case.batch)
    outputs, state = caller.step(at_step(subject, inputs, 0), state)
    size = (case.batch, case.time - 1)
    rest, _ = caller.piece(part(subject, inputs, 1, case.time), state, size=size)
    found = joined([stacked([outputs], names), rest], names)
    same(found, whole, "one step, then the rest at once", names=names)


def state_is_a_value(subject: Subject, case: Case) -> None:
    """A state used twice gives the same twice; it survives storing."""
    caller, inputs = prepared(subject, case)
    first = part(subject, inputs, 0, 1)
    _, state = caller.piece(first, None, size=(case.batch, 1))
    before = [v.detach().clone() for v in _tensors(state)]
    rest = part(subject, inputs, 1, case.time)
    size = (case.batch, case.time - 1)
    once, _ = caller.piece(rest, state, size=size)
    after = [v.detach() for v in _tensors(state)]
    kept = all(
        bool(((a == b) | (a.isnan() & b.isnan())).all())
        for a, b in zip(before, after, strict=True)
    )
    require(kept, "the state given is changed by the call")
    stored: object = torch.load(io.BytesIO(_stored(state)), weights_only=True)
    names = subject.moving_outputs
    again, _ = caller.piece(rest, stored, size=size)
    same(again, once, "from the same state, stored and read", EXACT, names)


def _tensors(state: object) -> Iterator[Tensor]:
    """Every tensor of a state, in order."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, Mapping):
        for value in cast("Mapping[str, object]", state).values():
            yield from _tensors(value)
    elif isinstance(state, Sequence):
        for value in cast("Sequence[object]", state):
            yield from _tensors(value)


def _stored(state: object) -> bytes:
    """A state as `torch.save` writes it."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def segments_equal_separate(subject: Subject, case: Case) -> None:
    caller, inputs = prepared(subject, case)
    names = subject.moving_outputs
    packed = compiled(subject, case).values
    for number, lengths in enumerate(case.runs):
        start = 0
        for length in lengths:
            end = start + length
            alone = part(subject, row(subject, inputs, number), start, end)
            separate = caller.forward(alone, size=(1, length))
            mine = {n: packed[n][number : number + 1, start:end] for n in names}
            same(mine, separate, f"row {number}, steps {start} to {end}", names=names)
            start = end


def segments_in_pieces(subject: Subject, case: Case) -> None:
    caller, inputs = prepared(subject, case)
    segments = case.segments()
    whole = compiled(subject, case).values
    found = pieces(caller, inputs, case, segments)
    same(found, whole, "packed sequences in pieces", names=subject.moving_outputs)


def refuses_to_stream(subject: Subject, case: Case) -> None:
    """A layer that reads later steps says so, from every way in."""
    reason = subject.refusal
    if reason is None:
        return
    caller, inputs = prepared(subject, case)
    plain = subject.traits.must_stream
    require(not plain, f"nothing here reads later steps, yet it refuses: {reason}")
    require(len(reason) > 20, f"the refusal `{reason}` gives no reason")
    for what in ("step", "state"):
        try:
            if what == "step":
                caller.step(at_step(subject, inputs, 0), {})
            else:
                caller.piece(inputs, None, size=case.size)
        except UnsupportedError:
            continue
        raise Broken(f"it does not stream ({reason}), yet takes `{what}`")


def long_sequences_stay_finite(subject: Subject, case: Case) -> None:
    caller, inputs = prepared(subject, case)
    with torch.no_grad():
        whole = caller.forward(inputs, size=case.size)
        if all(bool(value.isfinite().all()) for value in whole.values()):
            return
        state = caller.initial_state(case.batch)
        found = steps(caller, inputs, state, 0, case.time)
    for name, value in found.items():
        stays = bool(value.isfinite().all())
        message = f"`{name}` is finite step by step, but not at once"
        require(not stays or bool(whole[name].isfinite().all()), message)

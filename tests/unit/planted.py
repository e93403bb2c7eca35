"""Mistakes in how a module is called, copied and stored, to be found by the kit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from seqdsl.diagnostics import UnsupportedError

Broken = Callable[[Any], None]
"""Plants a mistake into a module; its methods are replaced on the instance."""


def _around(module: Any, method: str, change: Callable[..., Any]) -> None:
    right = getattr(module, method)

    def wrong(*args: Any, **named: Any) -> Any:
        return change(right, *args, **named)

    setattr(module, method, wrong)


def _forward(change: Callable[..., Any]) -> Broken:
    return lambda module: _around(module, "forward", change)


def _step(change: Callable[..., Any]) -> Broken:
    return lambda module: _around(module, "step", change)


def _output(change: Callable[[Tensor, Tensor], Tensor]) -> Broken:
    """Of `forward`, from the output and the input."""

    def wrong(right: Any, x: Tensor, **named: Any) -> Any:
        result = right(x, **named)
        if isinstance(result, tuple):
            y, state = cast("tuple[Tensor, object]", result)
            return change(y, x), state
        return change(result, x)

    return _forward(wrong)


def _forgets(right: Any, x: Tensor, **named: Any) -> Any:
    return right(x, **{**named, "state": None})


def _stale(right: Any, x: Tensor, **named: Any) -> Any:
    result = right(x, **named)
    if not named.get("return_state"):
        return result
    empty = right(x[:, :0], **{**named, "segments": None})
    return result[0], empty[1]


def _in_place(right: Any, x: Tensor, **named: Any) -> Any:
    result = right(x, **named)
    if named.get("state") is not None:
        for value in named["state"].values():
            if value.is_floating_point():
                value.detach().add_(1)
    return result


def _packs_nothing(right: Any, x: Tensor, **named: Any) -> Any:
    return right(x, **{**named, "segments": None})


def _new_segment(right: Any, x: Tensor, **named: Any) -> Any:
    state = named.get("state")
    if state is not None:
        state = {**state, "segment": torch.full_like(state["segment"], -(2**63))}
    return right(x, **{**named, "state": state})


def _detached(right: Any, x: Tensor, **named: Any) -> Any:
    return right(x.detach(), **named)


def _detached_when_packed(right: Any, x: Tensor, **named: Any) -> Any:
    return right(x if named.get("segments") is None else x.detach(), **named)


def _cut(state: dict[str, Tensor] | None) -> dict[str, Tensor] | None:
    return None if state is None else {n: v.detach() for n, v in state.items()}


def _detached_state(right: Any, x: Tensor, **named: Any) -> Any:
    return right(x, **{**named, "state": _cut(named.get("state"))})


class _Once(torch.autograd.Function):
    """The identity, whose gradient has no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * 1

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].detach()


def _once(right: Any, x: Tensor, **named: Any) -> Any:
    once: Any = _Once
    return right(once.apply(x), **named)


def _scales_input(right: Any, x: Tensor, **named: Any) -> Any:
    result = right(x, **named)
    x.mul_(2)
    return result


def _ignores_strides(right: Any, x: Tensor, **named: Any) -> Any:
    strides = torch.empty(x.shape).stride()
    return right(torch.as_strided(x, x.shape, strides), **named)


def _takes_anything(right: Any, x: Tensor, **named: Any) -> Any:
    return right(x.reshape(*x.shape[:2], -1)[..., :2], **named)


def _fails_on_nothing(right: Any, x: Tensor, **named: Any) -> Any:
    assert x.shape[1] > 0 or named.get("return_state")
    return right(x, **named)


def _first_position(right: Any, x: Tensor, state: dict[str, Tensor]) -> Any:
    return right(x, {**state, "t": torch.zeros_like(state["t"])})


def _keeps_state(right: Any, x: Tensor, state: object) -> Any:
    return right(x, state)[0], state


def _cuts_step(right: Any, x: Tensor, state: dict[str, Tensor]) -> Any:
    return right(x, _cut(state))


def _refuses(module: Any) -> None:
    def refuse(right: Any, *args: Any, **named: Any) -> Any:
        if "return_state" in named or right.__name__ == "step":
            raise UnsupportedError("this layer is not in the mood to stream today")
        return right(*args, **named)

    _around(module, "forward", refuse)
    _around(module, "step", refuse)


def _more_parameters(module: Any) -> None:
    module.extra = nn.Parameter(torch.zeros(2, dtype=torch.float64))


def _same_copy(module: Any) -> None:
    def itself(memo: object) -> object:
        return module

    module.__deepcopy__ = itself


def _lossy(dtype: torch.dtype) -> Broken:
    return _output(lambda y, x: y * 1.5 if y.dtype == dtype else y)


@dataclass(frozen=True)
class Mutant:
    """A mistake, and the properties that must find it."""

    plant: Broken
    killers: tuple[str, ...]


MUTANTS = {
    "state lost between pieces": Mutant(
        _forward(_forgets), ("pieces_equal_whole", "steps_then_a_piece")
    ),
    "the state of the start returned": Mutant(
        _forward(_stale), ("prefill_then_steps",)
    ),
    "a state changed in place": Mutant(_forward(_in_place), ("state_is_a_value",)),
    "state not restarted at an edge": Mutant(
        _forward(_packs_nothing),
        (
            "segments_equal_reference",
            "segments_equal_separate",
            "strategies_agree_packed",
        ),
    ),
    "the last segment forgotten": Mutant(
        _forward(_new_segment), ("segments_in_pieces",)
    ),
    "rows that mix": Mutant(
        _output(lambda y, x: y + x.mean(0, keepdim=True)), ("rows_are_independent",)
    ),
    "later inputs that leak": Mutant(
        _output(lambda y, x: y + x.flip(1).cumsum(1).flip(1)),
        ("causal", "a_prefix_is_a_prefix"),
    ),
    "the length in the numbers": Mutant(
        _output(lambda y, x: y + 0.1 * y.shape[1]),
        ("a_prefix_is_a_prefix", "one_step_is_a_sequence"),
    ),
    "the position lost in a step": Mutant(
        _step(_first_position), ("steps_equal_forward",)
    ),
    "a step that keeps its state": Mutant(
        _step(_keeps_state), ("steps_equal_forward", "prefill_then_steps")
    ),
    "a refusal without need": Mutant(_refuses, ("refuses_to_stream",)),
    "noise": Mutant(
        _output(lambda y, x: y + 1e-6 * torch.rand_like(y)), ("deterministic",)
    ),
    "an input changed in place": Mutant(
        _forward(_scales_input), ("arguments_are_left_alone",)
    ),
    "strides ignored": Mutant(_forward(_ignores_strides), ("strides_do_not_matter",)),
    "any shape taken": Mutant(_forward(_takes_anything), ("bad_calls_are_refused",)),
    "an empty sequence refused": Mutant(_forward(_fails_on_nothing), ("no_steps",)),
    "gradients of the input stopped": Mutant(
        _forward(_detached),
        (
            "gradients_equal_reference",
            "finite_differences",
            "adjoint_equals_autograd",
        ),
    ),
    "gradients stopped in packed calls": Mutant(
        _forward(_detached_when_packed),
        ("packed_gradients_equal_reference", "strategies_agree_in_gradients"),
    ),
    "gradients stopped at pieces": Mutant(
        _forward(_detached_state), ("piece_gradients_equal_whole",)
    ),
    "gradients stopped at steps": Mutant(
        _step(_cuts_step), ("step_gradients_equal_whole",)
    ),
    "only a first derivative": Mutant(
        _forward(_once), ("double_backward_equals_reference",)
    ),
    "a parameter too many": Mutant(_more_parameters, ("state_dict_round_trip",)),
    "a copy that is the original": Mutant(_same_copy, ("copies_are_equal",)),
    "float32 that is off": Mutant(_lossy(torch.float32), ("single_precision",)),
    "bfloat16 that is off": Mutant(_lossy(torch.bfloat16), ("half_precision",)),
    "overflow after many steps": Mutant(
        _output(lambda y, x: y if y.shape[1] < 100 else y / 0),
        ("long_sequences_stay_finite",),
    ),
    "another function": Mutant(
        _output(lambda y, x: y + 0.01 * x),
        ("forward_equals_reference", "strategies_agree"),
    ),
}

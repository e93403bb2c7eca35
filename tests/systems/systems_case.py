"""What the tests of the memory and attention systems share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

import seqdsl
from seqdsl.analysis import Verdict, analyze
from seqdsl.elaborate import load_std
from seqdsl.ir.sizes import Scalar

EXACT = {"rtol": 0.0, "atol": 1e-12}
CLOSE = {"rtol": 0.0, "atol": 1e-10}


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def std(name: str) -> seqdsl.Spec:
    return getattr(seqdsl.std, name)


def text_of(name: str) -> str:
    """The text of a file of the standard library."""
    return load_std(name).spec.source.text


def changed(name: str, *changes: tuple[str, str]) -> seqdsl.Spec:
    """A file of the standard library with parts of its text replaced: a near miss."""
    text = text_of(name)
    for old, new in changes:
        assert old in text, f"{name}.seq does not say: {old}"
        text = text.replace(old, new)
    return seqdsl.loads(text, name=f"changed {name}")


def make(layer: seqdsl.Layer, seed: int = 0, **options: Scalar | str) -> Any:
    """A module in double precision whose parameters are those of `seed`."""
    torch.manual_seed(seed)
    return layer(dtype=torch.float64, **options)


def shaken(module: Any, seed: int = 0, scale: float = 0.2) -> Any:
    """The module, its parameters moved so that zeros and ones hide no mistake."""
    with torch.no_grad():
        for i, (_, value) in enumerate(sorted(module.named_parameters())):
            move = noise(*value.shape, seed=1000 * seed + i)
            value += scale * move.to(value.dtype)
    return module


def set_all(module: Any, values: Mapping[str, Any]) -> Any:
    """The module with the named parameters filled with numbers or tensors."""
    state = module.state_dict()
    with torch.no_grad():
        for name, value in values.items():
            state[name].copy_(torch.as_tensor(value, dtype=state[name].dtype))
    return module


def linear(module: Any, x: Tensor) -> Tensor:
    """A compiled `linear`, whatever its dims: the new ones flat, the last."""
    y = x @ module.weight.reshape(-1, x.shape[-1]).mT
    return y if module.bias is None else y + module.bias.flatten()


def verdicts(
    layer: seqdsl.Layer, given: Mapping[str, Scalar] | None = None
) -> dict[str, Verdict]:
    """Verdicts by the names of their states."""
    found = analyze(layer.elaborate(**(given or {})).model).verdicts
    return {", ".join(sorted(v.recurrence.states)): v for v in found}


def strategies(
    layer: seqdsl.Layer, options: Mapping[str, Scalar], *wanted: str
) -> Iterator[tuple[str, Any]]:
    """Modules with equal parameters, one for each strategy that the backend has."""
    first = make(layer, **options)
    for strategy in (
        "loop",
        "scan",
        "chunk:1",
        "chunk:3",
        "chunk:7",
        "chunk:16",
        *wanted,
    ):
        try:
            module = layer(dtype=torch.float64, strategy=strategy, **options)
        except seqdsl.UnsupportedError:
            continue
        module.load_state_dict(first.state_dict())
        yield strategy, module


def stepped(module: Any, *inputs: Tensor) -> tuple[Any, dict[str, Any]]:
    """The first output of every step, fed one at a time, and the last state."""
    state = module.initial_state(batch=len(inputs[0]))
    outputs: list[Tensor] = []
    for t in range(inputs[0].shape[1]):
        y, state = module.step(*(x[:, t] for x in inputs), state=state)
        outputs.append(y if isinstance(y, Tensor) else y[0])
    return torch.stack(outputs, 1), state


def pieces(module: Any, cuts: tuple[int, ...], *inputs: Tensor) -> Tensor:
    """The first output over pieces that end at `cuts`, with the state passed on."""
    state, start, outputs = None, 0, list[Tensor]()
    for end in (*cuts, inputs[0].shape[1]):
        part = [x[:, start:end] for x in inputs]
        y, state = module(*part, state=state, return_state=True)
        outputs.append(y if isinstance(y, Tensor) else y[0])
        start = end
    return torch.cat(outputs, 1)


def numbers(state: Any) -> int:
    """How many numbers a state holds for one sequence, positions and ids left out."""
    match state:
        case Tensor():
            return (
                state.numel() // max(len(state), 1) if state.is_floating_point() else 0
            )
        case dict():
            return sum(numbers(v) for v in state.values())
        case list() | tuple():
            return sum(numbers(v) for v in state)
        case _:
            return 0


def moved_by(run: Any, x: Tensor, place: int) -> Tensor:
    """At which steps the outputs of `run` change when the input at `place` does."""
    other = x.clone()
    other[:, place] += noise(*x[:, place].shape, seed=99).to(x.dtype)
    return (run(x) - run(other)).abs().flatten(2).amax((0, 2)) > 1e-9

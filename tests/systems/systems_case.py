"""What the tests of the memory and attention systems share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

import seqdsl
from seqdsl.analysis import Verdict, analyze
from seqdsl.elaborate import load_std

Options = Mapping[str, Any]


def same(a: Tensor, b: Tensor, what: str = "", *, within: float = 1e-12) -> None:
    """Asserts that no entries differ by more than rounding in double precision."""
    assert a.shape == b.shape, (what, a.shape, b.shape)
    gap = float((a - b).detach().abs().max()) if a.numel() else 0.0
    assert gap <= within, f"{what} differs by {gap}"


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def seeded(seed: int) -> None:
    """Makes what follows repeatable."""
    torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]


def train(
    module: Any,
    steps: int,
    loss: Callable[[], Tensor],
    rate: float,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    clip: float = torch.inf,
    falls: bool = True,
) -> None:
    """Adam on `loss`, which draws its own batch; the rate `falls` to 0 in a line."""
    optimizer: Any = torch.optim.Adam(module.parameters(), lr=rate, betas=betas)
    for step in range(steps):
        if falls:
            optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        value: Any = loss()
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimizer.step()


def std(name: str) -> seqdsl.Spec:
    return getattr(seqdsl.std, name)


def text_of(name: str) -> str:
    """The text of a file of the standard library."""
    return load_std(name).spec.source.text


def changed_text(name: str, *changes: tuple[str, str]) -> str:
    """The text of a file of the standard library with parts of it replaced."""
    text = text_of(name)
    for old, new in changes:
        assert old in text, f"{name}.seq does not say: {old}"
        text = text.replace(old, new)
    return text


def changed(name: str, *changes: tuple[str, str]) -> seqdsl.Spec:
    """A file of the standard library with parts of its text replaced: a near miss."""
    return seqdsl.loads(changed_text(name, *changes), name=f"changed {name}")


def make(layer: seqdsl.Layer, seed: int = 0, **options: Any) -> Any:
    """A module in double precision whose parameters are those of `seed`."""
    seeded(seed)
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
    bias = getattr(module, "bias", None)
    return y if bias is None else y + bias.flatten()


def verdicts(layer: seqdsl.Layer, given: Options | None = None) -> dict[str, Verdict]:
    """Verdicts by the names of their states."""
    found = analyze(layer.elaborate(**(given or {})).model).verdicts
    return {", ".join(sorted(v.recurrence.states)): v for v in found}


def strategies(
    layer: seqdsl.Layer, options: Options, *wanted: str
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
    (dtype,) = {x.dtype for x in inputs if x.is_floating_point()} or {torch.float64}
    state = module.initial_state(batch=len(inputs[0]), dtype=dtype)
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
    if isinstance(state, Tensor):
        return state[0].numel() if state.is_floating_point() else 0
    inner: Any = state.values() if hasattr(state, "values") else state
    return sum(map(numbers, inner))


def moved_by(run: Any, x: Tensor, place: int) -> Tensor:
    """At which steps the outputs of `run` change when the input at `place` does."""
    other = x.clone()
    other[:, place] += noise(*x[:, place].shape, seed=99).to(x.dtype)
    return (run(x) - run(other)).abs().flatten(2).amax((0, 2)) > 1e-9

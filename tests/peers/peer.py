"""What the tests against published code share: loading a peer, and comparing with it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from seqdsl.backends.reference import interpret
from seqdsl.elaborate import elaborate, load_std
from seqdsl.ir.sizes import Scalar

BATCH, TIME = 2, 11
Params = Mapping[str, Tensor]

# The helpers that the plain loops of the unit tests are made of.
sys.path.append(str(Path(__file__).parents[1] / "unit"))


FLA = importlib.util.find_spec("fla")
# transformers would hand its layers to the package, whose kernels need a GPU
sys.modules["fla"] = None  # pyright: ignore[reportArgumentType]


@dataclass
class Parity:
    """What is compared now, and the errors found: `docs/parity.json` is made of them."""

    oracle: str = ""
    layer: str = ""
    found: list[dict[str, str | float]] = field(
        default_factory=list[dict[str, str | float]]
    )

    def note(self, output: float, gradient: float) -> None:
        """Errors of outputs and gradients, as lengths relative to theirs."""
        version = importlib.metadata.version(self.oracle).partition("+")[0]
        self.found.append(
            {
                "layer": self.layer,
                "oracle": f"{self.oracle} {version}",
                "output": float(f"{output:.0e}"),
                "gradient": float(f"{gradient:.0e}"),
            }
        )


PARITY = Parity()


def peer(module: str, package: str) -> Any:
    """A module of published code, of `package`, which the extra `peers` installs."""
    PARITY.oracle = package
    try:
        return importlib.import_module(module)
    except ImportError as error:
        pytest.fail(f"`{package}`: {error}; pip install 'seqdsl[peers]'")


def fla_file(path: str) -> Any:
    """A file of flash-linear-attention by its path; the package itself needs a GPU."""
    PARITY.oracle = "flash-linear-attention"
    if FLA is None or not FLA.submodule_search_locations:
        pytest.fail("no `flash-linear-attention`; pip install 'seqdsl[peers]'")
    file = Path(FLA.submodule_search_locations[0]) / path
    spec = importlib.util.spec_from_file_location(path.replace("/", "_")[:-3], file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def shaken(module: torch.nn.Module, scale: float = 0.2) -> dict[str, Tensor]:
    """The parameters of `module`, moved so that zeros and ones hide no mistake."""
    weights: dict[str, Tensor] = {}
    for i, (name, value) in enumerate(sorted(module.named_parameters())):
        move = scale * noise(*value.shape, seed=i)
        # some peers leave parameters as the memory they found
        strange = ~torch.isfinite(value.data) | (value.data.abs() > 100)
        value.data = torch.where(strange, 0, value.data).to(value.dtype)
        value.data += move.to(value.dtype)
        weights[name] = value.data.to(
            torch.complex128 if value.is_complex() else torch.float64
        )
    return weights


def ours(
    file: str,
    layer: str,
    options: Mapping[str, Scalar],
    params: Params,
    **inputs: Tensor,
) -> Tensor:
    """The first output of a layer of the standard library, by the reference interpreter."""
    PARITY.layer = f"std.{file}:{layer}"
    model = elaborate(load_std(file), layer, options).model
    outputs = interpret(model, options=options, params=params, inputs=inputs)
    return next(iter(outputs.values()))


def plain(module: str) -> Any:
    """Plain loops of the unit tests, which lend peers the projections around them."""
    return importlib.import_module(module)


def apart(a: Tensor, b: Tensor) -> float:
    """The length of the difference, relative to that of `b`."""
    return float((a - b).square().sum().sqrt() / b.square().sum().sqrt())


def agree(
    mine: Callable[[Tensor], Tensor],
    theirs: Callable[[Tensor], Tensor],
    x: Tensor,
    tolerance: float,
) -> None:
    """Equal outputs, and equal gradients in x of one random projection of them."""
    results: list[tuple[Tensor, Tensor]] = []
    for run in (mine, theirs):
        leaf = x.clone().requires_grad_()
        y = run(leaf).double()
        (gradient,) = torch.autograd.grad((y * noise(*y.shape, seed=5)).sum(), leaf)
        results.append((y.detach(), gradient))
    (a, da), (b, db) = results
    PARITY.note(apart(a, b), apart(da, db))
    assert apart(a, b) < tolerance
    assert apart(da, db) < 10 * tolerance

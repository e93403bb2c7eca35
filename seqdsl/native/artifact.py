"""The file of a layer whose loops along time are kernels of the MLIR backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from seqdsl.backends.mlir.supported import allowed
from seqdsl.backends.torch import Artifact
from seqdsl.backends.torch.kernels import Kernels
from seqdsl.backends.torch.lower import lower
from seqdsl.backends.torch.render import render
from seqdsl.ir import nodes as ir
from seqdsl.schedule.choose import LOOP, Wish
from seqdsl.schedule.cut import Fusion
from seqdsl.schedule.region import Region


@dataclass(frozen=True)
class NativeArtifact:
    """A generated file and the regions that it calls by name.

    `refused` names the loops that stay in torch, and why; `classes` are the layers of the file,
    each with the name of the named tuple of its outputs.
    """

    host: Artifact
    regions: Mapping[str, Region]
    refused: tuple[str, ...]
    classes: Mapping[str, tuple[ir.Model, str | None]]


def native_artifact(
    model: ir.Model,
    *,
    whole: bool = False,
    again: frozenset[str] = frozenset(),
    rest: Wish = LOOP,
) -> NativeArtifact:
    """The module of `model` with kernels for its loops along time.

    `whole`: it is called with complete sequences of one segment only. `again` are
    states that are run again rather than stored. Loops that no kernel runs do so in torch
    as `rest` says.
    """
    kernels = Kernels(Fusion(allowed, whole, again, turns=True), rest, lazy=True)
    module = lower(model, kernels=kernels)
    name = f"{model.name.lower()}.py"
    host = Artifact({name: render(module)}, name, module.main)
    refused = tuple(kernels.refused)
    return NativeArtifact(host, dict(kernels.regions), refused, dict(kernels.classes))

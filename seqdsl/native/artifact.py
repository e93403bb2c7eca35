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
from seqdsl.schedule.training import Training, training_of


@dataclass(frozen=True)
class NativeArtifact:
    """A generated file and the regions that it calls by name.

    `refused` names the loops that stay in torch, and why; `classes` are the layers of the file,
    each with the name of the named tuple of its outputs. `training` says of some of them
    when they learn faster in torch.
    """

    host: Artifact
    regions: Mapping[str, Region]
    refused: tuple[str, ...]
    classes: Mapping[str, tuple[ir.Model, str | None]]
    training: Mapping[str, Training]


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
    training: dict[str, Training] = {}
    if rest.strategy == "auto" and not whole:
        made = {n: training_of(m) for n, (m, _) in kernels.classes.items()}
        training = {n: t for n, t in made.items() if t is not None}
    return NativeArtifact(
        host=host,
        regions=dict(kernels.regions),
        refused=tuple(kernels.refused),
        classes=dict(kernels.classes),
        training=training,
    )

"""The gradient of a loop: its adjoint as classes whose own loops are kernels again.

The adjoint is that of the region with segments: where a state begins again is one of its
inputs, so that packed sequences need no gradient of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from seqdsl.backends.torch.kernels import Kernels, named
from seqdsl.backends.torch.lower import lower
from seqdsl.backends.torch.module import TorchClass, TorchModule
from seqdsl.backends.torch.names import Names
from seqdsl.backends.triton.loops.supported import allowed, supported
from seqdsl.diagnostics import SpecError, UnsupportedError
from seqdsl.differentiate.adjoint import Adjoint, adjoint
from seqdsl.differentiate.states import open_states
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Opt
from seqdsl.ir.types import BATCH, TIME
from seqdsl.rewrite.drop_unused import drop_unused
from seqdsl.schedule.cut import Fusion
from seqdsl.schedule.region import Region
from seqdsl.schedule.segments import segmented


@dataclass(frozen=True)
class LoopGradient:
    """Modules with the classes `forward` and `backward`, their loops by the names of calls.

    `plain` is what `forward` computes of the loop itself, in torch.
    """

    adjoint: Adjoint
    forward: TorchModule
    backward: TorchModule
    plain: TorchModule
    loops: Mapping[str, Region]
    given: tuple[str, ...]
    own: int

    @property
    def modules(self) -> tuple[TorchModule, ...]:
        """All of them, in the order in which they stand in a file."""
        return self.forward, self.backward, self.plain

    def field(self, titles: Mapping[str, str]) -> str:
        """What a `Loop` says of it; `titles` are the names of its own loops."""
        found, made = self.adjoint, [o.name for o in self.adjoint.forward.outputs]
        wanted = {i: o for o, i in found.upstream.items()}
        inputs = [i.name for i in found.backward.inputs]
        grads = [o.name for o in found.backward.outputs]
        reads = [
            ("wanted", made.index(wanted[n]))
            if n in wanted
            else ("made", made.index(found.saved[n]))
            if n in found.saved
            else ("given", self.given.index(n))
            for n in inputs
        ]
        places = [
            grads.index(found.gradients[n]) if n in found.gradients else None
            for n in self.given
        ]
        loops = "".join(f"{titles[n]}, " for n in self.loops)
        lines = (
            f"forward=lambda: {self.forward.main},",
            f"backward=lambda: {self.backward.main},",
            f"plain=lambda: {self.plain.main},",
            f"loops=lambda: ({loops}),",
            f"own={self.own},",
            f"reads={tuple(reads)!r},".replace("'", '"'),
            f"found={tuple(places)!r},",
        )
        inner = "".join(f"        {line}\n" for line in lines)
        return f"    gradient=Gradient(\n{inner}    ),"


def gradient_of(
    region: Region, fixed: frozenset[str], names: Names
) -> LoopGradient | None:
    """The gradient of a region; None where kernels do not compute it.

    States that begin again from numbers are `fixed`. Class names are taken from `names`.
    """
    whole = segmented(region)
    model = _closed(whole)
    learned = {i.name for i in model.inputs if i.type.dtype == "float"}
    learned -= {f"{s}_again" for s in fixed}
    learned |= set(open_states(model).first.values())
    try:
        found = adjoint(model, wrt=learned)
    except (UnsupportedError, SpecError):
        return None
    if any({BATCH, TIME} - _axes(m) for m in (found.forward, found.backward)):
        return None
    own = len(region.model.outputs) + len(region.states)
    plain = replace(found.forward, outputs=found.forward.outputs[:own])
    kernels = Kernels(Fusion(allowed))
    modules = [
        _module(part, known, names)
        for part, known in (
            (found.forward, kernels),
            (found.backward, kernels),
            (drop_unused(plain), None),
        )
    ]
    forward, backward, plain_ = modules
    if forward is None or backward is None or plain_ is None:
        return None
    loops = kernels.regions
    sizes = {*model.dims, *(o.name for o in model.options)}
    if kernels.refused or not all(map(supported, loops.values())):
        return None
    if any(set(named(r)) - sizes for r in loops.values()):
        return None
    given = tuple(i.name for i in found.forward.inputs)
    return LoopGradient(found, forward, backward, plain_, loops, given, own)


def _module(
    model: ir.Model, kernels: Kernels | None, names: Names
) -> TorchModule | None:
    """`model` as a module, whose names are taken from then on."""
    try:
        made = lower(model, kernels=kernels, taken=frozenset(names.taken))
    except (SpecError, UnsupportedError):
        return None
    names.taken |= {c.name for c in made.classes}
    names.taken |= {r.name for r in made.results}
    return made


def _axes(model: ir.Model) -> set[str]:
    return {a for i in model.inputs for a in i.type.axes}


def _closed(region: Region) -> ir.Model:
    """A region as a layer: its sizes are options, its states begin at 0 (or are opened)."""
    model = region.model
    first = {f"{s.name}_0" for s in model.states}
    sizes = dict.fromkeys(named(region))
    integral = set(model.dims)
    return replace(
        model,
        options=tuple(
            ir.Option(name=n, default=None, integral=n in integral) for n in sizes
        ),
        dims={n: Opt(n) for n in sizes if n in integral},
        inputs=tuple(i for i in model.inputs if i.name not in first),
        states=tuple(replace(s, initial=build.const(0.0)) for s in model.states),
    )


def shown(found: LoopGradient, title: str) -> Iterator[TorchClass]:
    """The classes, with what `forward` needs of their methods."""
    docs = (
        f"What {title} computes, and what its gradient reads.",
        f"Gradients of what {title} reads, from those of what it computes.",
        f"What {title} computes, in torch, for gradients of its gradients.",
    )
    for module, doc in zip(found.modules, docs, strict=True):
        for each in module.classes:
            kept = (m for m in each.methods if not _steps(m))
            yield replace(each, doc=(doc,), methods=tuple(kept))


def _steps(method: tuple[str, ...]) -> bool:
    return any(line.startswith("    def step(") for line in method)

"""`compile --target triton --arch sm_90 --report`: what kernels cost on a GPU, without one."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from seqdsl import driver
from seqdsl.backends.torch.load import load
from seqdsl.backends.triton.chips import CHIPS
from seqdsl.backends.triton.costs import costs
from seqdsl.backends.triton.interpreting import interpreting
from seqdsl.backends.triton.loops.waiting import notes
from seqdsl.commands.outcome import OK, Request, elaborate_request, print_json
from seqdsl.diagnostics import CallError
from seqdsl.ir.bind import bind_sizes
from seqdsl.testing.cases import Case, inputs_for
from seqdsl.testing.layers import stand_ins, subject

if TYPE_CHECKING:
    from torch import Tensor


def report(request: Request, target: str, arch: str, shape: str, json: bool) -> int:
    """Print what the kernels of a layer cost: registers, spills, launches, bytes, time.

    `shape` is BATCHxTIME. Raises `CallError` for an architecture that is not known.
    """
    if target != "triton":
        raise CallError("--report is of the target `triton`: --target triton")
    if arch not in CHIPS:
        raise CallError(f"--arch is one of {', '.join(CHIPS)}, not `{arch}`")
    sizes = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", shape)
    if sizes is None:
        raise CallError(f"--shape is BATCHxTIME, such as 1x4096, not `{shape}`")
    if interpreting():
        raise CallError("TRITON_INTERPRET is set: then nothing is compiled for a GPU")
    batch, time = int(sizes[1]), int(sizes[2])
    passes = _passes(request, arch, batch, time)
    if json:
        print_json({**_about(request, arch, batch, time), **passes})
    else:
        print("\n".join(_lines(request, arch, batch, time, passes)))
    return OK


def _about(request: Request, arch: str, batch: int, time: int) -> Mapping[str, Any]:
    return {
        "layer": elaborate_request(request).model.name,
        "arch": arch,
        "chip": CHIPS[arch].name,
        "batch": batch,
        "time": time,
    }


def _passes(request: Request, arch: str, batch: int, time: int) -> Mapping[str, Any]:
    """The figures of both passes, of the layer with parameters of bfloat16."""
    elaborated = elaborate_request(request)
    model, given = elaborated.model, request.given
    bind_sizes(model, given)
    artifact = driver.artifact(elaborated, "triton", request.strategy)
    made: Any = load(artifact)
    externs = stand_ins(model)
    module = made(**given, **({"externs": externs} if externs else {})).bfloat16()
    drawn = inputs_for(subject(model, given), Case(0, batch, time))
    inputs = {n: _narrow(x) for n, x in drawn.items()}

    def forward() -> list[Tensor]:
        out = module(**inputs)
        many: Any = out
        return list(many) if isinstance(out, tuple) else [many]

    names, file = ("forward", "backward"), vars(sys.modules[made.__module__])
    file["EVERYWHERE"] = True
    try:
        found = costs(forward, arch, file.get("LOOPS"))
    finally:
        file["EVERYWHERE"] = False
    shown = zip(names, found, strict=True)
    passes = {name: part.report(arch, batch * time) for name, part in shown}
    return {"notes": notes(artifact.text), **passes}


def _narrow(x: Tensor) -> Tensor:
    """An input in the precision of the layer, with a gradient."""
    return x.bfloat16().requires_grad_() if x.is_floating_point() else x


def _lines(
    request: Request, arch: str, batch: int, time: int, passes: Mapping[str, Any]
) -> Iterator[str]:
    about = _about(request, arch, batch, time)
    yield f"{about['layer']} on {about['chip']} ({arch}), {batch} x {time} steps"
    yield from passes["notes"]
    for name in ("forward", "backward"):
        found = passes[name]
        yield ""
        yield f"{name}: {len(found['launches'])} launches"
        if not found["launches"]:
            continue
        yield (
            "  kernel               programs  warps  registers  spilled   shared"
            "  occupancy        bytes        flops"
        )
        for x in found["launches"]:
            yield (
                f"  {x['kernel']:20s} {x['programs']:8d} {x['warps']:6d}"
                f" {x['registers']:10d} {x['spilled']:8d} {x['shared']:8d}"
                f" {x['occupancy']:10.0%} {x['bytes']:12,d} {x['flops']:12.3g}"
            )
        yield (
            f"  a token: {found['bytes_per_token']:,.0f} bytes (least"
            f" {found['least_bytes_per_token']:,.0f}), {found['flops_per_token']:,.0f}"
            f" flops (least {found['least_flops_per_token']:,.0f})"
        )
        yield (
            f"  by the data sheet: {found['roofline_us']:,.1f} us"
            f" (least {found['least_us']:,.1f})"
        )

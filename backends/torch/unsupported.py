"""What the torch backend has no form of, as a table."""

from __future__ import annotations

from collections.abc import Mapping

from seqdsl.backends.torch.pointwise import SUPPORTED
from seqdsl.backends.torch.reductions import SUPPORTED_ALONGS, SUPPORTED_REDUCTIONS
from seqdsl.diagnostics import UnsupportedError
from seqdsl.ir import nodes as ir
from seqdsl.ir.ops import ALONGS, MAPS, REDUCTIONS

UNSUPPORTED: Mapping[str, str] = {
    "untied over a run-time count": "parameters per step of a loop without fixed count",
    "option named like a Python word": "an option that Python reserves (`lambda`)",
    **{f"operator {name}": "pointwise" for name in MAPS.keys() - SUPPORTED},
    **{f"operator {n}": "reduction" for n in REDUCTIONS.keys() - SUPPORTED_REDUCTIONS},
    **{f"operator {name}": "along" for name in ALONGS.keys() - SUPPORTED_ALONGS},
}
"""Construct → what is meant; `compile_model` raises `UnsupportedError` for each."""


def check_supported(model: ir.Model) -> None:
    """Raise `UnsupportedError` for what cannot be written as a torch module."""
    import keyword

    for option in model.options:
        if keyword.iskeyword(option.name) or option.name == "self":
            raise UnsupportedError(
                f"{model.name}: the option `{option.name}` has a name that Python "
                "reserves; rename it"
            )
    for param in model.params:
        for axis in param.type.axes:
            repeat = model.repeat.get(axis)
            if repeat is not None and isinstance(repeat.count, ir.Base):
                raise UnsupportedError(
                    f"{model.name}: `{param.name}` is untied along `{axis}`, whose "
                    "count is only known at run time"
                )

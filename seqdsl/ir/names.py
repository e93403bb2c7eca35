"""Names that nothing in a model has yet."""

from __future__ import annotations

from seqdsl.ir import nodes as ir


def names_of(model: ir.Model) -> set[str]:
    """Every name that `model` gives to a value, call, dim, axis or option."""
    return {
        *model.input,
        *model.param,
        *model.equation,
        *model.call,
        *model.dims,
        *model.repeat,
        *model.copies,
        *(o.name for o in model.options),
    }


def fresh(name: str, taken: set[str]) -> str:
    """`name`, or `name_2`, … where it is taken; it is taken from now on."""
    number, result = 1, name
    while result in taken:
        number += 1
        result = f"{name}_{number}"
    taken.add(result)
    return result

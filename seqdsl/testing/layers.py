"""Subjects from specs: small options found, a module compiled for each set of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

from torch import Tensor, nn

from seqdsl.backends.reference import initial_params
from seqdsl.backends.torch import Artifact, compile_model
from seqdsl.backends.torch.load import load
from seqdsl.elaborate import Program, elaborate
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Scalar
from seqdsl.native.choose import module_class
from seqdsl.testing.corpus import Directives, read_directives
from seqdsl.testing.known import Known
from seqdsl.testing.replay import ReplayModule
from seqdsl.testing.sizes import option_sets
from seqdsl.testing.subject import Externs, Subject

Build = Callable[[ir.Model, Mapping[str, Scalar], Externs], nn.Module]
"""A module for a model under options; parameters in double precision."""


def compiled(
    model: ir.Model,
    options: Mapping[str, Scalar],
    externs: Externs,
    strategy: str = "auto",
    target: str = "torch",
) -> nn.Module:
    """The module that a target makes."""
    if target == "torch":
        return built(artifact(model, strategy), options, externs)
    make = cast(Callable[..., nn.Module], module_class(model, target, strategy))
    more = {"externs": dict(externs)} if externs else {}
    return make(**options, **more).double()


_FILES = Known(most=16)


def artifact(model: ir.Model, strategy: str) -> Artifact:
    """The file of the torch backend, made once for a model in hand."""

    def make() -> tuple[ir.Model, Artifact]:
        # what is kept has its id for itself
        return model, compile_model(model, strategy=strategy)

    return _FILES.once((id(model), strategy), make)[1]


def built(
    artifact: Artifact, options: Mapping[str, Scalar], externs: Externs
) -> nn.Module:
    """The module of a generated file."""
    make = cast(Callable[..., nn.Module], load(artifact))
    more = {"externs": dict(externs)} if externs else {}
    return make(**options, **more).double()


def replayed(
    model: ir.Model, options: Mapping[str, Scalar], externs: Externs
) -> nn.Module:
    """The reference interpreter as a module."""
    return ReplayModule(model, options, externs=externs)


def subjects(
    program: Program,
    layer: str,
    *,
    given: Mapping[str, Scalar] | None = None,
    externs: Externs | None = None,
    count: int = 1,
    build: Build = compiled,
    file: str | None = None,
) -> Iterator[Subject]:
    """The layer under up to `count` sets of small options that contain `given`.

    `#!` comments of the spec say which options and ranges to take. Raises `SpecError`
    where the spec is wrong or no options are found.
    """
    source = program.spec.source
    said = read_directives(source.text)

    def form(options: Mapping[str, Scalar]) -> ir.Model:
        return elaborate(program, layer, options).model

    decl = next(d for d in program.spec.layers if d.name == layer)
    start = {**said.options_for(decl), **(given or {})}
    for options in _sound(option_sets(form, start, 4 * count), form)[:count]:
        model, name = form(options), file or source.name
        bound = externs or stand_ins(model)
        yield subject(model, options, externs=bound, build=build, said=said, file=name)


def _sound(
    found: Sequence[dict[str, Scalar]],
    form: Callable[[Mapping[str, Scalar]], ir.Model],
) -> Sequence[dict[str, Scalar]]:
    """Options under which initial values are numbers; all, where there are none such.

    `index[K] / (K - 1)` has none for K = 1, and nothing could be seen through NaN.
    """
    return [o for o in found if _finite(form(o), o)] or found


def _finite(model: ir.Model, options: Mapping[str, Scalar]) -> bool:
    values = initial_params(model, options, 0).values()
    return not any(bool(v.isnan().any()) for v in values)


def subject(
    model: ir.Model,
    options: Mapping[str, Scalar] | None = None,
    *,
    externs: Externs | None = None,
    build: Build = compiled,
    said: Directives | None = None,
    file: str = "<spec>",
    text: str = "",
) -> Subject:
    """One layer with all its options set."""
    options, bound = dict(options or {}), externs or {}
    made = Subject(model, options, partial(build, model, options, bound), file=file)
    ranges = {} if said is None else _ranges(said, model, options)
    return replace(made, ranges=ranges, externs=bound, text=text)


def _ranges(
    said: Directives, model: ir.Model, options: Mapping[str, Scalar]
) -> dict[str, tuple[int, int]]:
    named = {**said.ranges.get("", {}), **said.ranges.get(model.name, {})}
    return {
        i.name: said.range_for(model.name, i.name, options)
        for i in model.inputs
        if i.name in named
    }


def stand_ins(model: ir.Model) -> dict[str, Callable[..., Tensor]]:
    """A smooth function of the right shape for each extern op of a model."""
    found = {e.name: _stand_in(e) for e in model.externs}
    for instance in model.instances:
        found.update(stand_ins(instance.model))
    return found


def _stand_in(extern: ir.Extern) -> Callable[..., Tensor]:
    shapes = [kind.dims for _, kind in extern.args]
    if extern.result.dims not in shapes:
        raise ValueError(f"extern `{extern.name}` needs a function of its own")
    return partial(_sine, shapes.index(extern.result.dims))


def _sine(place: int, *args: Tensor) -> Tensor:
    return args[place].sin()

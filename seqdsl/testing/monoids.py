"""Runs a monoid's combine and apply on values, to test its laws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from seqdsl.analysis import Verdict
from seqdsl.analysis.monoids import apply, combine, element_types, identity
from seqdsl.analysis.verdict import Monoid
from seqdsl.backends.reference import interpret
from seqdsl.differentiate.broadcast import shaped
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import bind_sizes
from seqdsl.ir.sizes import Scalar
from seqdsl.ir.types import BATCH, TIME, Type

Values = tuple[torch.Tensor, ...]
_EACH = frozenset({BATCH, TIME})


class Steps:
    """The monoid of a verdict, on tensors [batch, 1, dims]."""

    def __init__(
        self, model: ir.Model, verdict: Verdict, options: Mapping[str, Scalar]
    ) -> None:
        assert verdict.monoid is not None
        self.monoid: Monoid = verdict.monoid
        self.entries = verdict.entries
        types = {s: model.equation[s].expr.type for s in verdict.recurrence.states}
        self.states = {s: Type(t.dtype, t.dims, _EACH) for s, t in types.items()}
        kinds = element_types(self.monoid, self.entries, tuple(self.states.values()))
        self.leaf = [Type(t.dtype, t.dims, _EACH) for t in kinds]
        self.nodes = verdict.leaf
        self.options = options
        self.model = replace(model, dims={**model.dims, **verdict.dims})

    def leaves(self, inputs: Mapping[str, torch.Tensor]) -> list[Values]:
        """The steps that the layer takes on `inputs`, which all have a time axis."""
        shape = next(iter(inputs.values())).shape[:2]
        values: list[torch.Tensor] = []
        nodes = [shaped(n, t.dims) for n, t in zip(self.nodes, self.leaf, strict=True)]
        for node, value in zip(
            nodes, self._run(self.model, nodes, inputs), strict=True
        ):
            own = value.shape[value.dim() - len(node.type.dims) :]
            missing = 2 + len(own) - value.dim()
            values.append(
                value.reshape(*(1,) * missing, *value.shape).expand(*shape, *own)
            )
        return [tuple(v[:, t : t + 1] for v in values) for t in range(shape[1])]

    def random(self, make: torch.Generator) -> Values:
        """Any step."""
        found = self._random(self.leaf, make)
        if self.monoid != "clamp":
            return found
        shift, low, high = found
        return shift, torch.minimum(low, high), torch.maximum(low, high)

    def identity(self, leaf: Values) -> Values:
        """The step that changes nothing, of the shape of `leaf`."""
        nodes = identity(self.monoid, self.entries, len(self.states))
        found = self._alone(nodes, self.leaf, {"a": (self.leaf, leaf)})
        return tuple(f.expand(v.shape) for f, v in zip(found, leaf, strict=True))

    def random_states(self, make: torch.Generator) -> Values:
        """Any values of the states."""
        return self._random(list(self.states.values()), make)

    def _random(self, types: Sequence[Type], make: torch.Generator) -> Values:
        sizes = bind_sizes(self.model, self.options).dims
        top = 1 if self.entries is None else sizes[self.entries]
        values: list[torch.Tensor] = []
        for type_ in types:
            shape = (2, 1, *(int(sizes.get(d, d)) for d in type_.dims))
            match type_.dtype:
                case "bool":
                    values.append(torch.rand(shape, generator=make) < 0.5)
                case "int" if self.entries is not None:
                    values.append(torch.randint(0, top, shape, generator=make))
                case "int":
                    values.append(torch.randint(-9, 9, shape, generator=make))
                case _:
                    values.append(
                        torch.randn(shape, generator=make, dtype=torch.float64)
                    )
        return tuple(values)

    def combine(self, first: Values, second: Values) -> Values:
        """The step `first` and then `second`."""
        a, b = _refs("a", self.leaf), _refs("b", self.leaf)
        nodes = combine(self.monoid, self.entries, a, b)
        given = {"a": (self.leaf, first), "b": (self.leaf, second)}
        return self._alone(nodes, self.leaf, given)

    def apply(self, leaf: Values, state: Values) -> Values:
        """The states after a step."""
        types = list(self.states.values())
        reads = dict(zip(self.states, _refs("s", types), strict=True))
        after = apply(self.monoid, self.entries, _refs("a", self.leaf), reads)
        given = {"a": (self.leaf, leaf), "s": (types, state)}
        return self._alone(tuple(after.values()), types, given)

    def _alone(
        self,
        nodes: Sequence[ir.Node],
        wanted: Sequence[Type],
        given: Mapping[str, tuple[Sequence[Type], Values]],
    ) -> Values:
        """Nodes over nothing but the inputs `given`."""
        inputs = {
            f"{name}{i}": (type_, value)
            for name, (types, values) in given.items()
            for i, (type_, value) in enumerate(zip(types, values, strict=True))
        }
        model = replace(
            self.model,
            inputs=tuple(ir.Input(name=n, type=t) for n, (t, _) in inputs.items()),
            params=(),
            states=(),
            equations=(),
        )
        whole = [shaped(n, t.dims) for n, t in zip(nodes, wanted, strict=True)]
        return self._run(model, whole, {n: v for n, (_, v) in inputs.items()})

    def _run(
        self,
        model: ir.Model,
        nodes: Sequence[ir.Node],
        inputs: Mapping[str, torch.Tensor],
    ) -> Values:
        outputs = tuple(ir.Output(name=f"o{i}", expr=n) for i, n in enumerate(nodes))
        model = replace(model, outputs=outputs)
        found = interpret(model, options=self.options, params={}, inputs=inputs)
        return tuple(found[o.name] for o in outputs)


def _refs(name: str, types: Sequence[Type]) -> tuple[ir.Node, ...]:
    return tuple(build.ref(f"{name}{i}", t) for i, t in enumerate(types))

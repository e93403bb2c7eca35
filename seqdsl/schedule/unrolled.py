"""Several steps of a region as one, between which states stay in registers.

The steps of a block are equations of their own: what one leaves of a state the next reads
as a value of the same step, so that one pass over a matrix serves all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import children, subtree, with_children
from seqdsl.schedule.region import Region
from seqdsl.schedule.substituted import asks_itself, substituted


@dataclass(frozen=True)
class Unrolled:
    """`region`, whose steps are `count` of another's each.

    `inputs` and `outputs` say of which of these steps each of its own is what value, in
    the order in which they run; None where a value does not vary along time.
    """

    region: Region
    count: int
    inputs: tuple[tuple[str, int | None], ...]
    outputs: tuple[tuple[str, int], ...]


def unrolled(region: Region, count: int) -> Unrolled | None:
    """`count` steps of `region` as one.

    None where a step tells which one it is, or reads others of what is not a state.
    """
    if region.replay or region.still:
        return None
    nodes = [n for e in region.steps for n in subtree(region.model.equation[e].expr)]
    if any(isinstance(n, ir.Position) and n.along == TIME for n in nodes):
        return None
    if any(isinstance(n, ir.Shift) and not _state(n.arg, region) for n in nodes):
        return None
    if not all(_same(region.model, name) for name in region.states):
        return None
    return _Unroller(region, count).run()


def _state(node: ir.Node, region: Region) -> bool:
    return isinstance(node, ir.Ref) and node.name in region.states


def _same(model: ir.Model, name: str) -> bool:
    """Whether the value of an update has the dims and the dtype of its state."""
    made, kept = model.equation[name].expr.type, model.state[name].type
    return (set(made.dims), made.dtype) == (set(kept.dims), kept.dtype)


def phased(name: str, phase: int) -> str:
    """The name of a value at a step of a block."""
    return f"{name}@{phase}"


@dataclass
class _Unroller:
    region: Region
    count: int

    def run(self) -> Unrolled:
        region, model = self.region, self.region.model
        phases = range(self.count)
        equations = tuple(
            ir.Equation(
                name=phased(name, i), expr=self.at(model.equation[name].expr, i)
            )
            for i in phases
            for name in region.steps
        )
        inputs = [(i.name, p) for i in model.inputs for p in self._phases(i)]
        outputs = [(o.name, p) for o in model.outputs for p in phases]
        body = replace(
            model,
            name=f"{model.name}_by_{self.count}",
            inputs=tuple(
                model.input[n]
                if p is None
                else replace(model.input[n], name=phased(n, p))
                for n, p in inputs
            ),
            equations=(*equations, *map(self._kept, region.states)),
            outputs=tuple(self._output(model, n, p) for n, p in outputs),
        )
        made = replace(
            region,
            name=body.name,
            model=body,
            steps=tuple(e.name for e in body.equations),
            reads=(),
        )
        return Unrolled(made, self.count, tuple(inputs), tuple(outputs))

    def _phases(self, read: ir.Input) -> tuple[int | None, ...]:
        return tuple(range(self.count)) if TIME in read.type.axes else (None,)

    def _kept(self, state: str) -> ir.Equation:
        """What a state is behind the block."""
        last = phased(state, self.count - 1)
        type_ = self.region.model.equation[state].expr.type
        return ir.Equation(name=state, expr=build.ref(last, type_))

    def _output(self, model: ir.Model, name: str, phase: int) -> ir.Output:
        made = phased(name, phase)
        type_ = model.equation[name].expr.type
        return ir.Output(name=made, expr=build.ref(made, type_))

    def at(self, node: ir.Node, phase: int) -> ir.Node:
        """`node` at a step of the block."""
        match node:
            case ir.Ref(name=name):
                known = self.region.model.input.get(name)
                if known is not None and TIME not in known.type.axes:
                    return node
                return build.ref(phased(name, phase), node.type)
            case ir.Shift(arg=ir.Ref(name=name)):
                if phase == 0:
                    return node
                return build.ref(phased(name, phase - 1), node.type)
            case _:
                old = children(node)
                new = tuple(self.at(c, phase) for c in old)
                return with_children(node, new) if new else node


def block_of(region: Region, count: int) -> Unrolled | None:
    """`count` steps of `region` as one that passes over its states no more often.

    None where a step has to wait for all rows of what the one before left.
    """
    made, own = unrolled(region, count), asks_itself(region)
    if made is None or not own:
        return made
    phases = range(count)
    values = own | {phased(n, p) for n in own for p in phases}
    found = substituted(made.region, values)
    return None if found is None else replace(made, region=found)

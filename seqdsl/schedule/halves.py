"""Regions whose complex values are pairs of real ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import Type
from seqdsl.ir.walk import subtree
from seqdsl.rewrite.real_parts import Pair, full, pair, real
from seqdsl.schedule.region import Region

Names = dict[str, tuple[str, str]]


def in_reals(region: Region) -> Region:
    """`region` without complex numbers, not even on the way; itself where it has none.

    A complex input, state or output is two, one behind the other: of real parts and of
    imaginary parts.
    """
    model = region.model
    values = [*model.inputs, *model.states]
    wide = [v.name for v in values if v.type.dtype == "complex"]
    wide += [e.name for e in model.equations if e.expr.type.dtype == "complex"]
    nodes = (n for e in model.equations for n in subtree(e.expr))
    if not wide and all(n.type.dtype != "complex" for n in nodes):
        return region
    taken = {v.name for v in values} | {e.name for e in model.equations}
    return _Halver(region, _names(dict.fromkeys(wide), taken)).run()


def _names(wide: Iterable[str], taken: set[str]) -> Names:
    found: Names = {}
    for name in wide:
        base = name
        while {f"{base}_re", f"{base}_im"} & taken:
            base += "_"
        found[name] = f"{base}_re", f"{base}_im"
    return found


@dataclass(frozen=True)
class _Halver:
    region: Region
    names: Names

    def run(self) -> Region:
        region, model = self.region, self.region.model
        first = {f"{s.name}_0": s.name for s in model.states}
        inputs: list[ir.Input] = []
        reads: list[ir.Node] = []
        for number, given in enumerate(model.inputs):
            read = region.reads[number] if number < len(region.reads) else None
            if given.type.dtype != "complex":
                inputs.append(given)
                reads += [] if read is None else [read]
                continue
            state = first.get(given.name)
            names = self.names[given.name]
            if state is not None:
                re, im = self.names[state]
                names = f"{re}_0", f"{im}_0"
            inputs += [ir.Input(name=n, type=_float(given.type)) for n in names]
            if read is not None:
                reads += [build.map_(op, read) for op in ("real", "imag")]
        new = replace(
            model,
            inputs=tuple(inputs),
            states=tuple(s for state in model.states for s in self._state(state)),
            equations=tuple(e for old in model.equations for e in self._equation(old)),
            outputs=tuple(o for old in model.outputs for o in self._output(old)),
        )
        return replace(
            region,
            model=new,
            reads=tuple(reads),
            states=self._all(region.states),
            steps=self._all(region.steps),
            replay=self._all(region.replay),
            replayed=self._all(region.replayed),
            lags=(),
        )

    def _all(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(h for n in names for h in self.names.get(n, (n,)))

    def _known(self, read: ir.Ref) -> Pair:
        re, im = self.names[read.name]
        return build.ref(re, _float(read.type)), build.ref(im, _float(read.type))

    def _state(self, state: ir.State) -> Iterable[ir.State]:
        if state.name not in self.names:
            return [state]
        return [
            replace(
                state,
                name=name,
                type=_float(state.type),
                initial=build.ref(f"{name}_0", _float(state.initial.type)),
            )
            for name in self.names[state.name]
        ]

    def _equation(self, old: ir.Equation) -> Iterable[ir.Equation]:
        if old.name not in self.names:
            return [replace(old, expr=real(old.expr, self._known))]
        like: ir.Node | ir.State = self.region.model.state.get(old.name, old.expr)
        return [
            replace(old, name=name, expr=full(_real(part), like.type.dims))
            for name, part in zip(
                self.names[old.name], pair(old.expr, self._known), strict=True
            )
        ]

    def _output(self, old: ir.Output) -> Iterable[ir.Output]:
        if old.name not in self.names:
            return [old]
        type_ = _float(old.expr.type)
        return [
            replace(old, name=n, expr=build.ref(n, type_)) for n in self.names[old.name]
        ]


def _real(part: ir.Node) -> ir.Node:
    return part if part.type.dtype == "float" else build.map_("float", part)


def _float(type_: Type) -> Type:
    return replace(type_, dtype="float")

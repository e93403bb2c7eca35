"""A callee's names, dims, axes, options and nodes in terms of its caller."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.names import fresh, names_of
from seqdsl.ir.sites import site_in
from seqdsl.ir.sizes import Opt, Size, substitute
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.ir.walk import transform


@dataclass(frozen=True)
class Move:
    """Where everything of a callee goes: its names, dims, axes and options in ours."""

    call: ir.CallSite
    instance: ir.Instance
    names: dict[str, str]
    params: dict[str, str]
    instances: dict[str, str]
    dims: dict[str, str]
    axes: dict[str, str]
    options: dict[str, Size]
    extra: frozenset[str]

    @staticmethod
    def make(model: ir.Model, call: ir.CallSite, instance: ir.Instance) -> Move:
        callee = instance.model
        taken = names_of(model)
        names = {
            n: fresh(f"{call.name}_{n}", taken)
            for n in (*callee.input, *callee.equation, *callee.call)
        }
        # parameters belong to the instance: a second call finds them by the same key
        present = {p.key: p.name for p in model.params}
        prefix = _identifier(instance.name)
        axes = {r.axis: fresh(f"{call.name}_{r.axis}", taken) for r in callee.repeats}
        axes |= {c: fresh(f"{call.name}_{c}", taken) for c in callee.copies}
        params: dict[str, str] = {}
        for param in callee.params:
            key = _key(instance, param.key, axes)
            params[param.name] = present.get(key) or fresh(
                f"{prefix}_{param.name}", taken
            )
        dims = _fixed_dims(model, callee, params)
        for theirs in callee.dims:
            ours = dims.get(theirs) or dict(call.dims).get(theirs)
            # two dims of the callee that are one of ours must stay apart inside
            if theirs not in dims and (ours is None or ours in dims.values()):
                ours = fresh(f"{prefix}_{theirs}", taken)
            assert ours is not None
            dims[theirs] = ours
        args = [a.type.axes for _, a in call.args]
        extra = frozenset[str](call.scope).union(*args) - {BATCH, TIME}
        options = _options(instance)
        return Move(
            call=call,
            instance=instance,
            names=names,
            params=params,
            instances={i.name: f"{instance.name}.{i.name}" for i in callee.instances},
            dims=dims,
            axes=axes,
            options={**{d: Opt(n) for d, n in dims.items()}, **options},
            extra=extra,
        )

    def size(self, size: Size) -> Size:
        """A size over the callee's options in terms of ours."""
        return substitute(size, self.options)

    def new_dims(self) -> dict[str, Size]:
        """Dims that only the callee has."""
        given = dict(self.call.dims)
        sizes: dict[str, Size] = {}
        for theirs, size in self.instance.model.dims.items():
            ours = given.get(theirs)
            if ours is None:
                sizes[self.dims[theirs]] = self.size(size)
            elif ours != self.dims[theirs]:
                sizes[self.dims[theirs]] = Opt(ours)
        return sizes

    def renamed(self) -> tuple[tuple[str, str], ...]:
        """Dims of ours that have another name inside: pairs (ours, inside)."""
        return tuple(
            (ours, self.dims[theirs])
            for theirs, ours in self.call.dims
            if self.dims.get(theirs, ours) != ours
        )

    def entering(self, arg: ir.Node, wanted: ir.Input) -> ir.Node:
        """An argument with the dims that the callee's input has inside."""
        inside = [self.dims[d] for d in wanted.type.dims]
        pairs = [p for p in self.renamed() if p[0] in arg.type.dims and p[1] in inside]
        return build.rename(arg, pairs, arg.span)

    def leaving(self, result: ir.Node) -> ir.Node:
        """A result of the callee with our dims."""
        pairs = [(b, a) for a, b in self.renamed() if b in result.type.dims]
        return build.rename(result, pairs, result.span)

    def axis(self, axis: str) -> str:
        """An axis or dim under its new name."""
        return self.axes.get(axis, self.dims.get(axis, axis))

    def along(self, axes: tuple[str, ...]) -> tuple[str, ...]:
        """Several of them."""
        return tuple(map(self.axis, axes))

    def type(self, type_: Type) -> Type:
        """A type in our dims and axes; what varies at all may vary along the call's."""
        axes = frozenset(map(self.axis, type_.axes))
        dims = tuple(self.dims.get(d, d) for d in type_.dims)
        return Type(type_.dtype, dims, axes | self.extra if axes else axes)

    def scope(self, scope: tuple[str, ...]) -> tuple[str, ...]:
        """The loops around a callee's equation."""
        return (*self.call.scope, *self.along(scope))

    def node(self, node: ir.Node) -> ir.Node:
        """An expression of the callee as one of ours."""
        return transform(node, self._moved)

    def _moved(self, node: ir.Node) -> ir.Node:
        node = replace(node, type=self.type(node.type))
        match node:
            case ir.Ref(name=name) if name in self.params:
                instance = frozenset(self.instance.scope)
                type_ = replace(node.type, axes=self._own(name) | instance)
                return replace(node, name=self.params[name], type=type_)
            case ir.Ref(name=name):
                # what stands for any element of a monoid is called the same everywhere
                return replace(node, name=self.names.get(name, name))
            case ir.Result(call=call):
                return replace(node, call=self.names[call])
            case ir.Const(value=value):
                return replace(node, value=self.size(value))
            case ir.Position(along=along):
                return replace(node, along=self.axis(along))
            case ir.Sample(seed=seed, site=site):
                seed = None if seed is None else self.size(seed)
                return replace(node, seed=seed, site=site_in(self.call.name, site))
            case _:
                return self._indexed(node)

    def _own(self, param: str) -> frozenset[str]:
        """Axes along which the callee itself keeps a parameter untied."""
        axes = self.instance.model.param[param].type.axes
        return frozenset(map(self.axis, axes))

    def _indexed(self, node: ir.Node) -> ir.Node:
        """Nodes that name dims, axes or sizes."""
        match node:
            case ir.Reduce(over=over) | ir.Contract(over=over):
                return replace(node, over=self.along(over))
            case ir.Along(over=over, count=count):
                count = None if count is None else self.size(count)
                return replace(node, over=self.along(over), count=count)
            case ir.Shift(axis=axis) | ir.At(axis=axis):
                return replace(node, axis=self.axis(axis))
            case ir.Stack(axis=axis, dim=dim):
                return replace(node, axis=self.axis(axis), dim=self.axis(dim))
            case ir.Copy(copy=copy):
                return replace(node, copy=self.axis(copy))
            case ir.Rename(pairs=pairs):
                moved = tuple((self.axis(a), self.axis(b)) for a, b in pairs)
                kept = tuple((a, b) for a, b in moved if a != b)
                return replace(node, pairs=kept) if kept else node.arg
            case ir.Split(dim=dim, into=into):
                return replace(node, dim=self.axis(dim), into=self.along(into))
            case ir.Merge(dims=dims, into=into):
                return replace(node, dims=self.along(dims), into=self.axis(into))
            case _:
                return self._sized(node)

    def _sized(self, node: ir.Node) -> ir.Node:
        match node:
            case ir.SliceDim(dim=dim, into=into, start=start, step=step):
                return replace(
                    node,
                    dim=self.axis(dim),
                    into=self.axis(into),
                    start=self.size(start),
                    step=self.size(step),
                )
            case ir.Roll(dim=dim, offset=offset):
                return replace(node, dim=self.axis(dim), offset=self.size(offset))
            case ir.Concat(dims=dims, into=into):
                return replace(node, dims=self.along(dims), into=self.axis(into))
            case ir.Gather(dim=dim) | ir.OneHot(dim=dim):
                return replace(node, dim=self.axis(dim))
            case ir.Conv(axes=axes, taps=taps, reduce=reduce, dilation=dilation):
                return replace(
                    node,
                    axes=self.along(axes),
                    taps=self.along(taps),
                    reduce=self.along(reduce),
                    dilation=self.size(dilation),
                )
            case _:
                return node

    def arguments(self) -> Iterator[ir.Equation]:
        """What the callee's inputs are, as equations of ours."""
        for name, arg in self.call.args:
            yield ir.Equation(
                name=self.names[name],
                expr=self.entering(arg, self.instance.model.input[name]),
                scope=self.call.scope,
                written=False,
                span=arg.span,
            )

    def equation(self, equation: ir.Equation) -> ir.Equation:
        """An equation of the callee."""
        return replace(
            equation,
            name=self.names[equation.name],
            expr=self.node(equation.expr),
            scope=self.scope(equation.scope),
            written=False,
        )

    def state(self, state: ir.State) -> ir.State:
        """A state of the callee."""
        return replace(
            state,
            name=self.names[state.name],
            type=self.type(state.type),
            initial=self.node(state.initial),
            carried=frozenset(map(self.axis, state.carried)),
        )

    def param(self, param: ir.Param) -> ir.Param:
        """A parameter of the instance, at its full path."""
        init = param.init
        if init.expr is not None:
            init = replace(init, expr=self.node(init.expr))
        if init.gain is not None:
            init = replace(init, gain=self.size(init.gain))
        type_ = self.type(param.type)
        axes = self._own(param.name) | frozenset(self.instance.scope)
        return replace(
            param,
            name=self.params[param.name],
            key=_key(self.instance, param.key, self.axes),
            type=replace(type_, axes=axes),
            init=init,
        )

    def monoid(self, monoid: ir.Monoid) -> ir.Monoid:
        """A monoid that some states of the callee are claimed to move by."""

        def all_of(nodes: tuple[ir.Node, ...]) -> tuple[ir.Node, ...]:
            return tuple(map(self.node, nodes))

        return replace(
            monoid,
            states=tuple(self.names[s] for s in monoid.states),
            axis=self.axis(monoid.axis),
            fields=tuple((n, self.type(t)) for n, t in monoid.fields),
            leaf=all_of(monoid.leaf),
            identity=all_of(monoid.identity),
            combine=all_of(monoid.combine),
            read=all_of(monoid.read),
        )

    def repeat(self, repeat: ir.Repeat) -> ir.Repeat:
        """A loop of the callee."""
        count, condition = repeat.count, repeat.condition
        moved = self.node(count) if isinstance(count, ir.Base) else self.size(count)
        return replace(
            repeat,
            axis=self.axis(repeat.axis),
            count=moved,
            condition=None if condition is None else self.node(condition),
            scope=self.scope(repeat.scope),
        )

    def instance_of(self, inner: ir.Instance) -> ir.Instance:
        """A sub-layer of the callee."""
        return replace(
            inner,
            name=_key(self.instance, inner.name, self.axes),
            options=tuple((n, self.size(s)) for n, s in inner.options),
            scope=(*self.instance.scope, *self.along(inner.scope)),
        )

    def call_of(self, inner: ir.CallSite) -> ir.CallSite:
        """A call that the callee makes."""
        return replace(
            inner,
            name=self.names[inner.name],
            instance=_key(self.instance, inner.instance, self.axes),
            args=tuple((n, self.node(a)) for n, a in inner.args),
            dims=tuple((theirs, self.axis(ours)) for theirs, ours in inner.dims),
            scope=self.scope(inner.scope),
        )


def _fixed_dims(
    model: ir.Model, callee: ir.Model, params: dict[str, str]
) -> dict[str, str]:
    """Dims of the callee that parameters have fixed which an earlier call brought."""
    dims: dict[str, str] = {}
    for theirs, ours in params.items():
        if ours in model.param:
            pairs = zip(
                callee.param[theirs].type.dims, model.param[ours].type.dims, strict=True
            )
            dims.update(pairs)
    return dims


def _identifier(path: str) -> str:
    """A state-dict path as one identifier: `l.{l}.cell` becomes `cell`."""
    return path.rsplit(".", 1)[-1]


def _key(instance: ir.Instance, key: str, axes: dict[str, str]) -> str:
    """The full path of something of `instance`, with the steps of renamed loops."""
    for old, new in axes.items():
        key = key.replace("{" + old + "}", "{" + new + "}")
    return f"{instance.name}.{key}"


def _options(instance: ir.Instance) -> dict[str, Size]:
    """The callee's options in terms of ours, defaults included."""
    values = dict(instance.options)
    for option in instance.model.options:
        if option.name not in values and option.default is not None:
            values[option.name] = substitute(option.default, values)
    return values

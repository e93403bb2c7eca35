"""Values of expressions at a few small sizes, without any library: for testing laws."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from itertools import product

from seqdsl.analysis.scalars import FOLDS, SCALARS, Number
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Scalar, Size, SizeError, evaluate

Array = Mapping[tuple[int, ...], Number]
"""Entries by their index along the dims of a type, in that order."""


class NoNumbers(Exception):
    """An expression that is not evaluated here, by the name of what it holds."""


class Numeric:
    """Values of nodes over the leaves `values`; dims have the extents in `extents`.

    `unknown` gives the entries of what is not evaluated, which else raises `NoNumbers`.
    """

    def __init__(
        self,
        extents: Callable[[str], int],
        options: Mapping[str, Scalar],
        values: Mapping[str, Array],
        unknown: Callable[[ir.Node], Array] | None = None,
    ) -> None:
        self.extents = extents
        self.options = options
        self.values = values
        self.unknown = unknown
        self._found: dict[int, tuple[ir.Node, Array]] = {}

    def array(self, node: ir.Node) -> Array:
        """All entries of `node`; raises `NoNumbers`."""
        if id(node) not in self._found:
            self._found[id(node)] = (node, self._known(node))
        return self._found[id(node)][1]

    def spread(self, node: ir.Node, dims: tuple[str, ...]) -> Array:
        """All entries of `node` along `dims`, where it may lack some."""
        where, array = [dims.index(d) for d in node.type.dims], self.array(node)
        return {i: array[tuple(i[w] for w in where)] for i in self.indices(dims)}

    def _known(self, node: ir.Node) -> Array:
        try:
            return self._of(node)
        except NoNumbers:
            if self.unknown is None:
                raise
            return self.unknown(node)

    def indices(self, dims: Iterable[str]) -> Iterator[tuple[int, ...]]:
        """Every index along `dims`."""
        return product(*(range(self.extents(d)) for d in dims))

    def _of(self, node: ir.Node) -> Array:
        match node:
            case ir.Const(value=value):
                return {(): self._size(value)}
            case ir.Ref(name=name) if name in self.values:
                return self.values[name]
            case ir.Position(along=along) if along in node.type.dims:
                return {(i,): i for (i,) in self.indices((along,))}
            case ir.Map(op=op, args=args) if op in SCALARS:
                arrays = [(a.type.dims, self.array(a)) for a in args]
                return self._each(node, lambda at: SCALARS[op](*_picked(arrays, at)))
            case ir.Contract(args=args, over=over):
                return self._contraction(node, args, over)
            case ir.Reduce():
                return self._reduction(node)
            case ir.Rename(arg=arg, pairs=pairs) if all(
                self.extents(a) == self.extents(b) for a, b in pairs
            ):
                return self.array(arg)
            case ir.Gather(arg=arg, dim=dim, index=index):
                return self._looked_up(node, arg, dim, index)
            case _:
                raise NoNumbers(_name(node))

    def _size(self, size: Size) -> Number:
        try:
            value = evaluate(size, self.options)
        except (KeyError, SizeError):
            raise NoNumbers(f"{size}") from None
        if isinstance(value, str):
            raise NoNumbers(value)
        return value

    def _each(
        self, node: ir.Node, entry: Callable[[Mapping[str, int]], Number]
    ) -> Array:
        dims = node.type.dims
        return {i: entry(dict(zip(dims, i, strict=True))) for i in self.indices(dims)}

    def _contraction(
        self, node: ir.Node, args: tuple[ir.Node, ...], over: tuple[str, ...]
    ) -> Array:
        arrays = [(a.type.dims, self.array(a)) for a in args]
        times = SCALARS["mul"]

        def entry(at: Mapping[str, int]) -> Number:
            total: Number = 0
            for inner in self.indices(over):
                whole = {**at, **dict(zip(over, inner, strict=True))}
                value: Number = 1
                for picked in _picked(arrays, whole):
                    value = times(value, picked)
                total = total + value
            return total

        return self._each(node, entry)

    def _reduction(self, node: ir.Reduce) -> Array:
        over, mean = node.over, node.op == "mean"
        if node.op not in FOLDS and not mean:
            raise NoNumbers(node.op)
        fold, start = FOLDS["sum" if mean else node.op]
        both = [node.arg] if node.where is None else [node.arg, node.where]
        arrays = [(n.type.dims, self.array(n)) for n in both]
        if any(d not in node.arg.type.dims for d in over):
            raise NoNumbers(node.op)

        def entry(at: Mapping[str, int]) -> Number:
            total, count = start, 0
            for inner in self.indices(over):
                whole = {**at, **dict(zip(over, inner, strict=True))}
                value, *where = _picked(arrays, whole)
                if all(where):
                    total, count = fold(total, value), count + 1
            return SCALARS["div"](total, count) if mean else total

        return self._each(node, entry)

    def _looked_up(
        self, node: ir.Node, arg: ir.Node, dim: str, index: ir.Node
    ) -> Array:
        table = [(arg.type.dims, self.array(arg))]
        places = [(index.type.dims, self.array(index))]

        def entry(at: Mapping[str, int]) -> Number:
            (place,) = _picked(places, at)
            if not 0 <= place < self.extents(dim):
                raise NoNumbers("an index outside of its dim")
            (found,) = _picked(table, {**at, dim: int(place)})
            return found

        return self._each(node, entry)


def _picked(
    arrays: Iterable[tuple[tuple[str, ...], Array]], at: Mapping[str, int]
) -> list[Number]:
    return [array[tuple(at[d] for d in dims)] for dims, array in arrays]


def _name(node: ir.Node) -> str:
    match node:
        case ir.Map(op=op) | ir.Along(op=op):
            return op
        case ir.Ref(name=name) | ir.ExternCall(name=name):
            return name
        case _:
            return type(node).__name__.lower()


def small(
    extents: Mapping[str, Size], single: Container[str], most: int = 3
) -> Callable[[str], int]:
    """Extents for a test: 1 for dims in `single`, small ones as they are, else 2."""

    def of(dim: str) -> int:
        match extents.get(dim):
            case _ if dim in single:
                return 1
            case Lit(int(value)) if value <= most:
                return value
            case None if dim.isdecimal() and int(dim) <= most:
                return int(dim)
            case _:
                return 2

    return of

"""What is made of positions alone: half precision cannot count beyond 256.

Such values (`t % C == 0`, the angle `t / base ** (index[J] / J)` of a rotation and its
cosine) are computed in at least single precision, with the parameters in them, and
rounded where they meet what depends on the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import children

EXACT = "exact = torch.promote_types(dtype, torch.float32)"
"""The precision in which they are."""


@dataclass
class Positional:
    """Which expressions of a model are made of positions, numbers and parameters alone."""

    model: ir.Model
    _known: dict[int, tuple[ir.Node, bool | None]] = field(
        default_factory=dict[int, tuple[ir.Node, bool | None]]
    )
    _names: dict[str, bool | None] = field(default_factory=dict[str, bool | None])

    def __call__(self, node: ir.Node) -> bool:
        """Whether `node` is, and a position is part of it."""
        return bool(self._of(node))

    def _of(self, node: ir.Node) -> bool | None:
        """Whether a position is part of `node`; None where something else is."""
        found = self._known.get(id(node))
        if found is None:
            found = self._known[id(node)] = node, self._find(node)
        return found[1]

    def _find(self, node: ir.Node) -> bool | None:
        match node:
            case ir.Const():
                return False
            case ir.Position():
                return True
            case ir.Ref(name=name):
                return self.of_name(name)
            case ir.Map() | ir.Rename() | ir.Split() | ir.Merge():
                parts = children(node)
            case ir.SliceDim() | ir.Roll() | ir.Concat():
                parts = children(node)
            case _:
                return None
        found = [self._of(part) for part in parts]
        return None if None in found else any(found)

    def of_name(self, name: str) -> bool | None:
        """The same of what a name stands for; of a state or an input it is None."""
        if name in self.model.param:
            return False
        if name not in self.model.equation or name in self.model.state:
            return None
        if name not in self._names:
            self._names[name] = None
            self._names[name] = self._of(self.model.equation[name].expr)
        return self._names[name]

    def shared(self) -> frozenset[str]:
        """Values made of positions that others are made of: they must not be rounded."""
        found: set[str] = set()
        for expr in self._expressions():
            for node in self._largest(expr):
                if not isinstance(node, ir.Ref):
                    found.update(n for n in _read(node) if self.of_name(n))
        return frozenset(found)

    def _largest(self, node: ir.Node) -> Iterator[ir.Node]:
        if self(node):
            yield node
        else:
            for child in children(node):
                yield from self._largest(child)

    def _expressions(self) -> Iterator[ir.Node]:
        model = self.model
        yield from (e.expr for e in model.equations)
        yield from (o.expr for o in model.outputs)
        yield from (s.initial for s in model.states)
        yield from (arg for c in model.calls for _, arg in c.args)


def _read(node: ir.Node) -> Iterator[str]:
    if isinstance(node, ir.Ref):
        yield node.name
    for child in children(node):
        yield from _read(child)

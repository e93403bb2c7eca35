"""Where the values of one layer's step are."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from seqdsl.backends.torch.streaming import (
    Entry,
    Streaming,
    starts_with_inputs,
    streaming,
)
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import Bound, bind_sizes
from seqdsl.ir.sizes import Scalar
from seqdsl.ir.types import TIME
from seqdsl.native.stepping.plan import StepRefused, Work
from seqdsl.native.stepping.read import without_stateless
from seqdsl.native.stepping.slots import Path, Slot
from seqdsl.schedule.block import Key

MOST_TAPS = 16
"""Earlier steps that one value may be read at."""


@dataclass
class Places:
    """`model` as the layer at `where`, whose entries of the state are at `state`.

    `env` are the values computed so far, `steps_of` those of all steps of a repeat, and
    `depth` says in which steps we are.
    """

    work: Work
    model: ir.Model
    bound: Bound
    where: Path
    state: Path
    env: dict[Key, Slot]
    steps_of: dict[Key, list[Slot]] = field(default_factory=dict[Key, list[Slot]])
    depth: dict[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        self.memory = streaming(self.model)
        if "t" not in self._known():
            self.memory = self.memory.without("position")
        self._check(self.memory)
        self.flat = without_stateless(self.model)
        self.sizes: dict[str, Scalar] = {**self.bound.options}
        if self.flat is not self.model:
            self.sizes |= bind_sizes(self.flat, self.bound.options).dims
        self.sizes |= self.bound.dims

    def _known(self) -> Collection[object]:
        """Keys of the state of this layer."""
        found: Any = self.work.state
        for key in self.state:
            found = found[key] if found else {}
        return found

    def _check(self, memory: Streaming) -> None:
        kinds = {e.kind for e in memory.entries}
        if memory.reasons or kinds & {"seed", "past", "past_t"}:
            raise StepRefused("its state holds more than kernels read")
        for state in self.model.states:
            if TIME in state.carried and starts_with_inputs(self.model, state):
                raise StepRefused(f"`{state.name}` starts with what inputs say")

    def extents(self, dims: Iterable[str]) -> list[int]:
        return [int(self.sizes.get(d, d)) for d in dims]

    def shared(self) -> list[Key]:
        """Keys of values that all sequences have in common."""
        params: list[Key] = [("ref", p.name) for p in self.flat.params]
        own: list[Key] = [k for k, s in self.env.items() if s.stride == 0]
        places: list[Key] = [("position", a) for a in self.depth]
        return [*params, *own, *places]

    def look(self, key: Key) -> Slot:
        """The slot of what a block reads."""
        match key:
            case ("ref", str(name)) if name in self.flat.param:
                return self._param(self.flat.param[name])
            case ("lag", int(back), *source):
                return self._lag(back, tuple(source))
            case ("position", str(axis)) if axis in self.depth:
                return self.work.store.number(self.depth[axis])
            case ("position", "t") if self.memory.has("position"):
                return self.given_entry(self._only("position"))
            case ("position", _):
                raise StepRefused("a position that the state does not hold")
            case ("before", axis, *source):
                return self.steps_of[axis, *source][-1]
            case ("at", axis, int(place), *source):
                return self.steps_of[axis, *source][place]
            case _:
                return self.env[key]

    def _param(self, param: ir.Param) -> Slot:
        path = (*self.where, *self.filled(param.key))
        dims = self.extents(param.type.dims)
        return self.work.store.given("param", path, dims, param.type.dtype, False)

    def filled(self, key: str) -> Path:
        """A dotted key with the places of the steps that we are in."""
        parts = key.split(".")
        return tuple(
            str(self.depth[p[1:-1]] - 1) if p.startswith("{") else p for p in parts
        )

    def entry(self, owner: str, kind: str) -> Entry | None:
        found = (e for e in self.memory.entries if e.owner == owner and e.kind == kind)
        return next(found, None)

    def _only(self, kind: str) -> Entry:
        return next(e for e in self.memory.entries if e.kind == kind)

    def path(self, entry: Entry) -> Path:
        return (*self.state, entry.key, *(self.depth[a] - 1 for a in entry.scope))

    def rows(self, entry: Entry) -> int:
        """How many steps an entry holds."""
        assert entry.count is not None
        rows = self.bound.whole(entry.count)
        if rows > MOST_TAPS:
            raise StepRefused(f"`{entry.owner}` is read too far back")
        return rows

    def _lag(self, back: int, source: Key) -> Slot:
        name = str(source[1])
        if name.endswith(".taken"):
            entry = self.entry(name.removesuffix(".taken"), "conv")
        else:
            found = (e for e in self.memory.entries if e.source == source)
            entry = next((e for e in found if e.kind in ("carry", "lag")), None)
        if entry is None:
            raise StepRefused(f"`{name}` is not in the state")
        if entry.kind == "carry":
            return self.given_entry(entry)
        rows = self.rows(entry)
        dims = self.extents(entry.type.dims)
        path, store = self.path(entry), self.work.store
        return store.row("state", path, rows, rows - back, dims, entry.type.dtype)

    def given_entry(self, entry: Entry) -> Slot:
        dims = self.extents(entry.type.dims)
        path, dtype = self.path(entry), entry.type.dtype
        return self.work.store.given("state", path, dims, dtype, True)

    def after(self, entry: Entry, back: int, rows: int) -> Slot:
        """Where an entry of the next state goes: `back` steps before the next one."""
        path, dims = self.path(entry), self.extents(entry.type.dims)
        store, dtype = self.work.store, entry.type.dtype
        if rows:
            slot = store.row("after", path, rows, rows - back, dims, dtype)
            store.row("state", path, rows, 0, dims, dtype)
        else:
            slot = store.given("after", path, dims, dtype, True)
            self.given_entry(entry)
        assert isinstance(slot.at, int)
        self.work.after[path] = slot.at
        return slot

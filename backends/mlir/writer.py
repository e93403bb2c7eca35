"""MLIR text under construction: nested blocks, and values that know where they stand."""

from __future__ import annotations

from collections.abc import Generator, Hashable
from contextlib import contextmanager
from dataclasses import dataclass, field

from seqdsl.ir.types import DType


@dataclass(frozen=True)
class Val:
    """An SSA value: one number, or a vector of `lanes`; known from block `level` on."""

    name: str
    dtype: DType
    lanes: int
    level: int


@dataclass(frozen=True)
class Index:
    """Where a dim stands: one entry, or `lanes` entries from there on.

    `name` is an SSA value of type index. `mask` says which lanes exist (None: all),
    `fixed` is the number where it is known. The entries are `stride` apart.
    """

    name: str
    level: int
    lanes: int = 0
    mask: str | None = None
    fixed: int | None = None
    stride: int = 1


@dataclass
class Level:
    """One block; `cache` holds what was computed in it."""

    lines: list[str] = field(default_factory=list[str])
    cache: dict[Hashable, Val | Index | str] = field(
        default_factory=dict[Hashable, "Val | Index | str"]
    )


@dataclass
class Writer:
    """A function under construction; level 0 is its body, inner loops come behind."""

    levels: list[Level] = field(default_factory=lambda: [Level()])
    slots: list[str] = field(default_factory=list[str])
    functions: dict[str, str] = field(default_factory=dict[str, str])
    count: int = 0

    @property
    def depth(self) -> int:
        """The innermost block."""
        return len(self.levels) - 1

    def fresh(self) -> str:
        self.count += 1
        return f"%{self.count}"

    def put(self, text: str, level: int) -> str:
        """A statement with a result, at the end of block `level`."""
        name = self.fresh()
        self.line(f"{name} = {text}", level)
        return name

    def line(self, text: str, level: int | None = None) -> None:
        """A line at the end of a block."""
        self.levels[self.depth if level is None else level].lines.append(text)

    def once(self, text: str, level: int = 0) -> str:
        """A statement without side effects; written once in block `level` or outside."""
        for known in self.levels[: level + 1]:
            if isinstance(found := known.cache.get(text), str):
                return found
        name = self.put(text, level)
        self.levels[level].cache[text] = name
        return name

    def constant(self, value: int) -> str:
        """A number of type index."""
        return self.once(f"arith.constant {value} : index")

    def find(self, key: Hashable) -> Val | None:
        """What was computed under `key` in a block that is still open."""
        for level in self.levels:
            found = level.cache.get(key)
            if isinstance(found, Val):
                return found
        return None

    def keep(self, key: Hashable, value: Val) -> Val:
        """Note a value in the block where it stands."""
        self.levels[value.level].cache[key] = value
        return value

    def slot(self, type_: str) -> str:
        """Memory for one value of a type, set up where the function begins."""
        name = self.fresh()
        self.slots.append(f"{name} = memref.alloca() : memref<{type_}>")
        return name

    @contextmanager
    def block(self, head: str) -> Generator[None]:
        """Lines written inside stand in braces behind `head`."""
        self.levels.append(Level())
        yield
        inner = self.levels.pop()
        self.line(f"{head} {{")
        self.levels[-1].lines += [f"  {line}" for line in inner.lines]
        self.line("}")

    @contextmanager
    def loop(self, low: str, high: str, step: str) -> Generator[Index]:
        """`scf.for`; gives its index."""
        name = self.fresh()
        with self.block(f"scf.for {name} = {low} to {high} step {step}"):
            yield Index(name, self.depth)

"""The parallel forms of a recurrence along time, as data: what a backend has to compute.

A form is read off the normal form of a verdict, never off the name of a model. All its
nodes are free of the recurrence, so they are values of whole sequences. Dims that a node
lacks are those along which it is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from seqdsl.analysis.verdict import Monoid, Semiring
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Size


@dataclass(frozen=True, kw_only=True)
class DiagonalScan:
    """`h = coefficient * h[t-1] + offset` entry by entry, in `semiring`.

    `coefficient` None is the semiring's one, `offset` None its zero. `filtered` asks for
    the convolution with the powers of a coefficient that is the same at every step.
    """

    state: str
    semiring: Semiring
    coefficient: ir.Node | None
    offset: ir.Node | None
    filtered: bool = False


@dataclass(frozen=True, kw_only=True)
class Block:
    """What row state `target` takes from column state `source`, `lag` steps earlier.

    `weight` has the dims of the target's `mixed` and, under the names in `columns` (one for
    each mixed dim of the source, in order), those of the source, and maybe `copies`.
    """

    target: str
    source: str
    lag: int
    weight: ir.Node
    columns: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MatrixScan:
    """Several states, or one whose entries mix: a step is a matrix over `mixed` dims.

    A state's dims are `copies` (each has a matrix of its own), its `mixed` dims (the rows of
    the joint matrix, all states and lags one below another), and the rest (columns, which
    share the matrix). `lags` says how many steps of a state are kept. `dims` has the
    extents of the dims that only the weights have.
    """

    states: tuple[str, ...]
    semiring: Semiring
    copies: tuple[str, ...]
    mixed: Mapping[str, tuple[str, ...]]
    lags: Mapping[str, int]
    blocks: tuple[Block, ...]
    offsets: Mapping[str, ir.Node]
    dims: Mapping[str, Size] = field(default_factory=dict[str, Size])


@dataclass(frozen=True, kw_only=True)
class MonoidScan:
    """Steps that are elements of a known monoid; `analysis/monoids.py` combines them."""

    states: tuple[str, ...]
    monoid: Monoid
    leaf: tuple[ir.Node, ...]
    entries: str | None


@dataclass(frozen=True, kw_only=True)
class Decay:
    """`target` keeps `coefficient` (dims among copies and rows) times `source` of before."""

    target: str
    source: str
    coefficient: ir.Node


@dataclass(frozen=True, kw_only=True)
class Erase:
    """`left * sum[rows](right * source[t-1])`, added to `target`; summed over `inner`.

    `left` and `right` have dims among copies and rows (and `inner`, the index of a sum of
    several such products).
    """

    target: str
    source: str
    left: ir.Node
    right: ir.Node
    inner: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Write:
    """`key * value`, added to `target`; summed over `inner`.

    `key` has dims among copies and rows, `value` among copies and columns.
    """

    target: str
    key: ir.Node
    value: ir.Node
    inner: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Read:
    """`name = sum[rows](query * source)`, at this step or, for `lag` 1, the one before.

    `query` has dims among copies, rows and `extra`, which the result has beside the
    copies and columns (several queries for one state).
    """

    name: str
    source: str
    lag: int
    query: ir.Node
    extra: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Products:
    """Matrix states by chunks of `chunk` steps, in which no state of a step is made.

    Each state is a matrix of `rows` by `columns` for every one of `copies`; a step keeps,
    erases and writes, and `reads` are all that others want to know of it, so a chunk is a
    few matrix products, and only states at the borders of chunks exist. `positive` says
    that every coefficient is known to lie in [0, 1].
    """

    states: tuple[str, ...]
    copies: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    decays: tuple[Decay, ...]
    erases: tuple[Erase, ...]
    writes: tuple[Write, ...]
    reads: tuple[Read, ...]
    chunk: int
    positive: bool = False
    dims: Mapping[str, Size] = field(default_factory=dict[str, Size])


@dataclass(frozen=True, kw_only=True)
class Newton:
    """All steps at once by Newton's iteration on a step that is not linear.

    `entrywise` says that the Jacobian is diagonal. Lim et al., Parallelizing non-linear
    sequential models over the sequence length, ICLR 2024.
    """

    states: tuple[str, ...]
    entrywise: bool
    iterations: int
    fallback: bool


Form = DiagonalScan | MatrixScan | MonoidScan | Products | Newton

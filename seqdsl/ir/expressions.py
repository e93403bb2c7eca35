"""Expressions of the IR: small trees whose leaves name other values of the model (`Ref`).

Sharing goes through names, so what is printed later keeps the writer's own. Build nodes
with `ir/build.py`, which computes and checks types.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from seqdsl.ir.sizes import Size
from seqdsl.ir.types import Type
from seqdsl.source import NOWHERE, Span


@dataclass(frozen=True, kw_only=True)
class Base:
    """What every node has: its type, and where in the spec it comes from."""

    type: Type
    span: Span = field(default=NOWHERE, compare=False, repr=False)


# ---- Leaves


@dataclass(frozen=True, kw_only=True)
class Const(Base):
    """A scalar known when a layer is made: a literal or option arithmetic."""

    value: Size


@dataclass(frozen=True, kw_only=True)
class Ref(Base):
    """An input, parameter, state or equation at the current index of every axis.

    For a state this is the value *after* the update of the current step; the value
    before it is `Shift(Ref(state), axis, -1)`.
    """

    name: str


@dataclass(frozen=True, kw_only=True)
class Position(Base):
    """The current index as an int: along an axis (`t` from 0, `n` from 1) or a dim (from 0)."""

    along: str


@dataclass(frozen=True, kw_only=True)
class Sample(Base):
    """Counter-based random numbers: uniform in [0, 1) or standard normal.

    A pure function of `(seed, site, batch, t, depth steps, element)`. `seed` None means one that
    is drawn afresh for every call (and kept in the state between pieces).
    """

    kind: Literal["uniform", "normal"]
    seed: Size | None
    site: int


@dataclass(frozen=True, kw_only=True)
class Training(Base):
    """A bool scalar: whether the module is in training mode."""


@dataclass(frozen=True, kw_only=True)
class Result(Base):
    """Output `output` of the call site `call`, at the current index."""

    call: str
    output: str


# ---- Pointwise, reductions, contractions


@dataclass(frozen=True, kw_only=True)
class Map(Base):
    """A pointwise operator of `ops.MAPS`, broadcast by name over dims and axes."""

    op: str
    args: tuple[Node, ...]


@dataclass(frozen=True, kw_only=True)
class Reduce(Base):
    """An operator of `ops.REDUCTIONS` over dims and/or axes, which disappear.

    `where` (bool) says which entries take part; it may read a copy axis in `over`.
    """

    op: str
    arg: Node
    over: tuple[str, ...]
    where: Node | None = None


@dataclass(frozen=True, kw_only=True)
class Contract(Base):
    """Product of all `args` (outer by name), summed over `over`: `dot[K](q, S)`."""

    args: tuple[Node, ...]
    over: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Along(Base):
    """A shape-keeping operator of `ops.ALONGS` along dims or a copy axis.

    softmax, log_softmax, cumsum, cumprod, cummax, cummin, logcumsumexp, top (keeps the `count`
    largest along the one dim, 0 elsewhere; ties go to the lower index).
    """

    op: str
    arg: Node
    over: tuple[str, ...]
    where: Node | None = None
    count: Size | None = None


# ---- Re-indexing


@dataclass(frozen=True, kw_only=True)
class Shift(Base):
    """`arg` at index `+ offset` of `axis`; outside: the state's initial value, else 0.

    `arg` is always a `Ref` or `Result`: what is shifted has a name. For time, outside
    means before the first or after the last step of the segment. For a `repeat` axis
    it means `n < 1` (offsets are then negative).
    """

    arg: Ref | Result
    axis: str
    offset: int


@dataclass(frozen=True, kw_only=True)
class At(Base):
    """`arg` at one index of a `repeat` axis (0 = initial, 1 … count), or of time (0 …).

    `index` is an int scalar; None means the last step (after halting, where
    there is a condition). `arg` is a `Ref` or `Result`.
    """

    arg: Ref | Result
    axis: str
    index: Node | None


@dataclass(frozen=True, kw_only=True)
class Stack(Base):
    """All steps 1 … count of `arg` along a `repeat` axis, as the dim `dim`."""

    arg: Ref | Result
    axis: str
    dim: str


@dataclass(frozen=True, kw_only=True)
class Copy(Base):
    """`arg` with the time axis renamed to the copy axis `copy`: `k[s]`."""

    arg: Ref | Result
    copy: str


@dataclass(frozen=True, kw_only=True)
class Rename(Base):
    """Dims under new names: pairs (old, new)."""

    arg: Node
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Split(Base):
    """One dim as several, row-major: `x.(D -> [heads, K])`."""

    arg: Node
    dim: str
    into: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Merge(Base):
    """Several dims as one, row-major in the order of `dims`: `x.([heads, K] -> D)`.

    The merged dim stands where the first of `dims` stood.
    """

    arg: Node
    dims: tuple[str, ...]
    into: str


@dataclass(frozen=True, kw_only=True)
class SliceDim(Base):
    """Entries start, start + step, … of `dim`, as the dim `into` (its size says how many)."""

    arg: Node
    dim: str
    start: Size
    step: Size
    into: str


@dataclass(frozen=True, kw_only=True)
class Roll(Base):
    """`arg` moved by `offset` towards higher indices of `dim`; wraps, or fills with 0."""

    arg: Node
    dim: str
    offset: Size
    wrap: bool


@dataclass(frozen=True, kw_only=True)
class Concat(Base):
    """Values one after another along dims `dims` (one per arg), as the dim `into`.

    The dim "" stands for an arg without the dim, which counts as one entry.
    """

    args: tuple[Node, ...]
    dims: tuple[str, ...]
    into: str


@dataclass(frozen=True, kw_only=True)
class Gather(Base):
    """`arg` at the int value `index` along `dim`, by name: a table look-up.

    Result dims: the index's own dims, then what remains of `arg`. Dims that both have are aligned
    (batched), not crossed. An index outside the dim is a `CallError` at run time where it comes
    from an input, and never wraps.
    """

    arg: Node
    dim: str
    index: Node


@dataclass(frozen=True, kw_only=True)
class OneHot(Base):
    """1 where `index` equals the position along the new dim `dim`, else 0 (float)."""

    index: Node
    dim: str


@dataclass(frozen=True, kw_only=True)
class Conv(Base):
    """Convolution of `arg` with `weight` along `axes` (`t`, or dims of `arg`).

    Along `t` it is causal: output t reads t, t-1·dilation, …; tap `width-1` is the current step, as
    in a left-padded `torch.nn.Conv1d`. Along dims the output has the same size, `pad` is zero,
    circular, reflect or replicate, odd widths only. With `ahead` it looks the other way along `t`,
    as the adjoint of one that does not: output t reads t, t+1·dilation, …, again with the current
    step at tap `width-1`. `taps` are the weight's dims that stand for the axes, in order. `reduce` are dims of both that are summed. Dims in both and not in
    `reduce` are depthwise.
    """

    arg: Node
    weight: Node
    axes: tuple[str, ...]
    taps: tuple[str, ...]
    dilation: Size
    reduce: tuple[str, ...]
    pad: Literal["zero", "circular", "reflect", "replicate"]
    ahead: bool = False


@dataclass(frozen=True, kw_only=True)
class Grad(Base):
    """d `of` / d `wrt`, with `wrt` taken as an independent variable; same dims as `wrt`.

    `of` is summed over its own dims first. Equations of the same step through which `of` reads `wrt` are differentiated
    through. `rewrite/expand_grad.py` replaces this node.
    """

    of: Node
    wrt: Shift | Ref


@dataclass(frozen=True, kw_only=True)
class ExternCall(Base):
    """A declared extern op applied to values; opaque."""

    name: str
    args: tuple[Node, ...]


Node = (
    Const
    | Ref
    | Position
    | Sample
    | Training
    | Result
    | Map
    | Reduce
    | Contract
    | Along
    | Shift
    | At
    | Stack
    | Copy
    | Rename
    | Split
    | Merge
    | SliceDim
    | Roll
    | Concat
    | Gather
    | OneHot
    | Conv
    | Grad
    | ExternCall
)

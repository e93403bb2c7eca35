"""The parallel forms of a recurrence along time, as data: what a backend has to compute.

A form is read off the normal form of a verdict, never off the name of a model. All its
nodes are free of the recurrence, so they are values of whole sequences. Dims that a node
lacks are those along which it is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

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
    dims: Mapping[str, Size] = field(default_factory=dict[str, Size])


@dataclass(frozen=True, kw_only=True)
class Decay:
    """`target` keeps `coefficient` (dims among copies and rows) times `source[t-1]`.

    A pair of states without one keeps nothing of each other.
    """

    target: str
    source: str
    coefficient: ir.Node


@dataclass(frozen=True, kw_only=True)
class Write:
    """`left * (value + sum[rows](right * source[t-1]))`, added to every target of `left`.

    `left` has a vector for each target and `right` one for each source, whose products
    are added up: none for a plain write, one for a delta rule (there the negative of
    what `left` writes to), several where states are coupled. Both have dims among copies
    and rows, `value` (None is 0) among copies and columns. Any may also have the dims
    `inner`: then the product of `left` with the rest is summed over these.
    """

    left: Mapping[str, ir.Node]
    right: Mapping[str, ir.Node] = field(default_factory=dict[str, ir.Node])
    value: ir.Node | None = None
    inner: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Read:
    """`name = sum[rows](query * source)`, at this step or, for `lag` 1, the one before.

    `query` has dims among copies, rows and `extra`. The result has the dims `extra`,
    copies and columns, in that order: several queries may read one state.
    """

    name: str
    source: str
    lag: int
    query: ir.Node
    extra: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Products:
    """Matrix states by chunks of `chunk` steps, in which no state of a step is made.

    Each state is a matrix of `rows` by `columns` for every one of `copies`. A step adds
    up what the states keep (`decays`) and what is written, all of it from the states of
    the step before; `reads` are all that others want to know of them. So a chunk is a few
    matrix products, and only states at the borders of chunks exist. `chunk` is a power
    of two. `dims` has the extents of dims that the model does not have. Where `turn` is
    given, a dim of all writes, a step decays once and then writes along it in turns: each
    reads what those before it left, of which `kept` is what it keeps. `beside` are states
    that decay alike and are written to along the same vectors: more columns.
    """

    states: tuple[str, ...]
    copies: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    decays: tuple[Decay, ...]
    writes: tuple[Write, ...]
    reads: tuple[Read, ...]
    chunk: int
    dims: Mapping[str, Size] = field(default_factory=dict[str, Size])
    turn: str | None = None
    kept: ir.Node | None = None
    beside: tuple[Products, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Newton:
    """All steps at once by Newton's iteration on a step that is not linear.

    Entries along `copies`, dims that all states have, never meet, so the Jacobian of a
    step is a matrix over the other dims for each of them. If the iteration fails, within
    `most` rounds where it is given, the loop runs, or with `strict` that is an error. Lim
    et al., Parallelizing non-linear sequential models over the sequence length, ICLR 2024.
    """

    states: tuple[str, ...]
    copies: tuple[str, ...]
    strict: bool = False
    most: int | None = None


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """States of which some, `held`, change only where one of `borders` holds.

    From one border to the next these are constants, so that `parts` give all steps of
    the others at once. Where they are known `early`, before the others and read at their
    own step alone, a piece begins at a border; else the step at a border is taken alone.
    `between` are equations outside of the recurrence that parts need of those before
    them. Sun et al., Learning to (learn at test time), 2024, section 2.4.
    """

    states: tuple[str, ...]
    held: tuple[str, ...]
    borders: tuple[ir.Node, ...]
    parts: tuple[DiagonalScan | Products, ...]
    early: bool
    between: tuple[ir.Equation, ...] = ()

    def products(self) -> tuple[Products, ...]:
        """Parts of whose states only reads are known."""
        return tuple(p for p in self.parts if isinstance(p, Products))


Form = DiagonalScan | MatrixScan | MonoidScan | Products | Newton | Pieces


def computed(form: Form) -> tuple[str, ...]:
    """Names of the values that a form makes."""
    match form:
        case DiagonalScan(state=state):
            return (state,)
        case Products(reads=reads, beside=beside):
            return (*(r.name for r in reads), *(n for f in beside for n in computed(f)))
        case MatrixScan(states=states) | MonoidScan(states=states):
            return states
        case Newton(states=states):
            return states
        case Pieces(held=held, parts=parts):
            return (*held, *(n for part in parts for n in computed(part)))


def nodes_of(form: Form) -> tuple[ir.Node, ...]:
    """All that a form reads."""
    match form:
        case DiagonalScan(coefficient=a, offset=b):
            return tuple(n for n in (a, b) if n is not None)
        case MatrixScan(blocks=blocks, offsets=offsets):
            return (*(b.weight for b in blocks), *offsets.values())
        case MonoidScan(leaf=leaf):
            return leaf
        case Products(decays=decays, writes=writes, reads=reads, kept=turned):
            sides = [n for w in writes for n in (*w.left.values(), *w.right.values())]
            values = [w.value for w in writes if w.value is not None]
            kept = [d.coefficient for d in decays]
            kept += [] if turned is None else [turned]
            others = (n for f in form.beside for n in nodes_of(f))
            return (*kept, *sides, *values, *(r.query for r in reads), *others)
        case Pieces(borders=borders, parts=parts):
            own = (n for part in parts for n in nodes_of(part))
            return (*borders, *own, *(e.expr for e in form.between))
        case Newton():
            return ()


def with_nodes(form: Form, change: Callable[[ir.Node], ir.Node]) -> Form:
    """`form` with `change` made to all that it reads."""

    def maybe(node: ir.Node | None) -> ir.Node | None:
        return None if node is None else change(node)

    def each(nodes: Mapping[str, ir.Node]) -> dict[str, ir.Node]:
        return {name: change(node) for name, node in nodes.items()}

    match form:
        case DiagonalScan(coefficient=a, offset=b):
            return replace(form, coefficient=maybe(a), offset=maybe(b))
        case MatrixScan(blocks=blocks, offsets=offsets):
            changed = tuple(replace(b, weight=change(b.weight)) for b in blocks)
            return replace(form, blocks=changed, offsets=each(offsets))
        case MonoidScan(leaf=leaf):
            return replace(form, leaf=tuple(change(n) for n in leaf))
        case Products(decays=decays, writes=writes, reads=reads, beside=beside):
            kept = (replace(d, coefficient=change(d.coefficient)) for d in decays)
            more = (
                replace(w, left=each(w.left), right=each(w.right), value=maybe(w.value))
                for w in writes
            )
            others = (with_nodes(f, change) for f in beside)
            return replace(
                form,
                decays=tuple(kept),
                writes=tuple(more),
                reads=tuple(replace(r, query=change(r.query)) for r in reads),
                kept=maybe(form.kept),
                beside=tuple(f for f in others if isinstance(f, Products)),
            )
        case Pieces(borders=borders, parts=parts):
            changed = (with_nodes(part, change) for part in parts)
            return replace(
                form,
                borders=tuple(map(change, borders)),
                parts=tuple(
                    p for p in changed if isinstance(p, DiagonalScan | Products)
                ),
                between=tuple(replace(e, expr=change(e.expr)) for e in form.between),
            )
        case Newton():
            return form


def dims_of(form: Form) -> Mapping[str, Size]:
    """Extents of the dims that only the nodes of a form have."""
    match form:
        case MatrixScan(dims=dims) | MonoidScan(dims=dims) | Products(dims=dims):
            return dims
        case Pieces(parts=parts):
            return {d: size for part in parts for d, size in dims_of(part).items()}
        case DiagonalScan() | Newton():
            return {}

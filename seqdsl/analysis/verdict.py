"""What the analysis finds out about one recurrence, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from seqdsl.diagnostics import Diagnostic
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Size

if TYPE_CHECKING:
    from seqdsl.analysis.graph import Edge

Kind = Literal["none", "fir", "scannable", "sequential", "opaque"]
Structure = Literal[
    "identity",
    "scalar",
    "diagonal",
    "low_rank",
    "scalar_plus_low_rank",
    "diagonal_plus_low_rank",
    "dense",
    "monoid",
]
Semiring = Literal["real", "log", "max_plus", "min_plus", "max_min", "boolean"]
Monoid = Literal["clamp", "table"] | ir.Monoid
Direction = Literal["forward", "backward"]
Strategy = Literal["loop", "scan", "chunk", "convolve", "newton"]
Json = str | int | bool | None | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True)
class Recurrence:
    """Values that depend on themselves at other steps of `axis`.

    `states` are those that are read at another step, in the model's order; `members`
    also holds the values of the same step between them. `layer` names the sub-layer
    instance they stand in, empty for the layer itself. `edges` are the reads that make
    the circle.
    """

    states: tuple[str, ...]
    axis: str
    direction: Direction
    members: tuple[str, ...]
    layer: str = ""
    edges: tuple[Edge, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class Term:
    """One linear summand of an update: `sum[over](product of factors * read)`.

    `read` is the state at another step, its dims renamed as the factors name them (or a
    linear re-indexing of it). `factors` do not depend on the recurrence; each applies
    where `masks` (bools) all hold, elsewhere the term is 0. For a term that is diagonal
    `over` is empty. In another semiring than the real one, sum and product are the
    semiring's. For a low-rank one, `left` and `right` split the factors:
    the term is `sum[inner](left * sum[contracted](right * state))` with the state's own
    dims.
    """

    state: str
    lag: int
    read: ir.Node
    factors: tuple[ir.Node, ...]
    masks: tuple[ir.Node, ...] = ()
    over: tuple[str, ...] = ()
    kind: Literal["diagonal", "low_rank", "dense"] = "dense"
    left: ir.Node | None = None
    right: ir.Node | None = None
    contracted: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()


@dataclass(frozen=True)
class Affine:
    """An update in normal form: the sum of `terms` plus `offset`, in the semiring.

    `diagonal` is the sum of the diagonal terms' coefficients for the state itself one
    step earlier (None is 0; only for the real semiring). `offset` is None where it is
    the semiring's zero.
    """

    state: str
    terms: tuple[Term, ...]
    diagonal: ir.Node | None
    offset: ir.Node | None


@dataclass(frozen=True)
class PerChunk:
    """A scan per chunk, linearized anew at its border.

    The states `held` change only where one of `borders` (bools that do not depend on the
    recurrence) holds; `size` is the length of a chunk where that is known. `verdicts` are
    those of the other states in between.
    """

    held: tuple[str, ...]
    borders: tuple[ir.Node, ...]
    size: Size | None
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Forced:
    """A condition in words under which only `verdicts` are left, none sequential."""

    condition: str
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Wavefront:
    """Steps along two axes that can be taken diagonal by diagonal.

    Where it is `speculative` each starts from a guess and is repeated until it agrees.
    """

    axes: tuple[str, str]
    speculative: bool


@dataclass(frozen=True)
class Parted:
    """A recurrence seen with dims of its states split, as its step reads them.

    `verdict` and its normal form speak of `model`; `splits` has the dim of a state and
    what it is split into.
    """

    model: ir.Model
    verdict: Verdict
    splits: Mapping[str, tuple[str, tuple[str, ...]]]


@dataclass(frozen=True)
class Verdict:
    """What may be done with a recurrence, and why nothing more.

    `rank` counts the low-rank part of the transition (None without one, or where only
    the layer's options tell: `rank_size` is the formula), `invariant`
    says that the transition is the same at every step. `per_chunk`, `forced` and `wavefront`
    are what else may be done. `updates` hold the normal form,
    whose second names of dims have the extents in `dims`. For a monoid `leaf` is what a
    step is as an element of it (`monoids.py` says how to combine and apply them), along
    the dim `entries` where it is a table for an int; `laws` say how those of a declared
    one were found to hold. `commutes` says why the order of steps does not matter, and is
    empty where it may. Where the structure only shows with a dim of a state split,
    `parted` is how it is seen; the normal form is that of the state as declared.
    """

    recurrence: Recurrence
    verdict: Kind
    structure: Structure | None = None
    rank: int | None = None
    rank_size: Size | None = None
    semiring: Semiring | None = None
    invariant: bool = False
    complex: bool = False
    monoid: Monoid | None = None
    strategies: tuple[Strategy, ...] = ()
    reasons: tuple[Diagnostic, ...] = ()
    updates: tuple[Affine, ...] = field(default=(), compare=False, repr=False)
    leaf: tuple[ir.Node, ...] = field(default=(), compare=False, repr=False)
    entries: str | None = field(default=None, compare=False, repr=False)
    per_chunk: PerChunk | None = field(default=None, compare=False, repr=False)
    forced: tuple[Forced, ...] = field(default=(), compare=False, repr=False)
    wavefront: Wavefront | None = field(default=None, compare=False, repr=False)
    laws: tuple[str, ...] = field(default=(), compare=False, repr=False)
    dims: Mapping[str, Size] = field(
        default_factory=dict[str, Size], compare=False, repr=False
    )
    commutes: str = field(default="", compare=False, repr=False)
    parted: Parted | None = field(default=None, compare=False, repr=False)

    @property
    def streams(self) -> bool:
        """Whether it can be run one step of time at a time."""
        return self.recurrence.direction == "forward" or self.recurrence.axis != "t"

    def to_json(self) -> dict[str, Json]:
        """The object that `explain --json` prints, without the strategy chosen."""
        recurrence = self.recurrence
        result: dict[str, Json] = {
            "states": list(recurrence.states),
            "axis": recurrence.axis,
            "direction": recurrence.direction,
            "verdict": self.verdict,
            "structure": self.structure,
            "rank": self.rank,
            "semiring": self.semiring,
            "invariant": self.invariant,
            "streams": self.streams,
            "commutes": bool(self.commutes),
            "strategies": list(self.strategies),
            "reasons": [_reason(d) for d in self.reasons],
        }
        if self.monoid is not None:
            result["monoid"] = monoid_name(self.monoid)
        result |= _modes(self)
        if recurrence.layer:
            result["layer"] = recurrence.layer
        return result


def _modes(verdict: Verdict) -> dict[str, Json]:
    result: dict[str, Json] = {}
    if verdict.per_chunk is not None:
        chunk = verdict.per_chunk
        size = None if chunk.size is None else str(chunk.size)
        result["per_chunk"] = {
            "size": size,
            "held": list(chunk.held),
            "recurrences": [v.to_json() for v in chunk.verdicts],
        }
    if verdict.forced:
        result["parallel_when"] = [
            {
                "condition": f.condition,
                "recurrences": [v.to_json() for v in f.verdicts],
            }
            for f in verdict.forced
        ]
    if verdict.wavefront is not None:
        front = verdict.wavefront
        speculative = {"axes": list[Json](front.axes), "speculative": front.speculative}
        result["wavefront"] = dict[str, Json](speculative)
    return result


def monoid_name(monoid: Monoid | None) -> str | None:
    """`clamp`, `table`, or what its declaration calls it."""
    return monoid.name if isinstance(monoid, ir.Monoid) else monoid


def _reason(diagnostic: Diagnostic) -> Json:
    span = diagnostic.span
    return {
        "code": diagnostic.code,
        "file": span.source.name if span else None,
        "line": span.line if span else None,
        "column": span.column if span else None,
        "end_column": span.end_column if span else None,
        "message": diagnostic.message,
        "help": " ".join(diagnostic.help),
    }


@dataclass(frozen=True)
class Analyzed:
    """A model, gradients expanded, with a verdict for each of its recurrences.

    `inner` has the models of sub-layers, equally expanded, by the `layer` of verdicts.
    """

    model: ir.Model
    verdicts: tuple[Verdict, ...]
    inner: Mapping[str, ir.Model] = field(
        default_factory=dict[str, ir.Model], compare=False, repr=False
    )

    def model_of(self, verdict: Verdict) -> ir.Model:
        """The model in which a verdict's names mean something."""
        return self.inner.get(verdict.recurrence.layer, self.model)

    def seen(self, verdict: Verdict) -> tuple[ir.Model, Verdict]:
        """A verdict as it is explained, and the model of which it then speaks."""
        if verdict.parted is None:
            return self.model_of(verdict), verdict
        parted = verdict.parted
        seen = replace(parted.verdict, parted=parted, commutes=verdict.commutes)
        return parted.model, seen

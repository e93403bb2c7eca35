"""What a layer must remember between two pieces of a sequence, and why some cannot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from seqdsl.analysis.visibility import looks_ahead, reach_of_copies, window_of
from seqdsl.backends.torch.method import Key, where
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Opt, Size, apply
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.ir.walk import subtree
from seqdsl.schedule.dependence import names_in
from seqdsl.schedule.rows import copies_of, still_initial
from seqdsl.source import Span

Kind = Literal[
    "position", "segment", "seed", "past_t",
    "carry", "lag", "conv", "past", "call",
]  # fmt: skip


_SCALAR = Type("int")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of the streaming state.

    `source` is the value remembered and `owner` the equation (input, call) that makes
    it. `count` says how many steps are kept; None: all, or for `carry` the last alone.
    `scope` are the loops along depth in which it stands: the entry is a list then.
    `copies` are those of time along which a state varies, with a row for every step.
    `ahead`: it is of later steps, which a loop from the end carries.
    """

    key: str
    kind: Kind
    source: Key = ()
    owner: str = ""
    type: Type = _SCALAR
    count: Size | None = None
    scope: tuple[str, ...] = ()
    call: ir.CallSite | None = None
    copies: tuple[str, ...] = ()
    ahead: bool = False

    @property
    def layout(self) -> tuple[str, ...]:
        """Dimensions of what is kept of one step, that of the batch left out."""
        return (*self.copies, *self.type.dims)


@dataclass(frozen=True)
class Streaming:
    """The state of a layer; `reasons` (text and place) say why it cannot stream."""

    entries: tuple[Entry, ...]
    reasons: tuple[tuple[str, Span], ...]

    def has(self, kind: Kind) -> bool:
        """Whether there is an entry of this kind."""
        return any(e.kind == kind for e in self.entries)

    def without(self, kind: Kind) -> Streaming:
        """The same with no entry of this kind."""
        return Streaming(tuple(e for e in self.entries if e.kind != kind), self.reasons)

    @property
    def window(self) -> Size | None:
        """How many past steps copies of time can see; None: all of them."""
        return next((e.count for e in self.entries if e.kind == "past_t"), None)


def streaming(model: ir.Model) -> Streaming:
    """What `model` remembers."""
    scan = _Scan(model)
    for expr, scope in expressions(model):
        scan.read(expr, scope)
    scan.convs()
    scan.calls()
    scan.rows()
    scan.indices()
    return Streaming(tuple(scan.entries()), tuple(scan.reasons))


def expressions(model: ir.Model) -> Iterator[tuple[ir.Node, tuple[str, ...]]]:
    """Every expression evaluated at run time, with the loops around it."""
    for equation in model.equations:
        yield equation.expr, equation.scope
    for call in model.calls:
        for _, arg in call.args:
            yield arg, call.scope
    for repeat in model.repeats:
        if repeat.condition is not None:
            yield repeat.condition, (*repeat.scope, repeat.axis)
        if isinstance(repeat.count, ir.Base):
            yield repeat.count, repeat.scope
    for state in model.states:
        yield state.initial, ()
    for output in model.outputs:
        yield output.expr, ()


class _Scan:
    """Collects reads of other steps."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.reaches = reach_of_copies(model)
        self.lags: dict[Key, int] = {}
        self.copied: dict[Key, Type] = {}
        self.types: dict[Key, Type] = {}
        self.found: list[Entry] = []
        self.reasons: list[tuple[str, Span]] = []
        self.indexed: dict[str, Span] = {}
        self.uses_t = self.uses_seed = False
        self.timed = False

    def read(self, expr: ir.Node, scope: tuple[str, ...]) -> None:
        """Note what `expr` reads elsewhere."""
        for node in subtree(expr):
            match node:
                case ir.Shift(arg=arg, axis=axis, offset=offset) if axis == TIME:
                    self._shift(arg, offset, node.span)
                case ir.Copy(arg=arg, copy=copy):
                    self._copy(arg, copy, node.span)
                case ir.Reduce(op=op, over=over) if TIME in over:
                    self.refuse(f"`{op}` over all of time", node.span)
                    self.timed = True
                case ir.At(axis=axis) if axis == TIME:
                    self.refuse("a read at one step of time", node.span)
                    self.timed = True
                case ir.Position(along=along) if along == TIME:
                    self.uses_t = True
                case ir.Position(along=along) if along in self.model.copies:
                    self.indexed.setdefault(along, node.span)
                case ir.Sample(seed=seed, type=type_):
                    self.uses_seed = self.uses_seed or seed is None
                    self.uses_t = self.uses_t or TIME in type_.axes
                case _:
                    pass

    def refuse(self, why: str, span: Span) -> None:
        """Note why the layer cannot run step by step."""
        self.reasons.append((why, span))

    def _shift(self, arg: ir.Ref | ir.Result, offset: int, span: Span) -> None:
        if offset > 0:
            self.timed = True
            self.refuse("a read of a later step", span)
            return
        key = key_of(arg)
        self.types[key] = arg.type
        self.lags[key] = max(self.lags.get(key, 0), -offset)

    def _copy(self, arg: ir.Ref | ir.Result, copy: str, span: Span) -> None:
        self.timed = True
        if copy not in self.reaches:
            where = looks_ahead(self.model, copy) or span
            self.refuse(
                f"`{copy}` may run over later steps: `{copy} <= t` is not known", where
            )
        else:
            self.copied[key_of(arg)] = arg.type
            self.uses_t = True

    def rows(self) -> None:
        """States along copies of time, whose rows come one by one in a stream."""
        for state in self.model.states:
            copies = copies_of(self.model, state.name)
            if not copies or TIME not in state.carried:
                continue
            self.timed = self.uses_t = True
            equation = self.model.equation[state.name]
            for copy in copies:
                why = f"`{state.name}` changes for a step `{copy}` before it comes"
                late = still_initial(self.model, state.name, copy)
                late = late and TIME not in state.initial.type.axes
                if copy not in self.reaches:
                    why, late = (
                        f"`{copy}` may run over later steps: `{copy} <= t` is not known",
                        False,
                    )
                if not late or self.lags.get(("ref", state.name)) != 1:
                    self.refuse(why, equation.span)

    def indices(self) -> None:
        """Copies of time of which only the index is read: no past tells it."""
        rows = any(copies_of(self.model, s.name) for s in self.model.states)
        if self.copied or self.reasons or rows:
            return
        for copy, span in self.indexed.items():
            self.timed = True
            self.refuse(f"nothing but the index is read along `{copy}`", span)

    def convs(self) -> None:
        """Convolutions along time."""
        for equation in self.model.equations:
            expr = equation.expr
            if isinstance(expr, ir.Conv) and TIME in expr.axes:
                if expr.ahead:
                    self.timed = True
                    self.refuse("a read of a later step", equation.span)
                    continue
                self.uses_t = True
                self.found.append(window_entry(equation, expr))

    def calls(self) -> None:
        """Sub-layers that remember something themselves."""
        for call in self.model.calls:
            callee = self.model.instance[call.instance].model
            inner = streaming(callee)
            for why, span in inner.reasons[:1]:
                place = where(span)
                inside = f"`{callee.name}`" + (f" ({place})" if place else "")
                self.refuse(f"{inside} has {why}", call.span)
            if inner.entries and not inner.reasons:
                self.found.append(
                    Entry(
                        key=call.name,
                        kind="call",
                        owner=call.name,
                        scope=call.scope,
                        call=call,
                    )
                )

    def entries(self) -> Iterator[Entry]:
        """All of them: what concerns time itself first."""
        shifted = [self._shifted(key, n) for key, n in self.lags.items()]
        kept = [self._kept(key, type_) for key, type_ in self.copied.items()]
        own = [*shifted, *(e for e in self.found if e.kind == "conv"), *kept]
        early = any(
            starts_with_inputs(self.model, s)
            for s in self.model.states
            if TIME in s.carried
        )
        outside = any(e.kind == "lag" or e.count is not None for e in own) or early
        if self.uses_t or outside or shifted or self.timed:
            yield Entry(key="t", kind="position")
        if own or self.uses_t or self.timed:
            yield Entry(key="segment", kind="segment")
        if self.uses_seed:
            yield Entry(key="seed", kind="seed")
        if kept or any(e.copies for e in own):
            count = window_of(self.reaches)
            yield Entry(key="past_t", kind="past_t", count=count)
        yield from own
        yield from (e for e in self.found if e.kind == "call")

    def _shifted(self, key: Key, count: int) -> Entry:
        owner = str(key[1])
        is_state = key[0] == "ref" and owner in self.model.state
        type_ = self.model.state[owner].type if is_state else self.types[key]
        copies = copies_of(self.model, owner) if is_state else ()
        type_ = replace(type_, axes=type_.axes | set(copies))
        return Entry(
            key=owner if is_state else f"{'_'.join(map(str, key[1:]))}_lag",
            kind="carry" if is_state and count == 1 else "lag",
            source=key,
            owner=owner,
            type=type_,
            count=Lit(count),
            scope=self._scope(key),
            copies=copies,
        )

    def _kept(self, key: Key, type_: Type) -> Entry:
        owner = str(key[1])
        return Entry(
            key=f"{'_'.join(map(str, key[1:]))}_past",
            kind="past",
            source=key,
            owner=owner,
            type=type_,
            count=window_of(self.reaches),
            scope=self._scope(key),
        )

    def _scope(self, key: Key) -> tuple[str, ...]:
        name = str(key[1])
        if name in self.model.equation:
            return self.model.equation[name].scope
        return self.model.call[name].scope if name in self.model.call else ()


def window_entry(equation: ir.Equation, conv: ir.Conv) -> Entry:
    """What a convolution along time keeps of the steps before (or after)."""
    tap = conv.taps[conv.axes.index(TIME)]
    return Entry(
        key=equation.name,
        kind="conv",
        source=("conv", equation.name),
        owner=equation.name,
        type=conv.arg.type,
        count=apply("*", apply("-", Opt(tap), Lit(1)), conv.dilation),
        scope=equation.scope,
        ahead=conv.ahead,
    )


def starts_with_inputs(model: ir.Model, state: ir.State) -> bool:
    """Whether a state's initial value is known only when the layer runs."""
    if BATCH in state.initial.type.axes:
        return True
    seen: set[str] = set()
    names = [*names_in(state.initial)]
    while names:
        name = names.pop()
        if name in model.input:
            return True
        if name not in seen and name in model.equation:
            names.extend(names_in(model.equation[name].expr))
        seen.add(name)
    return False


def key_of(arg: ir.Ref | ir.Result) -> Key:
    """How a value is named inside methods."""
    if isinstance(arg, ir.Ref):
        return ("ref", arg.name)
    return ("result", arg.call, arg.output)

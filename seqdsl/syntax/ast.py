"""A spec as written: unresolved, every node with its span."""

from __future__ import annotations

from dataclasses import dataclass, field

from seqdsl.source import NOWHERE, Source, Span


@dataclass(frozen=True, kw_only=True)
class Ast:
    """Base of every node; the span does not take part in equality."""

    span: Span = field(default=NOWHERE, compare=False, repr=False)


# Expressions


@dataclass(frozen=True, kw_only=True)
class Name(Ast):
    """A bare name: `h`, `D`, `t`, `inf`."""

    id: str


@dataclass(frozen=True, kw_only=True)
class Number(Ast):
    """A literal; `text` keeps the writer's spelling (`1e-6`)."""

    value: int | float
    text: str = field(compare=False)


@dataclass(frozen=True, kw_only=True)
class Bool(Ast):
    """`true` or `false`."""

    value: bool


@dataclass(frozen=True, kw_only=True)
class String(Ast):
    """`"circular"`: only for named choices, never evaluated."""

    value: str


@dataclass(frozen=True, kw_only=True)
class Unary(Ast):
    """`-x` or `not x`; `op` is the token."""

    op: str
    operand: Expr


@dataclass(frozen=True, kw_only=True)
class Binary(Ast):
    """`a op b` with op one of `+ - * / // % ** and or`."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, kw_only=True)
class Compare(Ast):
    """`a < b` or a chain `0 <= a < b`; `ops[i]` stands between operands i and i+1."""

    ops: tuple[str, ...]
    operands: tuple[Expr, ...]


@dataclass(frozen=True, kw_only=True)
class Conditional(Ast):
    """`a if c else b`; `c` is known when compiling."""

    then: Expr
    condition: Expr
    otherwise: Expr


@dataclass(frozen=True, kw_only=True)
class Call(Ast):
    """`f[brackets](args, name = value) as key`; `brackets` is None when absent."""

    func: Expr
    brackets: tuple[Item, ...] | None
    args: tuple[Expr, ...]
    keywords: tuple[Keyword, ...]
    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Keyword(Ast):
    """`name = value` in a call."""

    name: str
    value: Expr


@dataclass(frozen=True, kw_only=True)
class Index(Ast):
    """`x[t-1]`, `k[s]`, `h[n = N]`, `x[K = 0:4 as J]`."""

    value: Expr
    items: tuple[Item, ...]


@dataclass(frozen=True, kw_only=True)
class Item(Ast):
    """One entry between brackets.

    `t-1` has only `expr`; `n = N` has `axis` and `expr`; `K = a:b:c as J` has
    `axis`, `slice` and `rename`; `H as M` has `expr` and `rename`.
    """

    expr: Expr | None = None
    axis: str | None = None
    slice: Slice | None = None
    rename: str | None = None


@dataclass(frozen=True, kw_only=True)
class Slice(Ast):
    """`start:stop:step`, each optional."""

    start: Expr | None
    stop: Expr | None
    step: Expr | None


@dataclass(frozen=True, kw_only=True)
class Redim(Ast):
    """`x.(H -> J, D -> [heads, K], [a, b] -> C)`."""

    value: Expr
    maps: tuple[DimMap, ...]


@dataclass(frozen=True, kw_only=True)
class DimMap(Ast):
    """`source -> target`; several names on a side are a merge or a split."""

    source: tuple[Expr, ...]
    target: tuple[Expr, ...]


@dataclass(frozen=True, kw_only=True)
class Member(Ast):
    """`value.name`: an output of a layer call, or a name of an imported file."""

    value: Expr
    name: str


@dataclass(frozen=True, kw_only=True)
class ParamExpr(Ast):
    """`param`, `param([heads])`, `param([K], normal(0, 1))` inside an expression."""

    args: tuple[Expr, ...] = ()
    keywords: tuple[Keyword, ...] = ()
    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class DimList(Ast):
    """`[heads, K]` as an argument."""

    items: tuple[DimItem, ...]


Expr = (
    Name
    | Number
    | Bool
    | String
    | Unary
    | Binary
    | Compare
    | Conditional
    | Call
    | Index
    | Redim
    | Member
    | ParamExpr
    | DimList
)


# Types


@dataclass(frozen=True, kw_only=True)
class DimItem(Ast):
    """One dim of a shape: `K`, `64`, `D as O`, or `...` (`expr` is None)."""

    expr: Expr | None
    rename: str | None = None


@dataclass(frozen=True, kw_only=True)
class TypeExpr(Ast):
    """`float [H, K]`, `[H]`, `int`; a part left out is None."""

    dtype: str | None
    shape: tuple[DimItem, ...] | None


# Statements


@dataclass(frozen=True, kw_only=True)
class InputStmt(Ast):
    """`input x: [D] per batch`; `per` is `step`, `batch` or `call`."""

    name: str
    type: TypeExpr
    per: str = "step"


@dataclass(frozen=True, kw_only=True)
class OutputStmt(Ast):
    """`output h` or `output logits = linear(x, V)`."""

    name: str | None
    value: Expr


@dataclass(frozen=True, kw_only=True)
class StateStmt(Ast):
    """`state h: [H] = 0`."""

    name: str
    type: TypeExpr
    initial: Expr | None


@dataclass(frozen=True, kw_only=True)
class ParamStmt(Ast):
    """`param W: [H, D] ~ normal(0, 0.02) frozen as weight`; `=` and `~` mean the same."""

    name: str
    type: TypeExpr
    initial: Expr | None
    frozen: bool = False
    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class DimStmt(Ast):
    """`dim J = H`."""

    name: str
    value: Expr


@dataclass(frozen=True, kw_only=True)
class Equation(Ast):
    """`name: type = value`, or `a, b = value` for a call with several outputs."""

    targets: tuple[Name, ...]
    type: TypeExpr | None
    value: Expr


@dataclass(frozen=True, kw_only=True)
class RepeatStmt(Ast):
    """`repeat n in N while condition:` with its body."""

    axis: str
    count: Expr
    condition: Expr | None
    body: tuple[Stmt, ...]


@dataclass(frozen=True, kw_only=True)
class Result(Ast):
    """The bare expression that ends a `def`."""

    value: Expr


Stmt = (
    InputStmt
    | OutputStmt
    | StateStmt
    | ParamStmt
    | DimStmt
    | Equation
    | RepeatStmt
    | Result
)


# Declarations


@dataclass(frozen=True, kw_only=True)
class OptionDecl(Ast):
    """`heads` or `K = D/heads` in a layer's parentheses."""

    name: str
    default: Expr | None


@dataclass(frozen=True, kw_only=True)
class ArgDecl(Ast):
    """`q: [K]` or `window = inf` in a def's or an extern's parentheses."""

    name: str
    type: TypeExpr | None
    default: Expr | None


@dataclass(frozen=True, kw_only=True)
class Import(Ast):
    """`import std.gla`, `import std.gla as g`, `import std.gla: GLA, other`."""

    path: tuple[str, ...]
    alias: str | None = None
    names: tuple[Name, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LayerDecl(Ast):
    """`layer name[brackets](options):` with its statements."""

    name: str
    brackets: tuple[Name, ...]
    options: tuple[OptionDecl, ...]
    body: tuple[Stmt, ...]
    header: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class DefDecl(Ast):
    """`def name[brackets](args):` with its equations and result."""

    name: str
    brackets: tuple[Name, ...]
    args: tuple[ArgDecl, ...]
    body: tuple[Stmt, ...]
    header: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class MonoidDecl(Ast):
    """`monoid name[brackets](states, fields = identity) commutes:` with its equations."""

    name: str
    brackets: tuple[Name, ...]
    args: tuple[ArgDecl, ...]
    commutes: bool
    body: tuple[Stmt, ...]
    header: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class ExternDecl(Ast):
    """`extern f(x: [D], steps: int) -> [H]`."""

    name: str
    args: tuple[ArgDecl, ...]
    result: TypeExpr


Decl = Import | LayerDecl | DefDecl | MonoidDecl | ExternDecl


@dataclass(frozen=True)
class Comment:
    """A `#` comment; `alone` when nothing stands before it on its line."""

    span: Span
    alone: bool


@dataclass(frozen=True, kw_only=True)
class Spec(Ast):
    """One parsed file."""

    source: Source = field(compare=False, repr=False)
    declarations: tuple[Decl, ...]
    comments: tuple[Comment, ...] = field(default=(), compare=False, repr=False)

    @property
    def layers(self) -> tuple[LayerDecl, ...]:
        """The layers in file order."""
        return tuple(d for d in self.declarations if isinstance(d, LayerDecl))

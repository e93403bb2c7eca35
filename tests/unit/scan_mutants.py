"""Planted bugs in the functions behind scans, convolutions and Newton's iteration.

`python tests/unit/scan_mutants.py` makes a mutant for every place where a sign, an index,
a decay, a segment's edge, a direction or the order of two things can be wrong, and
compares each with plain loops. It prints those that nobody noticed and exits with 1 where
more than one in twenty is left.
"""

from __future__ import annotations

import ast
import copy
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any
from unittest.mock import patch

import torch
from chunk_mutants import Mutant, changes
from test_torch_scans import beginnings, close, decays, loop, random
from torch import Tensor

from seqdsl.backends.torch.helpers import helper_texts

ENTRIES = frozenset(
    {
        *("_scan", "_convolved", "_scan_in", "_scan_matrices", "_scan_monoid"),
        *("_newton", "_rows", "_unrows", "_block", "_joint"),
    }
)
LEFT_OUT = (
    *("_blocked", "_span_of", "_unwritten", "_memory", "_spare"),
    *("_broadcast", "CallError", "_logaddexp"),
)
"""What only decides how much is done at once, or is no part of a strategy."""
SAME = (
    "time % _RADIX",
    "time // _RADIX",
    "min(time, 100) + 8",
    "64 * torch.finfo(first.dtype).eps",
    "16 * small",
    "best / 2",
    "worst <= 16 * small",
    "worst > best / 2",
    "worst <= small",
    "off.abs() / (1 + after.abs())",
    "1 + after.abs()",
    "time < 2",
)
"""Expressions that only decide how much is done at once, or when enough is done."""
SMALL = {"_SPAN": 600}
"""Scans go in spans of 100 steps, or of 50 of twice as many numbers."""
Names = Mapping[str, Any]
FLIPPED: dict[type[ast.cmpop], ast.cmpop] = {
    ast.Lt: ast.GtE(),
    ast.Gt: ast.LtE(),
    ast.LtE: ast.Gt(),
    ast.GtE: ast.Lt(),
    ast.Eq: ast.NotEq(),
    ast.NotEq: ast.Eq(),
    ast.Is: ast.IsNot(),
    ast.IsNot: ast.Is(),
}
TIMES = {ast.FloorDiv: ast.Mult(), ast.Mod: ast.Sub(), ast.Pow: ast.Mult()}


def program() -> ast.Module:
    """The functions as a generated file has them."""
    head = (
        "import math\nimport mmap\nimport threading\nimport warnings\nimport weakref\n"
    )
    head += "from collections.abc import Callable, Mapping, Sequence\nfrom typing import Any, NamedTuple\nimport torch\n"
    head += "from torch import Tensor\n"
    text = "\n".join(helper_texts(set(ENTRIES)))
    for name, value in SMALL.items():
        text, number = re.subn(
            rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE
        )
        assert number == 1
    return ast.parse(head + text)


def mutants() -> Iterator[Mutant]:
    """One after another, in the order of the source."""
    tree = program()
    for i, function in enumerate(tree.body):
        named = isinstance(function, ast.FunctionDef | ast.ClassDef)
        if not named or function.name in LEFT_OUT:
            continue
        for j, node in enumerate(ast.walk(function)):
            for change in (*changes(node), *more_changes(node)):
                other = copy.deepcopy(function)
                place = list(ast.walk(other))[j]
                before = ast.unparse(place)
                change(place)
                after = ast.unparse(place)
                if after != before and before not in SAME:
                    what = f"{function.name}: {before}  ->  {after}"
                    body = [*tree.body[:i], ast.fix_missing_locations(other)]
                    yield Mutant(what, ast.Module([*body, *tree.body[i + 1 :]], []))


def more_changes(node: ast.AST) -> Iterator[Callable[[Any], None]]:
    """Ways to get `node` wrong that scans have beside those of chunks."""
    match node:
        case ast.Subscript(slice=ast.Tuple(elts=[*_, last])) if _index(last):
            yield _other_index
        case ast.Compare(ops=[op]) if type(op) in FLIPPED:
            yield _other_comparison
        case ast.IfExp():
            yield _other_branch
        case ast.Call(func=ast.Attribute(attr="conj" | "flip")):
            yield _left_alone
        case ast.BinOp(op=op) if type(op) in TIMES:
            yield _other_power
        case _:
            pass


def _index(node: ast.expr) -> bool:
    return ast.unparse(node) in ("0", "-1")


def _other_index(node: ast.Subscript) -> None:
    assert isinstance(node.slice, ast.Tuple)
    end = "0" if ast.unparse(node.slice.elts[-1]) == "-1" else "-1"
    node.slice.elts[-1] = ast.parse(end, mode="eval").body


def _other_comparison(node: ast.Compare) -> None:
    node.ops[0] = FLIPPED[type(node.ops[0])]


def _other_branch(node: ast.IfExp) -> None:
    node.body, node.orelse = node.orelse, node.body


def _left_alone(node: ast.Call) -> None:
    """`x` for `x.flip(1)`."""
    assert isinstance(node.func, ast.Attribute)
    node.args, node.keywords = [], []
    node.func.attr = "clone"


def _other_power(node: ast.BinOp) -> None:
    node.op = TIMES[type(node.op)]  # pyright: ignore[reportArgumentType]


# ---- What every mutant is compared in

BOTH = tuple(product((False, True), (False, True)))
"""Packed or not, forward or backward."""


def diagonal(names: Names) -> None:
    """Values, gradients, gradients of gradients, forward mode, mapped over."""
    for time, (packed, reverse) in product((0, 1, 5, 200, 300), BOTH):
        dtype = torch.complex128 if packed else torch.float64
        width = 6 if time == 300 else 3
        a = decays(1, 2, time, width, dtype=dtype).requires_grad_()
        b = random(2, 2, time, width, dtype=dtype).requires_grad_()
        first = random(3, 2, width, dtype=dtype).requires_grad_()
        initial = random(4, width, dtype=dtype)
        starts = beginnings(5, 2, time) if packed else None
        ours, last = names["_scan"](a, b, first, starts, initial, reverse)
        theirs = loop(
            lambda t, h: a[:, t] * h + b[:, t],  # noqa: B023
            first, initial, starts, time, reverse,
        )  # fmt: skip
        close(ours, theirs)
        close(last, ours[:, 0 if reverse else -1] if time else first)
        if time:
            _same_slopes(ours, theirs, (a, b, first))
    short = (random(1, 2, 4, 3), random(2, 2, 4, 3), random(3, 2, 3))
    for reverse in (False, True):
        _modes(names, short, reverse)


def _same_slopes(ours: Tensor, theirs: Tensor, at: tuple[Tensor, ...]) -> None:
    weight = torch.cos(torch.arange(ours.numel())).view(ours.shape)
    found: list[list[Tensor]] = []
    for value in (ours, theirs):
        scalar = (value * weight).abs().square().sum()
        alone = torch.autograd.grad(scalar, at, retain_graph=True)
        slopes = torch.autograd.grad(scalar, at, create_graph=True)
        again = torch.stack([s.abs().square().sum() for s in slopes]).sum()
        found.append([*alone, *slopes, *torch.autograd.grad(again, at)])
    for x, y in zip(*found, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-7, atol=1e-7)


def _modes(names: Names, at: tuple[Tensor, ...], reverse: bool) -> None:
    """Forward mode, for all and for each alone, and rows mapped over."""

    def ours(*x: Tensor) -> Tensor:
        return names["_scan"](x[0], x[1], x[2], None, 0.0, reverse)[0]

    def theirs(a: Tensor, b: Tensor, first: Tensor) -> Tensor:
        def step(t: int, h: Tensor) -> Tensor:
            return a[:, t] * h + b[:, t]

        return loop(step, first, first, None, 4, reverse)

    along = tuple(x.cos() for x in at)
    functions: Any = torch.func
    for x, y in zip(
        functions.jvp(ours, at, along), functions.jvp(theirs, at, along), strict=True
    ):
        close(x, y)
    many = tuple(torch.stack([x, 2 * x, x.sin()]) for x in at)
    each = torch.stack([theirs(*x) for x in zip(*many, strict=True)])
    close(functions.vmap(ours)(*many), each)
    one = functions.vmap(ours, in_dims=(0, None, None))(many[0], *at[1:])
    close(one, torch.stack([theirs(x, *at[1:]) for x in many[0]]))


def convolution(names: Names) -> None:
    """The powers of a coefficient, growing and shrinking."""
    a = torch.tensor([0.9, -0.7, 1.02], dtype=torch.float64)
    for time, (packed, reverse), complex_ in product((0, 1, 2, 40), BOTH, (0, 1)):
        dtype = torch.complex128 if complex_ else torch.float64
        b, first = random(1, 2, time, 3, dtype=dtype), random(2, 2, 3, dtype=dtype)
        starts = beginnings(3, 2, time) if packed else None
        ours, last = names["_convolved"](a.to(dtype), b, first, starts, 0.5, reverse)
        theirs = loop(
            lambda t, h: a * h + b[:, t],  # noqa: B023
            first, torch.full((3,), 0.5, dtype=dtype), starts, time, reverse,
        )  # fmt: skip
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
        close(last, ours[:, 0 if reverse else -1] if time else first)


def semirings(names: Names) -> None:
    """Entry by entry and with matrices, in blocks and step by step."""
    for name, (plus, times, zero) in names["_SEMIRINGS"].items():
        for time, (packed, reverse) in product((0, 7, 70), BOTH):
            width = 3 if time < 70 or name != "log" else 1600

            def made(number: int, *shape: int, name: str = name) -> Tensor:
                x = random(number, *shape)
                none = names["_SEMIRINGS"][name][2]
                return x > 0.5 if name == "boolean" else x.masked_fill(x > 1.5, none)

            starts = beginnings(9, 2, time) if packed else None
            a, b = made(0, 2, time, width), made(1, 2, time, width)
            if name == "real":
                a = a / 4
            first, initial = made(2, 2, width), made(3, width)
            given = (first, initial, starts, time, reverse)
            ours, last = names["_scan_in"](name, a, b, first, starts, initial, reverse)
            close(ours, loop(lambda t, h: plus(times(a[:, t], h), b[:, t]), *given))  # noqa: B023
            if time:
                close(last, ours[:, 0 if reverse else -1])
            m, c = made(4, 2, time, 3, 3), made(5, 2, time, 3, 2)
            m = m / 4 if name == "real" else m
            first, initial = made(6, 2, 3, 2), made(7, 2, 1, 3, 2)
            ours, last = names["_scan_matrices"](
                name, m, c, first, starts, initial, reverse
            )

            def step(t: int, h: Tensor) -> Tensor:
                terms = times(m[:, t, :, :, None], h[:, None])  # noqa: B023
                total = terms[:, :, 0]
                for k in range(1, 3):
                    total = plus(total, terms[:, :, k])  # noqa: B023
                return plus(total, c[:, t])  # noqa: B023

            close(ours, loop(step, first, initial[:, 0], starts, time, reverse))
            close(last, ours[:, 0 if reverse else -1] if time else first)
        del zero
    _log_slopes(names)


def _log_slopes(names: Names) -> None:
    """Numbers whose powers are no numbers any more."""
    a, b = (800 * random(1, 2, 50, 3, 3)).requires_grad_(), random(2, 2, 50, 3, 1)
    first = random(3, 2, 3, 1)
    ours, _ = names["_scan_matrices"]("log", a, b, first, None, first[:, None])
    theirs = loop(
        lambda t, h: torch.logaddexp(
            torch.logsumexp(a[:, t] + h.mT, -1, keepdim=True), b[:, t]
        ),
        first, first, None, 50, False,
    )  # fmt: skip
    close(ours, theirs)
    for x, y in zip(
        torch.autograd.grad(ours.sin().sum(), a),
        torch.autograd.grad(theirs.sin().sum(), a),
        strict=True,
    ):
        close(x, y)


def monoid(names: Names) -> None:
    """Affine maps, which do not commute, beside a running maximum."""

    def combine(e: tuple[Tensor, ...], f: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return e[0] * f[0], e[1] * f[0] + f[1], torch.maximum(e[2], f[2])

    def apply(e: tuple[Tensor, ...], h: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return e[0] * h[0] + e[1], torch.maximum(e[2], h[1])

    for time, (packed, reverse) in product((0, 5, 70), BOTH):
        a, b, c = decays(1, 2, time, 3), random(2, 2, time, 3), random(8, 2, time, 3)
        first = random(3, 2, 3), random(4, 2, 3)
        initial = random(5, 2, 1, 3), random(6, 2, 1, 3)
        starts = beginnings(7, 2, time) if packed else None
        found, last = names["_scan_monoid"](
            combine, apply, (a, b, c), first, starts, initial, reverse
        )
        wanted = (
            loop(
                lambda t, h: a[:, t] * h + b[:, t],  # noqa: B023
                first[0], initial[0][:, 0], starts, time, reverse,
            ),
            loop(
                lambda t, h: torch.maximum(c[:, t], h),  # noqa: B023
                first[1], initial[1][:, 0], starts, time, reverse,
            ),
        )  # fmt: skip
        for x, y, end, before in zip(found, wanted, last, first, strict=True):
            close(x, y)
            close(end, y[:, 0 if reverse else -1] if time else before)


def joint(names: Names) -> None:
    """Dims as rows and back, blocks and identities of a joint matrix."""
    x = random(1, 2, 3, 4, 5)
    packed = names["_rows"](x, 1, (1, 2, 0), 1, 1)
    close(packed, x.permute(0, 2, 3, 1).reshape(2, 4, 5, 3))
    close(names["_unrows"](packed, 1, (1, 2, 0), (3, 4, 5)), x)
    close(names["_block"](x, 2, 1), x.reshape(2, 12, 5))
    close(names["_block"](x, 1, 2), x.reshape(2, 3, 20))
    blocks = {(0, 0): random(2, 5, 2, 2), (1, 1): random(3, 1, 3, 3)}
    found = names["_joint"]("real", [2, 3, 3], blocks, [(2, 1)])
    wanted = torch.zeros(5, 8, 8, dtype=torch.float64)
    wanted[:, :2, :2], wanted[:, 2:5, 2:5] = blocks[0, 0], blocks[1, 1]
    wanted[:, 5:, 2:5] = torch.eye(3, dtype=torch.float64)
    close(found, wanted)
    logs = names["_joint"]("max_plus", [1, 1], {(0, 0): x[:, 0, :1, :1]}, [(1, 1)])
    assert logs[0, 1, 1] == 0
    assert logs[0, 0, 1] == -torch.inf


def newton(names: Names) -> None:
    """A cell of two entries that read each other; a map that never comes to rest."""
    weight = torch.tensor([[0.5, -0.4], [0.3, 0.2]], dtype=torch.float64)
    for time, (packed, reverse) in product((0, 1, 40), BOTH):
        x = random(1, 2, time, 3, 2, 1).requires_grad_()
        first, initial = random(2, 2, 3, 2, 1), random(3, 2, 1, 3, 2, 1)
        first.requires_grad_()
        starts = beginnings(4, 2, time) if packed else None

        def step(before: Tensor, at: slice) -> Tensor:
            return torch.tanh(weight @ before + x[:, at])  # noqa: B023

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            given = (step, first, starts, initial, time, True, reverse)
            ours, last = names["_newton"](*given)
        wanted = loop(
            lambda t, h: torch.tanh(weight @ h + x[:, t]),  # noqa: B023
            first, initial[:, 0], starts, time, reverse,
        )  # fmt: skip
        torch.testing.assert_close(ours, wanted, rtol=1e-8, atol=1e-8)
        close(last, ours[:, 0 if reverse else -1] if time else first)
        if time:
            _same_slopes(ours, wanted, (x, first))
        if time == 40:
            with torch.no_grad():
                found = names["_at_rest"](step, first, starts, initial, time, reverse)
                assert found[0] is not None
                assert found[2] <= 8
                given = (step, first, starts, initial, time, reverse)
                enough = names["_at_rest"](*given, most=found[2] - 1)
                assert enough[0] is not None and enough[2] == found[2]
                short = names["_at_rest"](*given, most=found[2] - 2)
                assert short[0] is None and short[2] == found[2] - 1
    _chaos(names)


def _chaos(names: Names) -> None:
    first = torch.linspace(0.2, 0.4, 3, dtype=torch.float64).view(1, 3, 1)
    ones = torch.ones(1, 200, 3, 1, dtype=torch.float64)
    for packed, reverse in BOTH:
        starts = beginnings(4, 1, 200) if packed else None

        def told(before: Tensor, at: slice) -> Tensor:
            return 4 * before * (1 - before) * ones[:, at]

        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            ours, _ = names["_newton"](
                told, first, starts, first[:, None] / 2, 200, False, reverse
            )
        assert len(said) == 1
        wanted = loop(
            lambda _, h: 4 * h * (1 - h), first, first / 2, starts, 200, reverse
        )
        close(ours, wanted)
        try:
            names["_newton"](told, first, starts, first[:, None], 200, True, reverse)
        except ArithmeticError:
            continue
        raise AssertionError("strict, and nothing is said")


def compiled(names: Names) -> None:
    """The steps that a compiler sees."""
    a, b, first = random(1, 2, 5, 3), random(2, 2, 5, 3), random(3, 2, 3)
    with patch.object(torch.compiler, "is_compiling", lambda: True):
        for reverse in (False, True):
            wanted = loop(
                lambda t, h: a[:, t] * h + b[:, t], first, first, None, 5, reverse
            )
            close(names["_scanned"](a, b, first, reverse), wanted)


CHECKS = (joint, monoid, convolution, newton, semirings, compiled, diagonal)


def survives(mutant: Mutant) -> bool:
    """Whether everything is as the loops have it all the same."""
    names: dict[str, Any] = {"__name__": "mutant"}
    try:
        exec(compile(mutant.tree, "mutant", "exec"), names)  # noqa: S102 - its own text
        for check in CHECKS:
            check(names)
    except Exception:  # noqa: BLE001 - any of them is noticed
        return False
    return True


def run(every: int = 1) -> tuple[int, list[str]]:
    """How many mutants there were, taking each `every`-th, and those not noticed."""
    tried = [m for i, m in enumerate(mutants()) if i % every == 0]
    return len(tried), [m.what for m in tried if survives(m)]


def main() -> int:
    """All mutants."""
    if not survives(Mutant("nothing", program())):
        print("without a mistake it fails too")
        return 1
    count, left = run()
    print(*left, f"{count} mutants, {count - len(left)} found", sep="\n")
    return 1 if 20 * len(left) > count else 0


if __name__ == "__main__":
    sys.exit(main())

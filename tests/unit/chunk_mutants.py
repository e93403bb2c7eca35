"""Planted bugs in the functions that run matrix states by chunks, and who finds them.

`python tests/unit/chunk_mutants.py` makes a mutant for every place where a sign, an index,
a decay, a segment's edge or the order of two things can be wrong, and compares each with
the plain loop on a few cases. It prints those that nobody noticed and exits with 1 where
more than one in twenty is left.
"""

from __future__ import annotations

import ast
import copy
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple, cast

import torch
from matrix_states import Case, arguments, by_steps, close, leaves, there
from torch import Tensor

from seqdsl.backends.torch.helpers import helper_texts

# What only decides how much is done at once, or how.
LEFT_OUT = (
    "_group_size",
    "_single",
    "_How",
    "_Steps",
    "_Seen",
    "_Met",
    "_folded",
    *("_Room", "_unwritten", "_memory", "_spare"),
)
SAME = (
    "min(size, time) - 1",
    "reader.shape[1] * writer.shape[1]",
    "steps * count * y.shape[1]",
    "steps * count",
    "state.shape[:3]",
    # Only vmap comes here, which has tests of its own.
    "len(found) - _FOR_GRADIENTS",
    "[0] * (len(found) - _FOR_GRADIENTS)",
    "[1] * _FOR_GRADIENTS",
    "(0,) * len(outs)",
    # These only decide whether something is kept or made again.
    "n + columns",
    "n * (n + columns)",
    "first.shape[-2] * columns",
)
"""Expressions that only decide how much is done at once, wherever they stand."""
CASES = (
    Case(time=9, size=4, writes=3, erases=2, queries=3, now=2),
    Case(time=7, size=8, kept="one", writes=2, erases=1, queries=2, now=1),
    Case(time=5, size=4, kept="all", erases=0, writes=1, queries=1, now=1, zero=True),
    Case(time=8, size=4, states=2, writes=2, erases=1, reverse=True),
    Case(time=6, size=2, states=2, erases=0, writes=1, segments=False),
    Case(time=11, size=4, kept="one", segments=False, queries=3, now=0, erases=2),
    Case(time=0),
    Case(time=5, queries=0, now=0, batch=3),
    Case(time=7, size=4, kept="near", zero=True, writes=3, erases=1, queries=3, now=2),
    Case(time=7, size=4, kept="near one", zero=True, writes=3, queries=3, now=2),
    Case(time=6, size=4, kept="near one", segments=False, erases=0, writes=1),
    Case(time=9, size=4, kept="near", segments=False, erases=2, writes=2, now=0),
    Case(time=9, size=4, kept="near", writes=2, erases=1, queries=2, now=1),
    Case(time=33, size=32, kept="near", writes=1, erases=1, queries=1, now=1),
    Case(
        time=7, size=4, kept="near", zero=True, writes=1, queries=1, now=1, minus=True
    ),
    Case(time=7, size=4, kept="all", zero=True, writes=2, minus=True, silent=True),
    Case(time=7, size=4, kept="one", writes=1, minus=True),
    Case(time=18, size=2, kept="near", zero=True, rows=8, columns=8, erases=2),
    Case(time=15, size=4, kept="near", zero=True, rows=16, columns=8, segments=False),
    Case(time=21, size=4, zero=True, writes=1, batch=1, copies=1),
    Case(time=9, size=4, zero=True, silent=True, queries=3, now=1),
    Case(time=6, size=4, states=2, zero=True, silent=True, writes=3),
    Case(time=7, size=4, kept="all", silent=True, erases=2, writes=3),
    Case(time=6, size=2, kept="one", zero=True, silent=True, segments=False, writes=1),
)
SWAPPED: dict[type[ast.operator], ast.operator] = {
    ast.Add: ast.Sub(),
    ast.Sub: ast.Add(),
    ast.Mult: ast.Add(),
    ast.MatMult: ast.Add(),
}


class Mutant(NamedTuple):
    """A changed program and what was changed."""

    what: str
    tree: ast.Module


def program() -> ast.Module:
    """The functions as a generated file has them."""
    head = "import math\nimport mmap\nimport threading\nimport weakref\n"
    head += "from collections.abc import Callable, Sequence\n"
    head += "from typing import Any, NamedTuple\n"
    head += "import torch\nfrom torch import Tensor\n"
    return ast.parse(head + "\n".join(helper_texts({"_chunkwise", "_in_turn"})))


def mutants() -> Iterator[Mutant]:
    """One after another, in the order of the source."""
    tree = program()
    for i, function in enumerate(tree.body):
        named = isinstance(function, ast.FunctionDef | ast.ClassDef)
        if not named or function.name in LEFT_OUT:
            continue
        for j, node in enumerate(ast.walk(function)):
            for change in changes(node):
                other = copy.deepcopy(function)
                place = list(ast.walk(other))[j]
                before = ast.unparse(place)
                change(place)
                after = ast.unparse(place)
                if after == before or before in SAME:
                    continue
                what = f"{function.name}: {before}  ->  {after}"
                body = [
                    *tree.body[:i],
                    ast.fix_missing_locations(other),
                    *tree.body[i + 1 :],
                ]
                yield Mutant(what, ast.Module(body, []))


def changes(node: ast.AST) -> Iterator[Callable[[Any], None]]:
    """Ways to get `node` wrong."""
    match node:
        case ast.BinOp(op=op) if type(op) in SWAPPED:
            yield _other_operator
        case ast.UnaryOp(op=ast.USub(), operand=ast.Name()):
            yield _other_sign
        case ast.Subscript(slice=ast.Slice() | ast.Tuple()):
            yield _other_end
        case ast.Call(func=ast.Name(id=name)) if name.startswith("_carried"):
            yield _without_decay
        case ast.Call(func=ast.Attribute(attr="where"), args=[_, _, _]):
            yield _other_way
        case ast.Call(func=ast.Attribute(attr="cat"), args=[ast.List(), *_]):
            yield _other_order
        case _:
            pass


def _other_operator(node: ast.BinOp) -> None:
    node.op = SWAPPED[type(node.op)]


def _other_sign(node: ast.UnaryOp) -> None:
    node.op = ast.UAdd()


def _other_end(node: ast.Subscript) -> None:
    """`[a:]` for `[:a]` and the other way round."""
    for part in ast.walk(node.slice):
        if isinstance(part, ast.Slice):
            part.lower, part.upper = part.upper, part.lower


def _without_decay(node: ast.Call) -> None:
    (line,) = ast.parse("(lambda x, *_: x)").body
    node.func = cast(ast.Expr, line).value


def _other_way(node: ast.Call) -> None:
    node.args[1], node.args[2] = node.args[2], node.args[1]


def _other_order(node: ast.Call) -> None:
    cast(ast.List, node.args[0]).elts.reverse()


def survives(mutant: Mutant) -> bool:
    """Whether values and gradients are those of the loop all the same."""
    names: dict[str, Any] = {"__name__": "mutant"}
    try:
        exec(compile(mutant.tree, "mutant", "exec"), names)  # noqa: S102 - its own text
        names["_group_size"] = _two
        for kept, written in ((False, False), (True, True), (False, True)):
            close(*turns(names["_in_turn"], kept, written), 1e-10)
        for case in CASES:
            ours = _outcome(partial(_called, names), case)
            for found, wanted in zip(ours, _wanted(case), strict=True):
                close(found, wanted, 1e-8)
    except Exception:  # noqa: BLE001 - any of them is noticed
        return False
    return True


def turns(
    function: Callable[..., Any], kept: bool, written: bool
) -> tuple[Tensor, Tensor]:
    """A step of three turns as one that sees only what was before it, and turn by turn.

    What is `kept` decays, and erases write something of their own; more is `written`.
    """
    make, count = torch.Generator().manual_seed(0), 3

    def noise(*shape: int) -> Tensor:
        return torch.randn(2, 1, 2, *shape, generator=make, dtype=torch.float64)

    state, decay = noise(4, 2), noise(4)
    right, into, left = (noise(2 * count, 4) for _ in range(3))
    known, value, each = noise(2 * count, 2), noise(2 * count, 2), noise(count, 4)
    if not kept:
        decay, each, known = None, None, None
    if not written:
        left, value = None, None
    found = function(decay, right, into, known, left, value, each, count)
    ours = state if found[0] is None else found[0].unsqueeze(-1) * state
    erased = found[1] @ state
    ours = ours + found[2].mT @ (erased if found[3] is None else erased + found[3])
    if decay is not None:
        state = decay.unsqueeze(-1) * state
    for turn in range(count):
        erased = right[..., turn::count, :] @ state
        if known is not None:
            erased = erased + known[..., turn::count, :]
        if each is not None:
            state = each[..., turn, :].unsqueeze(-1) * state
        state = state + into[..., turn::count, :].mT @ erased
        if left is not None and value is not None:
            state = state + left[..., turn::count, :].mT @ value[..., turn::count, :]
    return ours, state


def _two(size: int, width: int) -> int:
    """Two chunks in a group."""
    return 2 * size


def _called(names: dict[str, Any], case: Case, t: Any, starts: Tensor | None) -> Any:
    return names["_chunkwise"](*arguments(case, t, starts))


@cache
def _wanted(case: Case) -> list[Tensor]:
    """What the loop makes, once for all mutants."""
    return [x.detach() for x in _outcome(by_steps, case)]


def _outcome(function: Callable[..., Any], case: Case) -> Iterator[Tensor]:
    """Values, then gradients of something that all of them matter to, as asked for.

    Most mutants have wrong values already, and then nothing else is computed.
    """
    tensors = leaves(case)
    reads, last = function(case, tensors, case.starts())
    yield from (reads, last)
    value = (torch.cos(torch.arange(reads.numel())).view(reads.shape) * reads).sum()
    first = _grads(value + last.sin().sum(), there(tensors))
    yield from first
    again = torch.stack([g.square().sum() for g in first]).sum()
    yield from _grads(again, there(tensors))
    yield from _pushed(function, case, tensors)


def _pushed(
    function: Callable[..., Any], case: Case, tensors: Any
) -> tuple[Tensor, ...]:
    """How gradients change with the arguments, forward through the backward pass."""
    names = [n for n, x in tensors.items() if x is not None]
    at = tuple(tensors[n].detach() for n in names)

    def value(*given: Tensor) -> Tensor:
        named = {**dict.fromkeys(tensors), **dict(zip(names, given, strict=True))}
        reads, last = function(case, named, case.starts())
        return reads.square().sum() + last.sin().sum()

    slope: Any = torch.func.grad(value, argnums=tuple(range(len(at))))
    push: Any = torch.func.jvp
    return push(slope, at, tuple(x.cos() for x in at))[1]


def _grads(value: Tensor, at: list[Tensor]) -> list[Tensor]:
    found: Any = torch.autograd.grad(value, at, create_graph=True, allow_unused=True)
    pairs = zip(found, at, strict=True)
    return [torch.zeros_like(x) if g is None else g for g, x in pairs]


def run(every: int = 1) -> tuple[int, list[str]]:
    """How many mutants there were, taking each `every`-th, and those not noticed."""
    tried = [m for i, m in enumerate(mutants()) if i % every == 0]
    return len(tried), [m.what for m in tried if survives(m)]


def main() -> int:
    """All mutants."""
    count, left = run()
    print(*left, f"{count} mutants, {count - len(left)} found", sep="\n")
    return 1 if 20 * len(left) > count else 0


if __name__ == "__main__":
    sys.exit(main())

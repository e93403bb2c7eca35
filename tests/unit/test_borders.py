"""From border to border: which states a piece makes, and what that takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import seqdsl
from seqdsl.analysis import analyze
from seqdsl.elaborate import elaborate, elaborate_text, load_file
from seqdsl.ir import nodes as ir
from seqdsl.schedule.choose import wish_of
from seqdsl.schedule.forms import Pieces
from seqdsl.schedule.make import plan
from seqdsl.schedule.plan import Parallel, walk

FILE = Path(__file__).parents[1] / "language" / "ok" / "gradient_chunk_memories.seq"
DRAWN = """
layer Drawn(D = 4, K = 3, V = 3):
    input x: [D]
    k = linear(x, K)
    v = linear(x, V)
    state A: [K, V] = 0
    state B: [V, K] = 0
    state A0: [K, V] = 0.2
    state B0: [V, K] = 0.1
    A0 = where(t % 3 == 0, A[t-1], A0[t-1])
    B0 = where(t % 3 == 0, B[t-1], B0[t-1])
    e = tanh(dot[K](k, A0)) - v * tanh(sum[V, K](B0))
    A = 0.9 * A[t-1] - 0.1 * k * e
    B = 0.9 * B[t-1] - 0.1 * e * tanh(sum[K](A0))
    r = dropout(dot[K](k, A), 0.5)
    output a = dot[V](r, B)
    output b = r
"""


def pieces(model: ir.Model, strategy: str = "chunk") -> Pieces | None:
    """The form of the one recurrence that goes from border to border."""
    steps = walk(plan(analyze(model).model, wish_of(strategy)).steps)
    forms = [s.form for s in steps if isinstance(s, Parallel)]
    return next((f for f in forms if isinstance(f, Pieces)), None)


@pytest.mark.parametrize(
    ("layer", "early", "chunked"),
    [
        ("TwoLayers", True, {"W1", "W2"}),
        ("AskedTwice", True, {"A", "B"}),
        ("HeldAtTheEnd", False, set[str]()),
        ("AddedUp", True, set[str]()),
        ("AskedLater", True, {"A"}),
        ("Beside", True, set[str]()),
        ("InTurn", True, {"W"}),
    ],
)
def test_states_of_which_no_step_is_made(
    layer: str, early: bool, chunked: set[str]
) -> None:
    found = pieces(elaborate(load_file(FILE), layer).model)
    assert found is not None and found.early == early
    assert {s for p in found.products() for s in p.states} == chunked


def test_what_is_drawn_once_is_not_drawn_again_in_a_piece() -> None:
    found = pieces(elaborate_text(DRAWN))
    assert found is not None and found.between == ()
    assert {s for p in found.products() for s in p.states} == {"A"}
    again = pieces(
        elaborate_text(DRAWN.replace("dropout(dot[K](k, A), 0.5)", "dot[K](k, A)"))
    )
    assert again is not None
    assert {s for p in again.products() for s in p.states} == {"A", "B"}


def test_auto_goes_from_border_to_border_where_pieces_have_a_known_length() -> None:
    text = FILE.read_text(encoding="utf-8").replace("layer TwoLayers", "layer Last")
    first, last = text.index("layer Last"), text.index("# Earlier steps")
    for steps, by_pieces in ((16, True), (1, False)):
        model = elaborate_text(text[first:last].replace("C):", f"C = {steps}):"))
        assert (pieces(model, "auto") is not None) == by_pieces


class _Made(TorchDispatchMode):
    """How many numbers operations make."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        found = (x for x in tree_leaves(out) if isinstance(x, Tensor))
        self.count += sum(x.numel() for x in found if not x._is_view())
        return out


def _made(time: int, strategy: str, entries: int = 8) -> tuple[int, int]:
    """How many numbers a call and its gradient make, and are kept for that."""
    module = seqdsl.std.ttt.TTTLinear(
        D=2 * entries, heads=2, minibatch=16, strategy=strategy, target="torch"
    )
    x = torch.randn(1, time, 2 * entries)
    kept: dict[int, int] = {}

    def packed(value: Tensor) -> Tensor:
        memory = value.untyped_storage()
        kept[memory.data_ptr()] = memory.nbytes() // value.itemsize
        return value

    with _Made() as made, torch.autograd.graph.saved_tensors_hooks(packed, lambda v: v):
        module(x).sum().backward()
    return made.count, sum(kept.values())


def test_the_work_grows_with_the_length_alone() -> None:
    # a gradient of a whole sequence for every piece of it would grow with its square
    less, more = (_made(time, "chunk")[0] for time in (256, 1024))
    assert more < 4.2 * less


def test_no_state_of_a_step_is_kept() -> None:
    states = 256 * 2 * 32 * 32
    assert _made(256, "loop", 32)[1] > states
    assert _made(256, "chunk", 32)[1] < states

"""In which loops equations run, and what leaves a loop along time."""

from __future__ import annotations

import pytest

from seqdsl.analysis.visibility import Reach, looks_ahead, reach_of_copies
from seqdsl.diagnostics import SpecError
from seqdsl.elaborate import elaborate_text
from seqdsl.ir import nodes as ir
from seqdsl.ir.text import node_text
from seqdsl.schedule.make import plan, plan_step
from seqdsl.schedule.plan import Assign, Call, DepthLoop, Parallel, Step, TimeLoop, walk

GRU = """
layer GRU(D, H):
    input x: [D]
    state h: [H] = 0
    r = sigmoid(linear(x, H) + linear(h[t-1], H))
    z = sigmoid(linear(x, H) + linear(h[t-1], H))
    n = tanh(linear(x, H) + r * linear(h[t-1], H))
    h = (1 - z) * n + z * h[t-1]
    output h
"""


def shape(steps: tuple[Step, ...]) -> list[object]:
    """Steps as nested lists of names, loops led by their axis."""
    result: list[object] = []
    for step in steps:
        match step:
            case Assign(equation=equation):
                result.append(equation.name)
            case Call(call=call):
                result.append(f"{call.name}()")
            case TimeLoop(direction=direction, body=body):
                result.append([direction, *shape(body)])
            case DepthLoop(repeat=repeat, body=body):
                result.append([repeat.axis, *shape(body)])
            case Parallel(loop=loop):
                result.append(["parallel", *shape(loop.body)])
    return result


def planned(text: str) -> list[object]:
    """The shape of the plan of the last layer in `text`."""
    return shape(plan(elaborate_text(text)).steps)


def test_a_recurrence_loops_and_the_rest_does_not() -> None:
    text = GRU.replace("output h", "y = linear(h, D)\n    output y")
    assert planned(text) == [["forward", "z", "r", "n", "h"], "y"]


def test_state_free_work_is_hoisted_under_names() -> None:
    (loop,) = plan(elaborate_text(GRU)).steps
    assert isinstance(loop, TimeLoop)
    assert loop.carried == ("h",)
    assert [e.name for e in loop.hoisted] == ["z_x", "r_x", "n_x"]
    assert not any(e.written for e in loop.hoisted)
    inside = [s.equation.expr for s in walk(loop.body) if isinstance(s, Assign)]
    assert all("dot[D](x" not in node_text(expr) for expr in inside)


APART = """
layer Apart(D, N = 2):
    input x: [D]
    state h: [D] = 0
    repeat n in N:
        state z: [D] = h[t-1]
        z = tanh(z[n-1] + x)
        m = mean[t](z)
        state o: [D] = 0
        o = o[n-1] + z - m
    h = z[n = N]
    output o[n = last]
"""


def test_a_loop_along_depth_is_taken_apart_where_its_rest_reads_all_of_time() -> None:
    """The recurrence keeps what it is made of; the rest reads the steps of its loop."""
    assert planned(APART) == [
        ["forward", ["n", "z"], "h"],
        ["n_part", "m", "o"],
    ]


def test_a_true_circle_is_named_as_it_was_written() -> None:
    """However loops are taken apart on the way."""
    text = APART.replace("+ x)", "+ x + m[n-1])")
    with pytest.raises(SpecError, match="no order of steps") as refused:
        plan(elaborate_text(text))
    assert "part" not in str(refused.value)


@pytest.mark.parametrize(
    "whole", ["dot[t](h[t-1], x)", "sum[t](h[t-1] * x)", "x * h[t = last]"]
)
def test_what_is_known_of_all_of_time_cannot_be_read_on_the_way(whole: str) -> None:
    text = f"""
layer Whole(D):
    input x: [D]
    state h: [D] = 0
    h = 0.5 * h[t-1] + {whole}
    output h
"""
    with pytest.raises(SpecError, match="no order of steps"):
        plan(elaborate_text(text))


def test_cheap_arithmetic_is_not_hoisted() -> None:
    text = """
layer L(D):
    input x: [D]
    state h: [D] = 0
    z = sigmoid(x)
    h = (1 - z) * h[t-1] + z * x
    output h
"""
    steps = plan(elaborate_text(text)).steps
    assert shape(steps) == ["z", ["forward", "h"]]
    assert isinstance(steps[1], TimeLoop)
    assert steps[1].hoisted == ()


def test_one_step_of_a_stream_has_no_loop_along_time() -> None:
    text = GRU.replace("output h", "y = h - h[t-1]\n    output y")
    model = plan(elaborate_text(text)).model
    assert shape(plan_step(model).steps) == ["z", "r", "n", "h", "y"]


def test_states_that_do_not_read_each_other_get_loops_of_their_own() -> None:
    text = """
layer L(D):
    input x: [D]
    state f: [D] = 0
    state b: [D] = 0
    f = tanh(x + f[t-1])
    b = tanh(f + b[t+1])
    output b
"""
    assert planned(text) == [["forward", "f"], ["backward", "b"]]


def test_depth_stands_outside_of_time() -> None:
    text = """
layer L(D, N):
    input x: [D]
    repeat n in N:
        state h: [D] = x
        state S: [D] = 0
        S = tanh(S[t-1] + h[n-1])
        h = h[n-1] + S
    output h[n = N]
"""
    assert planned(text) == [["n", ["forward", "S"], "h"]]


def test_time_stands_outside_where_depth_cannot() -> None:
    text = """
layer L(D, N):
    input x: [D]
    state y: [D] = 0
    repeat n in N:
        state h: [D] = x + y[t-1]
        h = tanh(h[n-1])
    y = h[n = N]
    output y
"""
    assert planned(text) == [["forward", ["n", "h"], "y"]]


SUB = """
layer Cell(D):
    input x: [D]
    input h: [D]
    output tanh(linear(x, D) + linear(h, D))

layer L(D):
    input x: [D]
    state h: [D] = 0
    cell = Cell(D)
    h = cell(x, h[t-1])
    output y = cell(x, h)
"""


def test_calls_are_inlined_only_in_a_loop_along_time() -> None:
    found = plan(elaborate_text(SUB))
    assert [c.name for c in found.model.calls] == ["cell_call_2"]
    assert shape(found.steps)[-1] == "cell_call_2()"
    loop = next(s for s in found.steps if isinstance(s, TimeLoop))
    assert any("weight" in node_text(e.expr) for e in loop.hoisted)


def test_a_circle_that_no_loop_carries_is_named() -> None:
    text = """
layer L(D):
    input x: [D]
    state a: [D] = 0
    state b: [D] = 0
    a = x + b[t-1]
    b = x + a[t+1]
    output a
"""
    with pytest.raises(SpecError) as caught:
        plan(elaborate_text(text))
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "E0310"
    assert "`a` → `b` → `a`" in diagnostic.message
    assert [label.text for label in diagnostic.labels] == [
        "`a` reads `b`",
        "`b` reads `a`",
    ]


@pytest.mark.parametrize(
    ("predicate", "least", "window"),
    [
        ("s <= t", 0, None),
        ("s < t", 1, None),
        ("t - s >= 2", 2, None),
        ("s <= t and t - s < 3", 0, "3"),
        ("t - s <= 3 and not (s > t) and s <= t", 0, "4"),
        ("s <= t and m[s]", 0, None),
        ("s == t or s == t - 2", 0, "3"),
    ],
)
def test_what_a_copy_of_time_can_see(
    predicate: str, least: int, window: str | None
) -> None:
    text = f"""
layer L(D):
    input x: [D]
    input m: bool
    p = softmax[{predicate}](dot[D](x, x[s]))
    output dot[s](p, x[s]) * float(m)
"""
    reach = reach_of_copies(elaborate_text(text))["s"]
    assert isinstance(reach, Reach)
    assert reach.least == least
    assert (str(reach.window) if reach.window is not None else None) == window


@pytest.mark.parametrize(
    ("predicate", "later"),
    [
        ("s == t or s < t and m[s]", "m[s]"),
        ("s <= t and (m[s] or s < 2)", "or"),
        ("s <= t and m[s] and not n[s]", "and"),
        ("s <= t and s % 4 == 3", "eq"),
        ("s <= t and (m[s] or n)", None),
        ("s <= t and (m or not n[s])", None),
        ("s == t or s + 1 == t or s < t and m[s]", None),
        ("s <= t", None),
    ],
)
def test_which_steps_later_ones_see(predicate: str, later: str | None) -> None:
    """A condition on the step alone; none that reads `t` or what changes with it."""
    text = f"""
layer L(D):
    input x: [D]
    input m: bool
    input n: bool
    p = softmax[{predicate}](dot[D](x, x[s]))
    output dot[s](p, x[s]) * float(m and n)
"""
    found = reach_of_copies(elaborate_text(text))["s"].later
    match found:
        case None:
            assert later is None
        case ir.Map(op=op):
            assert later == op
        case _:
            assert isinstance(found, ir.Copy) and later == "m[s]"


@pytest.mark.parametrize("predicate", ["t <= s", "s <= t + 1", "s <= t or m[s]"])
def test_a_look_ahead_is_never_overlooked(predicate: str) -> None:
    text = f"""
layer L(D):
    input x: [D]
    input m: bool
    p = softmax[{predicate}](dot[D](x, x[s]))
    output dot[s](p, x[s]) * float(m)
"""
    assert not reach_of_copies(elaborate_text(text))


@pytest.mark.parametrize(
    ("weights", "ahead"),
    [
        ("p - 0.5 * r", False),
        ("where(m, p, r)", False),
        ("max(p, r)", False),
        ("stack[Z](r, 2 * r)[Z = 1]", False),
        ("sum[Z](stack[Z](r, p))", False),
        ("p + 1", True),
        ("where(m, p, 1)", True),
        ("max(p, x[s][D = 0])", True),
        ("exp(p)", True),
    ],
)
def test_what_weights_of_several_softmaxes_see(weights: str, ahead: bool) -> None:
    text = f"""
layer L(D):
    input x: [D]
    input m: bool
    dim Z = 2
    p = softmax[s <= t](dot[D](x, x[s]))
    r = softmax[s <= t and t - s < 3](dot[D](x, x[s]))
    output dot[s]({weights}, x[s]) * float(m)
"""
    model = elaborate_text(text)
    found, span = reach_of_copies(model).get("s"), looks_ahead(model, "s")
    if ahead:
        assert found is None and span is not None
        assert "dot[s]" in text.splitlines()[span.line - 1]
    else:
        assert found == Reach(0) and span is None


def test_each_sum_over_a_copy_of_time_looks_back_as_far_as_it_says() -> None:
    """`h` looks at its own past, though another sum, even beside it, sees the present."""
    text = """
layer L(D):
    input x: [D]
    state h: [D] = 0
    own = dot[s](softmax[s < t](dot[D](x, h[s])), h[s])
    h = tanh(own + dot[s](softmax[s <= t](dot[D](x, x[s])), x[s]))
    output h + dot[s](softmax[s <= t](dot[D](h, h[s])), h[s])
"""
    steps = walk(plan(elaborate_text(text)).steps)
    (loop,) = [step for step in steps if isinstance(step, TimeLoop)]
    assert "h" in {a.equation.name for a in walk(loop.body) if isinstance(a, Assign)}
    apart = text.replace("softmax[s < t](dot[D](x, h[s]))", "weights")
    apart += "    weights = softmax[s < t](dot[D](x, h[s]))\n"
    plan(elaborate_text(apart))
    with pytest.raises(SpecError, match="E0310"):
        plan(elaborate_text(text.replace("s < t", "s <= t")))

"""The compiler does little, and what it does grows with the length of a spec, not faster."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from effort import calls
from elaborating import CORPUS

from seqdsl import driver
from seqdsl.elaborate import elaborate, load_file, load_text
from seqdsl.schedule.choose import Wish
from seqdsl.schedule.make import plan


def chain(lines: int) -> str:
    """Every line reads the one before and makes parameters."""
    body = [
        f"    y{i} = tanh(linear(y{i - 1}, D)) + y{i - 1}" for i in range(1, lines + 1)
    ]
    return "\n".join(
        ["layer A(D):", "    input y0: [D]", *body, f"    output y{lines}", ""]
    )


def backward_chain(lines: int) -> str:
    """The same with every line above what it reads."""
    head, start, *body, output = chain(lines).rstrip().split("\n")
    return "\n".join([head, start, *body[::-1], output, ""])


def recurrences(lines: int) -> str:
    """States that read each other in a ring, with a slice and a def in each update."""
    body = ["layer A(D):", "    input x: [D]"]
    for i in range(lines // 2):
        before = (i - 1) % (lines // 2)
        body += [
            f"    state s{i}: [D] = 0",
            f"    s{i} = clamp(s{i}[t-1] + s{before}[t-1] * x, -1, 1)",
        ]
    return "\n".join([*body, "    output s0", ""])


def layers(lines: int) -> str:
    """Many layers, each of which calls the one before."""
    body = ["layer L0(D):\n    input x: [D]\n    output linear(x, D)\n"]
    for i in range(1, lines // 3):
        body.append(
            f"layer L{i}(D):\n    input x: [D]\n    output x + L{max(0, i - 40)}(x)\n"
        )
    return "\n".join(body)


def test_a_canonical_spec_is_little_work() -> None:
    text = (CORPUS / "canonical_gated_delta_net.seq").read_text("utf-8")
    elaborate(load_text(text), "GatedDeltaNet")
    # A core makes some five million calls a second.
    assert calls(lambda: elaborate(load_text(text), "GatedDeltaNet")) < 100_000


def test_the_whole_corpus_is_no_great_work() -> None:
    def everything() -> None:
        for path in CORPUS.glob("canonical_*.seq"):
            program = load_file(path)
            for name in program.layers:
                elaborate(program, name)

    everything()
    assert calls(everything) < 1_000_000


@pytest.mark.parametrize("make", [chain, backward_chain, recurrences, layers])
def test_work_grows_with_the_length(make: Callable[[int], str]) -> None:
    elaborate(load_text(make(100)), load_text(make(100)).layers[-1])
    short, long = load_text(make(250)), load_text(make(2000))
    few = calls(lambda: elaborate(short, short.layers[-1]))
    many = calls(lambda: elaborate(long, long.layers[-1]))
    # Eight times the lines; a quadratic step would show, be it one call in a hundred.
    assert many < 9 * few, (few, many)


def test_work_of_compiling_grows_with_the_length() -> None:
    def compiled(lines: int) -> int:
        program = load_text(chain(lines))
        model = elaborate(program, "A")
        return calls(lambda: driver.artifact(model, "torch", "auto"))

    compiled(10)
    few, many = compiled(60), compiled(240)
    assert many < 4.5 * few, (few, many)


def states(lines: int) -> str:
    """States that do not read each other, all of them read at the end."""
    count = lines // 3
    body = ["layer A(D):", "    input x: [D]"]
    for i in range(count):
        body += [f"    state s{i}: [D] = 0", f"    s{i} = sigmoid(x) * s{i}[t-1] + x"]
    total = " + ".join(f"s{i}" for i in range(count))
    return "\n".join([*body, f"    output linear({total}, D)", ""])


def test_forms_of_many_states_are_found_in_little_work() -> None:
    def planned(lines: int) -> int:
        model = elaborate(load_text(states(lines)), "A").model
        return calls(lambda: plan(model, Wish()))

    planned(30)
    few, many = planned(60), planned(240)
    assert many < 5 * few, (few, many)

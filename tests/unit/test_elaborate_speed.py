"""Elaboration is quick, and its time grows with the length of a spec, not faster."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from elaborating import CORPUS

from seqdsl.elaborate import elaborate, load_file, load_text


def seconds(work: Callable[[], object], runs: int = 3) -> float:
    """The best of a few runs."""
    taken: list[float] = []
    for _ in range(runs):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


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


def test_a_canonical_spec_takes_less_than_50_ms() -> None:
    text = (CORPUS / "canonical_gated_delta_net.seq").read_text("utf-8")
    elaborate(load_text(text), "GatedDeltaNet")
    assert seconds(lambda: elaborate(load_text(text), "GatedDeltaNet")) < 0.05


def test_the_whole_corpus_takes_seconds() -> None:
    def everything() -> None:
        for path in CORPUS.glob("canonical_*.seq"):
            program = load_file(path)
            for name in program.layers:
                elaborate(program, name)

    assert seconds(everything) < 2


@pytest.mark.parametrize("make", [chain, backward_chain, recurrences, layers])
def test_time_grows_with_the_length(make: Callable[[int], str]) -> None:
    short, long = load_text(make(500)), load_text(make(4000))
    a = seconds(lambda: elaborate(short, short.layers[-1]))
    b = seconds(lambda: elaborate(long, long.layers[-1]), runs=1)
    # eight times the lines; a quadratic step anywhere would show as sixty-four
    assert b / a < 24, (a, b)

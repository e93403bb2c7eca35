"""Chunkwise forms of matrix-state recurrences say the same as the model."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest

from seqdsl.analysis import Analyzed, analyze
from seqdsl.backends.torch import compile_model
from seqdsl.diagnostics import SpecError
from seqdsl.driver import load
from seqdsl.elaborate import elaborate_text
from seqdsl.schedule.forms import Products
from seqdsl.schedule.products import Chunked, products
from seqdsl.testing.cases import Case
from seqdsl.testing.corpus import passing_specs
from seqdsl.testing.layers import replayed, subject, subjects
from seqdsl.testing.product_forms import check_products
from seqdsl.testing.properties.strategies import (
    strategies_agree,
    strategies_agree_in_gradients,
    strategies_agree_packed,
)
from seqdsl.testing.recurrences import HEADER, OPTIONS, recurrence

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "stdlib", ROOT / "tests" / "language" / "ok")
CORPUS = [
    path
    for folder in FOLDERS
    for path in passing_specs(folder)
    if re.search(r"(dot|sum)\[(?s:.*)\[t-1\]", path.read_text("utf-8"))
]
READS = (
    "dot[K](k, {S})",
    "dot[K](k2, {S}[t-1])",
    "dot[K](k, {S} + a * k2 * v)",
    "dot[Y](k.(K -> Y), {S}.(K -> Y))",
    "relu(dot[K](k, {S})) * v",
    "dot[K](gk, {S}).(V -> R)",
    "dot[K](kr, {S})",
    "sum[K]({S})",
    "dot[K](k, u0)",
    "a * dot[K](k - k2, {S} + {S}[t-1])",
    "mean[K]({S} * k)",
    "dot[F2]((k * v).([K, V] -> F2), {S}.([K, V] -> F2))",
    "dot[K](k, dot[R](E, {S}.(V -> R)))",
    "dot[N](kr, dot[K](kr, {S}))",
    "sum[K, V](k * v * {S})",
    "dot[K](k, roll[V]({S}, 1))",
    "dot[K](k, roll[K]({S}, 1))",
)
LAYER = """
layer L(heads, K, V):
    input k: [heads, K]
    input k2: [heads, K]
    input v: [heads, V]
    input v2: [heads, V]
    input v3: [heads, V]
    input q: [heads, K]
    input a: [heads]
    input g: [K]
    input d: [V]
    state S: [heads, K, V] = 0
    {}
"""


def analyzed(*lines: str) -> Analyzed:
    """A layer with a matrix state per head."""
    return analyze(elaborate_text(LAYER.format("\n    ".join(lines))))


def form(*lines: str) -> Chunked[Products] | None:
    """The chunkwise form of the one recurrence of such a layer."""
    found = analyzed(*lines)
    (verdict,) = found.verdicts
    return products(found.model, verdict, 16)


@pytest.mark.parametrize("path", CORPUS, ids=lambda p: p.stem)
def test_every_form_computes_what_its_model_does(path: Path) -> None:
    program, _ = load(str(path))
    for name in program.layers:
        (made,) = subjects(program, name, build=replayed)
        check_products(analyze(made.model), made.options)


@pytest.mark.parametrize("seed", range(40))
def test_random_matrix_recurrences(seed: int) -> None:
    check_random(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40, 4000))
def test_more_random_matrix_recurrences(seed: int) -> None:
    check_random(seed)


def check_random(seed: int) -> None:
    """A random state [K, V] under random reads, in both forms."""
    random = Random(seed)
    name, lines = recurrence(random, 0, kinds="M")
    reads = [random.choice(READS).format(S=name) for _ in range(random.randint(1, 3))]
    body = [*lines, *(f"r{i} = {r}" for i, r in enumerate(reads))]
    body += [f"output y{i} = r{i}" for i in range(len(reads))]
    try:
        model = elaborate_text(HEADER + "".join(f"    {line}\n" for line in body))
    except SpecError:
        return
    try:
        check_products(analyze(model), OPTIONS)
    except SpecError:
        return


# ---- What the forms look like


def test_a_delta_rule_is_one_write() -> None:
    found = form(
        "S = a * S[t-1] + a * k * (v - dot[K](k, a * S[t-1]))", "output dot[K](q, S)"
    )
    assert found is not None
    (write,) = found.form.writes
    assert set(write.left) == set(write.right) == {"S"} and write.value is not None
    assert found.form.copies == ("heads",)
    assert (found.form.rows, found.form.columns) == (("K",), ("V",))


def test_erases_in_a_row_have_the_rank_of_their_number() -> None:
    found = form(
        "M = S[t-1] + a * k * (v - dot[K](k, S[t-1]))",
        "N = M + a * k2 * (v2 - dot[K](k2, M))",
        "S = N + a * q * (v3 - dot[K](q, N))",
        "output dot[K](q, S)",
    )
    assert found is not None
    assert [bool(w.right) for w in found.form.writes] == [True] * 3


def test_erases_that_write_to_the_same_place_are_one() -> None:
    found = form(
        "S = S[t-1] - k * dot[K](k, S[t-1]) - k * dot[K](k2, S[t-1]) + k * v",
        "output dot[K](q, S)",
    )
    assert found is not None and len(found.form.writes) == 1


def test_a_decay_of_columns_makes_them_copies() -> None:
    line = "S = d * S[t-1] - k * dot[K](k, S[t-1]) + k * v"
    found = form(line, "output dot[K](q, S)")
    assert found is not None
    assert (found.form.copies, found.form.columns) == (("heads", "V"), ())


def test_reads_before_the_write_and_members_read_outside() -> None:
    found = form(
        "e = v - dot[K](k, a * S[t-1])",
        "S = a * S[t-1] + k * e",
        "output dot[K](q, S[t-1] + k2 * v)",
        "output error = e",
    )
    assert found is not None
    assert found.after == ("e",)
    assert [r.lag for r in found.form.reads] == [1, 1]


@pytest.mark.parametrize(
    "lines",
    [
        ["S = a * S[t-1] + k * v", "output S"],
        ["S = a * S[t-1] + k * v", "output max[K](S)"],
        ["S = g * S[t-1] + k * v", "T = S.(V -> [1, V])", "output T"],
        ["S = a * S[t-1] + k * v", "output dot[K](dot[V](v, S).(K -> K), S)"],
        ["S = a * S[t-1] + 0.1 * S[t-2] + k * v", "output dot[K](q, S)"],
        ["S = d * S[t-1] + k * v", "output dot[K](q, S)"],
    ],
)
def test_where_there_is_no_form(lines: list[str]) -> None:
    try:
        assert form(*lines) is None
    except SpecError as error:
        pytest.fail(str(error))


BESIDE = """
layer Memory(heads = 2, K = 3, V = 2):
    input k: [heads, K]
    input q: [heads, K]
    input v: [heads, V]
    input a: [heads]
    input b: [heads]
    state S: [heads, K, V] = 0
    state n: [heads, K] = {first}
    S = sigmoid(a) * S[t-1] + b * k * v
    n = {kept} * n[t-1] + b * {key}
    output dot[K](q, S) / (1 + square(dot[K]({query}, n)))
"""


@pytest.mark.parametrize(
    ("first", "kept", "key", "query", "calls"),
    [
        ("0", "sigmoid(a)", "k", "q", (1, 0)),
        ("0.5", "sigmoid(a)", "k", "q", (1, 0)),
        ("0", "sigmoid(a)", "k", "k", (1, 0)),
        ("0", "sigmoid(b)", "k", "q", (1, 1)),
        ("0", "sigmoid(a)", "q", "q", (1, 1)),
        ("0", "sigmoid(a)", "k", "(q * sum[V](dot[K](q, S)))", (1, 1)),
    ],
)
def test_a_normalizer_is_a_column_of_its_memory(
    first: str, kept: str, key: str, query: str, calls: tuple[int, int]
) -> None:
    """Where both decay alike and have the same keys, and neither needs the other."""
    text = BESIDE.format(first=first, kept=kept, key=key, query=query)
    model = elaborate_text(text)
    body = compile_model(model, strategy="chunk:4").text.split("class Memory")[1]
    assert (body.count("_chunkwise("), body.count("_scan(")) == calls
    layer = subject(model, text=text)
    packed = Case(seed=2, batch=2, time=9, runs=((4, 5), (2, 7)))
    strategies_agree(layer, Case(seed=1, batch=2, time=11, cuts=(5, 6)))
    strategies_agree_packed(layer, packed)
    strategies_agree_in_gradients(layer, packed)


@pytest.mark.parametrize(
    ("state", "update"),
    [
        ("n: int [] = 2", "(n[t-1] + int(2.5 * sigmoid(linear(S, [])))) % 5"),
        ("n: [V] = 0", "0.5 * n[t-1] + 2 * dot[K](k, S)"),
        ("n: [V] = 0", "max(n[t-1] - 0.1, dot[K](k, S[t-1]) + v)"),
    ],
)
def test_scans_over_what_is_read_of_a_memory(state: str, update: str) -> None:
    """A state of a form of its own is read by one that runs as another form."""
    text = (
        "layer L(K = 3, V = 2):\n    input k: [K]\n    input v: [V]\n"
        "    state S: [K, V] = 0\n"
        "    S = S[t-1] + k * (v - dot[K](k, S[t-1]))\n"
        f"    state {state}\n    n = {update}\n    output v + 0.3 * float(n)\n"
    )
    layer = subject(elaborate_text(text), text=text)
    strategies_agree(layer, Case(seed=1, batch=2, time=11, cuts=(5, 6)))
    strategies_agree_packed(layer, Case(seed=2, batch=2, time=9, runs=((4, 5), (2, 7))))

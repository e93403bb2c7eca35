"""The synthetic tasks are what they say, and a short training of one runs."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from examples.tasks.data import COPIED, HELD, IGNORED, KEYS, LETTERS, TASKS, VALUES
from examples.tasks.train import DOCS, LAYERS, STEPS, Result, table, train, written


@pytest.mark.parametrize("name", TASKS)
def test_equal_generators_give_equal_data(name: str) -> None:
    draws = [TASKS[name].draw(5, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    (tokens, targets), again, other = draws
    assert torch.equal(tokens, again[0]) and torch.equal(targets, again[1])
    assert not torch.equal(tokens, other[0])
    assert tokens.shape == targets.shape
    assert 0 <= int(tokens.min()) and int(tokens.max()) < TASKS[name].vocab


def test_recall_asks_for_the_last_value() -> None:
    tokens, targets = TASKS["recall"].draw(20, torch.Generator().manual_seed(0))
    for row, wanted in zip(tokens, targets, strict=True):
        memory: dict[int, int] = {}
        overwritten = 0
        for token, target in zip(row, wanted, strict=True):
            if token < KEYS * VALUES:
                key, value = divmod(int(token), VALUES)
                overwritten += key in memory
                memory[key] = value
                assert target == IGNORED
            else:
                assert int(target) == memory[int(token) - KEYS * VALUES]
        assert len(memory) == HELD and overwritten == 2 * HELD


def test_parity_counts_ones() -> None:
    tokens, targets = TASKS["parity"].draw(8, torch.Generator().manual_seed(0))
    for row, wanted in zip(tokens, targets, strict=True):
        for t in range(16):
            assert int(wanted[t]) == int(row[: t + 1].sum()) % 2


def test_copying_keeps_the_order() -> None:
    tokens, targets = TASKS["copying"].draw(8, torch.Generator().manual_seed(0))
    for row, wanted in zip(tokens, targets, strict=True):
        letters = [int(t) for t in row if t < LETTERS]
        assert letters == [int(t) for t in wanted if t != IGNORED]
        assert len(letters) == COPIED


def test_induction_looks_back() -> None:
    tokens, targets = TASKS["induction"].draw(8, torch.Generator().manual_seed(0))
    for row, wanted in zip(tokens, targets, strict=True):
        for t in range(len(row)):
            before = [s for s in range(t) if row[s] == row[t]]
            expected = int(row[before[-1] + 1]) if before else IGNORED
            assert int(wanted[t]) == expected


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_can_be_trained(layer: str) -> None:
    result = train("copying", layer, steps=2)
    assert result.steps == 2 and 0 <= result.accuracy <= 1


def test_the_table_names_layers_and_tasks() -> None:
    results = [
        Result("a", "x", 0.5, 7, 1.0),
        Result("b", "y", 1.0, 8, 1.0),
        Result("b", "y", 0.97, 9, 1.0),
        Result("b", "y", 0.98, 9, 1.0),
    ]
    assert table(results).splitlines() == [
        "| layer | a | b | s |",
        "| --- | ---: | ---: | ---: |",
        "| x | 50 (7) |  | 1 |",
        "| y |  | 97–100 (9) | 3 |",
    ]


def documented() -> Mapping[tuple[str, str], tuple[int, int]]:
    """What the table of the docs says: the worst and best percentages of layers on tasks."""
    text = DOCS.read_text("utf-8").partition("<!-- tasks -->")[2]
    rows = [line.strip("| ").split(" | ") for line in text.split("\n") if "|" in line]
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for layer, *cells in rows[2:]:
        for task, cell in zip(TASKS, cells, strict=False):
            shares = [int(x) for x in cell.split(" (")[0].split("–")]
            found[layer, task] = shares[0], shares[-1]
    return found


def test_the_table_of_the_docs_bears_out_what_stands_below_it() -> None:
    found = documented()
    layers = {layer for layer, _ in found}
    assert len(layers) >= 8 and layers <= LAYERS.keys()
    assert found.keys() == {(layer, task) for layer in layers for task in TASKS}
    assert found["deltanet", "recall"][0] >= 95
    assert found["linear attention", "recall"][1] < 80
    assert found["deltanet, negative", "parity"][0] >= 95
    assert found["gla", "parity"][1] < 60


def test_the_docs_take_a_new_table() -> None:
    page = DOCS.read_text("utf-8")
    once = written(page, "fresh\n")
    assert "<!-- tasks -->\n\nfresh\n\n<!-- end of tasks -->\n" in once
    assert written(once, "other\n") == written(page, "other\n") != once
    assert page.startswith(once.partition("<!-- tasks -->")[0])


@pytest.mark.slow
def test_what_the_table_shows() -> None:
    """The delta rule overwrites, reflections count modulo two; their neighbors do neither."""
    found = {
        n: train("recall", n, STEPS["recall"]).accuracy
        for n in ("deltanet", "linear attention")
    }
    assert found["deltanet"] > 0.95 and found["linear attention"] < 0.8
    found = {
        n: train("parity", n, STEPS["parity"]).accuracy
        for n in ("deltanet, negative", "gla")
    }
    assert found["deltanet, negative"] > 0.95 and found["gla"] < 0.6

"""The examples do what they say, on the real data they use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from examples.char_lm import text
from examples.digits.classify import classify
from examples.recall import overwrite
from examples.sunspots.forecast import forecast

ROOT = Path(__file__).parents[2]


def test_sunspots_are_forecast_better_than_by_persistence() -> None:
    errors = forecast(steps=150)
    assert errors["model"] < 0.85 * errors["persistence"]


def test_digits_are_read() -> None:
    assert classify(epochs=6) > 0.9


def test_the_language_model_learns_and_writes_its_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.char_lm.train", "--steps", "8"]
    command += ["--out", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names = ["char_lm.py", "loss.png", "sample.txt", "verdicts.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    for name in names:
        assert str(tmp_path / name) in run.stdout.replace("\n", "")
    assert "import seqdsl" not in (tmp_path / "char_lm.py").read_text("utf-8")


def test_the_text_is_split_by_topic() -> None:
    corpus = text.load()
    assert len(corpus.train) > 4 * len(corpus.held_out) > 100_000
    assert corpus.decode(corpus.encode("for x in y")) == "for x in y"


def test_the_bigram_model_counts_pairs() -> None:
    ab = torch.tensor([0, 1] * 500)
    corpus = text.Corpus("ab", ab, ab)
    assert text.bigram_bits(corpus) < 0.02


def test_recall_asks_for_the_newest_value(tmp_path: Path) -> None:
    key, value, target, count = overwrite.batch(20, 24, seed=3)
    for row in range(20):
        newest = {
            int(k): int(v) for k, v in zip(key[row, :24], value[row, :24], strict=True)
        }
        asked = [int(k) for k in key[row, 24:]]
        assert sorted(asked) == list(range(overwrite.KEYS))
        assert [newest[k] for k in asked] == [int(v) for v in target[row]]
    assert (count.sum(1) == 24).all()
    found = overwrite.compare(steps=2)
    overwrite.plot(found, tmp_path / "recall.png")
    assert (tmp_path / "recall.png").stat().st_size > 1000

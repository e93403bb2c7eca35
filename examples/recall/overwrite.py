"""Which memory can be overwritten? Recall of the newest value of each key.

`python -m examples.recall.overwrite` trains the same small model with three memories in
under 4 minutes on 2 cores: a sum of all writes (linear attention), a sum that corrects
itself (Gated DeltaNet), and weights that learn by gradient descent with momentum
(Titans). It prints their accuracy by the number of times a key was written, and writes
a plot.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import seqdsl

SPEC = Path(__file__).with_name("recall.seq")
KEYS, VALUES = 8, 8
MEMORIES = {
    "linear attention": "std.linear_attention:LinearAttention(heads = 1)",
    "Gated DeltaNet": "std.gated_deltanet:GatedDeltaNet(heads = 1)",
    "Titans": "std.titans:LMM(heads = 1)",
}


def batch(rows: int, writes: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Keys and values of `writes` writes and a question for every key, equal by seed.

    The value of a question is `VALUES`. Besides, the newest value of the key that is
    asked for and how often it was written; each key is written at least once.
    """
    make = torch.Generator().manual_seed(seed)
    more = torch.randint(0, KEYS, (rows, writes - KEYS), generator=make)
    every = torch.arange(KEYS).expand(rows, KEYS)
    written = torch.cat([every, more], 1)
    shuffle = torch.rand(rows, writes, generator=make).argsort(1)
    written = written.gather(1, shuffle)
    values = torch.randint(0, VALUES, (rows, writes), generator=make)
    asked = torch.rand(rows, KEYS, generator=make).argsort(1)
    same = written[:, None] == asked[:, :, None]
    newest = (same * torch.arange(1, writes + 1)).argmax(2)
    key = torch.cat([written, asked], 1)
    value = torch.cat([values, torch.full_like(asked, VALUES)], 1)
    return key, value, values.gather(1, newest), same.sum(2)


def train(mixer: str, steps: int, writes: int, rows: int = 64) -> Any:
    """A model with this memory, trained on `steps` batches; equal by seed."""
    torch.manual_seed(0)
    model = seqdsl.load(SPEC).Recall(keys=KEYS, values=VALUES, mixer=mixer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, steps)
    for step in range(steps):
        key, value, target, _ = batch(rows, writes, step)
        scores = model(key, value)[:, writes:]
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), target.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


@torch.no_grad()
def accuracy(model: Any, writes: int, most: int = 5) -> list[float]:
    """Shares of right answers for keys written 1, 2, … `most` times, then of all."""
    key, value, target, count = batch(1000, writes, seed=-1)
    right = (model(key, value)[:, writes:].argmax(2) == target).float()
    by_count = [right[count == n].mean().item() for n in range(1, most + 1)]
    return [*by_count, right.mean().item()]


def compare(steps: int = 600, writes: int = 24) -> dict[str, list[float]]:
    """Accuracies of all memories by how often a key was written."""
    found: dict[str, list[float]] = {}
    for name, mixer in MEMORIES.items():
        start = time.perf_counter()
        found[name] = accuracy(train(mixer, steps, writes), writes)
        shares = "  ".join(f"{share:4.0%}" for share in found[name][:-1])
        seconds = time.perf_counter() - start
        print(
            f"{name:18}{shares}   all {found[name][-1]:4.0%}   ({seconds:.0f} s)",
            flush=True,
        )
    return found


def plot(found: dict[str, list[float]], path: Path) -> None:
    """Accuracy against the number of writes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for name, shares in found.items():
        axes.plot(range(1, len(shares)), shares[:-1], marker="o", label=name)
    axes.axhline(1 / VALUES, color="gray", linestyle=":", label="chance")
    axes.set(xlabel="times the key was written", ylabel="newest value recalled")
    axes.set_ylim(0, 1.02)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="recall of overwritten values")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    print("newest value recalled, by the number of times its key was written (1 to 5)")
    plot(compare(given.steps), given.out / "recall.png")
    print(f"plot: {given.out / 'recall.png'}")


if __name__ == "__main__":
    main()

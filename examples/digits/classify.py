"""Classify handwritten digits by reading their rows from top to bottom.

`python -m examples.digits.classify` takes a few seconds.
"""

from __future__ import annotations

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

import seqdsl

SPEC = Path(__file__).with_name("digits.seq")


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Images `[1797, rows, columns]` with values from 0 to 1, and their digits."""
    images, labels = load_digits(return_X_y=True)
    rows = torch.tensor(images, dtype=torch.float32).view(-1, 8, 8) / 16
    return rows, torch.tensor(labels)


def classify(epochs: int = 12) -> float:
    """The share of held-out images that are read correctly."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    x, y = data()
    order = torch.randperm(len(x), generator=generator)
    test, training = order[:360], order[360:]
    model = seqdsl.load(SPEC).RowReader()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(epochs):
        shuffled = training[torch.randperm(len(training), generator=generator)]
        for rows in shuffled.split(64):
            # the answer is what the model says after the last row
            loss = F.cross_entropy(model(x[rows])[:, -1], y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        guess = model(x[test])[:, -1].argmax(-1)
    return (guess == y[test]).double().mean().item()


if __name__ == "__main__":
    print(f"read correctly: {classify():.1%} of 360 images never seen before")

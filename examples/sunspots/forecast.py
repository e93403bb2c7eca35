"""Forecast the yearly sunspot number, one year ahead, from all years before.

`python -m examples.sunspots.forecast` takes a few seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from statsmodels.datasets import sunspots

import seqdsl

SPEC = Path(__file__).with_name("sunspots.seq")
LAST_TRAINING_YEAR = 1930


def series() -> tuple[torch.Tensor, int]:
    """Sunspot numbers of 1700 to 2008 in units of 100, and how many are trained on."""
    table: Any = sunspots.load().data
    years, activity = table.to_numpy().T
    x = torch.tensor(activity, dtype=torch.float32) / 100
    return x, int((years <= LAST_TRAINING_YEAR).sum())


def forecast(steps: int = 300) -> dict[str, float]:
    """Root mean square errors on the held-out years, in sunspots.

    `model` predicts each year from those before, `persistence` says "as last year".
    """
    torch.manual_seed(0)
    x, known = series()
    model = seqdsl.load(SPEC).Oscillators(H=16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.1)
    for _ in range(steps):
        predicted = model(x[None, : known - 1])[0]
        loss = (predicted - x[1:known]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        # the years up to 1930 set the state; the rest is streamed, a year at a time
        _, state = model(x[None, : known - 1], return_state=True)
        predictions: list[torch.Tensor] = []
        for year in range(known - 1, len(x) - 1):
            value, state = model.step(x[None, year], state)
            predictions.append(value[0])
    truth = x[known:]
    return {
        "model": _rmse(torch.stack(predictions), truth),
        "persistence": _rmse(x[known - 1 : -1], truth),
    }


def _rmse(predicted: torch.Tensor, truth: torch.Tensor) -> float:
    return 100 * (predicted - truth).square().mean().sqrt().item()


if __name__ == "__main__":
    for name, error in forecast().items():
        print(f"{name}: off by {error:.1f} sunspots (root mean square, 1931 to 2008)")

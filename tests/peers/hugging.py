"""What the tests against Hugging Face transformers share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from peer import peer
from torch import Tensor

SINGLE = 1e-5


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    """Modules are made in double precision; what casts to float by itself stays single."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def modeling(name: str) -> Any:
    return peer(f"transformers.models.{name}.modeling_{name}", "transformers")


def config(name: str, **given: Any) -> Any:
    module = peer(f"transformers.models.{name}.configuration_{name}", "transformers")
    found = [
        getattr(module, n)
        for n in dir(module)
        if n.lower() == f"{name}config".replace("_", "")
    ]
    return found[0](**given)


def heads(w: Tensor, *shape: int) -> Tensor:
    """Rows split into dims: `[H * K, D]` to `[H, K, D]`."""
    return w.reshape(*shape, *w.shape[1:])


def back(w: Tensor, *shape: int) -> Tensor:
    """Columns split into dims: `[D, H * K]` to `[D, H, K]`."""
    return w.reshape(w.shape[0], *shape)

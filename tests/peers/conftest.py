"""Writes the errors that were found to `docs/parity.json` when asked to.

`UPDATE_PARITY=1 make peers` does; the gallery shows them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from peer import PARITY


@pytest.fixture(autouse=True)
def same_weights() -> None:
    """Peers draw their weights from torch's own generator."""
    torch.set_rng_state(torch.Generator().manual_seed(0).get_state())


def pytest_sessionfinish(exitstatus: int) -> None:
    if os.environ.get("UPDATE_PARITY") and exitstatus == 0:
        rows = sorted(PARITY.found, key=lambda row: (row["layer"], row["oracle"]))
        path = Path(__file__).parents[2] / "docs" / "parity.json"
        path.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")

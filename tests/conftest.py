"""What every test runs under."""

from __future__ import annotations

import gc
import os

from hypothesis import HealthCheck, settings

# Runs in parallel (pytest-xdist) share the cores; torch reads this when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# `SEQDSL_TEST_DEVICE=cuda pytest tests/unit/test_triton_kernels.py` runs kernels on a GPU; else
# they run in Triton's interpreter, which Triton reads when it is imported.
if device := os.environ.get("SEQDSL_TEST_DEVICE"):
    import torch

    torch.set_default_device(device)
else:
    os.environ["TRITON_INTERPRET"] = "1"

settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    max_examples=50,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("ci"), max_examples=1000)
settings.load_profile("ci")

# Thousands of small models leave circles of objects behind; to look for those among all that is
# alive as often as Python does takes a tenth of the time.
gc.set_threshold(50_000, 10, 10)

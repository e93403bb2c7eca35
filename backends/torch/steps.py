"""Steps of a plan as statements."""

from __future__ import annotations

from seqdsl.backends.torch.calls import apply
from seqdsl.backends.torch.depth_loop import depth_loop
from seqdsl.backends.torch.equations import assign
from seqdsl.backends.torch.kernels import call_kernel, takes
from seqdsl.backends.torch.memory import Body
from seqdsl.backends.torch.parallel import parallel
from seqdsl.backends.torch.time_loop import time_loop
from seqdsl.schedule.plan import (
    Assign,
    Call,
    DepthLoop,
    Parallel,
    Step,
    TimeLoop,
)


def run(body: Body, steps: tuple[Step, ...]) -> None:
    """All of `steps`, in order."""
    for i, step in enumerate(steps):
        match step:
            case Assign(equation=equation):
                assign(body.m, equation, steps[i + 1 :])
            case Call(call=site):
                apply(body, site)
            case TimeLoop() if takes(body.m, step):
                call_kernel(body, step)
            case TimeLoop():
                time_loop(body, step, run)
            case DepthLoop():
                depth_loop(body, step, run)
            case Parallel():
                parallel(body, step)

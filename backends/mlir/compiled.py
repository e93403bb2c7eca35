"""Region → a kernel that can be called, from what an earlier process left where it can."""

from __future__ import annotations

import pickle
from dataclasses import replace

from seqdsl.backends.mlir.engine import Code, code_of, compile_text, compiler_key
from seqdsl.backends.mlir.errors import KernelError
from seqdsl.backends.mlir.kernel import How, Kernel
from seqdsl.backends.mlir.lower import lower
from seqdsl.backends.mlir.machine import Machine
from seqdsl.backends.mlir.nests import make_kernel
from seqdsl.runtime import cache
from seqdsl.schedule.region import Region, identity


def compiled(
    region: Region,
    host: Machine,
    rows: int,
    together: bool,
    how: How = "tasks",
    threads: int = 1,
) -> tuple[Kernel, Code]:
    """The kernel of `region`, without the nests that its code consists of."""
    about = (identity(region), repr(host), f"{rows} {together} {how} {threads}")
    name = f"kernel-{cache.key(*about, compiler_key())}"
    kept = cache.load(name)
    if kept is not None:
        try:
            kernel, data = pickle.loads(kept)
            return kernel, code_of(data, kernel.name)
        except (KernelError, pickle.UnpicklingError, AttributeError, ImportError):
            pass
    kernel = make_kernel(region, host, rows, together, how, threads)
    code, data = compile_text(lower(kernel), kernel.name)
    kernel = replace(
        kernel,
        before=(),
        step=(),
        after=(),
        replay=(),
        save=(),
        restore=(),
        jammed=(),
        advance=(),
    )
    if data is not None:
        cache.store(name, pickle.dumps((kernel, data)))
    return kernel, code

"""What code with Triton kernels would launch on a GPU, found out without one.

While a `DryRun` lasts, torch and Triton believe that the current device is a GPU of an
architecture. Every kernel launched is compiled for it to the binary, and not run; tensors
stay on the CPU and hold garbage. A tuned kernel stands for itself with the configuration
that spills least, of a few tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from math import prod
from types import SimpleNamespace, TracebackType
from typing import Any, Self
from unittest import mock

import torch
from triton.compiler.compiler import CompiledKernel
from triton.errors import TritonError
from triton.runtime import driver
from triton.runtime.autotuner import Autotuner
from triton.runtime.jit import JITFunction

from seqdsl.backends.triton.binaries import Resources, resources, target_of
from seqdsl.backends.triton.chips import CHIPS
from seqdsl.backends.triton.flops import flops


@dataclass(frozen=True)
class Launch:
    """A launch: `programs` in the grid, and `given` bytes of tensors.

    Tensors that begin at the same place count once: `given` is the least that passes
    through memory if the kernel touches all of what it is given. `flops` are those of
    its matrix products, `others` all others.
    """

    kernel: str
    programs: int
    given: int
    resources: Resources
    flops: float = 0.0
    others: float = 0.0


class DryRun:
    """Records `launches` while it lasts, on a GPU of `arch` that is not there."""

    def __init__(self, arch: str = "sm_90", tries: int = 6) -> None:
        self.arch, self.tries = arch, tries
        self.launches: list[Launch] = []
        self._patches = ExitStack()
        self._known: dict[int, Resources] = {}

    def __enter__(self) -> Self:
        patch = self._patches.enter_context
        for name, answer in _answers(self.arch).items():
            patch(mock.patch.object(torch.cuda, name, answer))
        vendor = None if self.arch.startswith("sm_") else self.arch
        patch(mock.patch.object(torch.version, "hip", vendor))
        launch, record, tuned = JITFunction.run, self._record, self._tuned

        def run(fn: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
            compiled = launch(fn, *args, grid=grid, warmup=True, **options)
            if not warmup:
                record(fn, compiled, args, grid, options)
            return compiled

        def tune(tuner: Any, *args: Any, **options: Any) -> Any:
            return tuned(tuner, args, options)

        patch(mock.patch.object(JITFunction, "run", run))
        patch(mock.patch.object(Autotuner, "run", tune))
        patch(mock.patch.object(CompiledKernel, "_init_handles", _nothing))
        before = driver._active  # pyright: ignore[reportPrivateUsage]
        self._patches.callback(driver.set_active, before)
        driver.set_active(_Driver(self.arch))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._patches.close()

    @property
    def given(self) -> int:
        """Bytes given to all launches."""
        return sum(launch.given for launch in self.launches)

    def _record(
        self,
        fn: Any,
        compiled: Any,
        args: tuple[Any, ...],
        grid: Any,
        options: Mapping[str, Any],
    ) -> None:
        named = dict(zip(fn.arg_names, args, strict=False)) | dict(options)
        called: Any = grid
        shape: Any = called(named) if callable(grid) else grid
        if id(compiled) not in self._known:
            self._known[id(compiled)] = resources(compiled)
        sizes: dict[int, int] = {}
        for value in named.values():
            if isinstance(value, torch.Tensor):
                at, size = value.data_ptr(), value.numel() * value.element_size()
                sizes[at] = max(size, sizes.get(at, 0))
        name, programs = str(fn.__name__), prod(int(n) for n in shape)
        used = self._known[id(compiled)]
        each = flops(compiled.asm["ttir"], named)
        given = sum(sizes.values())
        work = programs * each.products, programs * each.others
        self.launches.append(Launch(name, programs, given, used, *work))

    def _tuned(self, tuner: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Run a tuned kernel with the configuration that spills least."""
        tuner.nargs = dict(zip(tuner.arg_names, args, strict=False))
        configs: list[Any] = tuner.prune_configs(options)
        step = max(1, len(configs) // self.tries)
        best, least = configs[len(configs) // 2], None
        for config in configs[::step][: self.tries]:
            spilled = self._spilled(lambda c=config: _apply(tuner, c, args, options))
            if spilled is not None and (least is None or spilled < least):
                best, least = config, spilled
            if least == 0:
                break
        made = _apply(tuner, best, args, options)
        tuner.nargs = None
        return made

    def _spilled(self, launch: Callable[[], Any]) -> int | None:
        """Bytes that a launch would spill, None where it does not compile."""
        before = len(self.launches)
        try:
            launch()
            return self.launches[-1].resources.spilled
        except (TritonError, RuntimeError, ValueError):  # too large for the chip
            return None
        finally:
            del self.launches[before:]


def _apply(
    tuner: Any, config: Any, args: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    chosen = {**options, **config.all_kwargs()}
    if config.pre_hook is not None:
        config.pre_hook({**tuner.nargs, **chosen})
    return tuner.fn.run(*args, **chosen)


def _answers(arch: str) -> dict[str, Callable[..., Any]]:
    """What `torch.cuda` says to code that asks about the device."""
    chip = CHIPS[arch]
    capability = divmod(int(arch[3:]), 10) if arch.startswith("sm_") else (9, 4)
    properties = SimpleNamespace(
        name=chip.name,
        major=capability[0],
        minor=capability[1],
        multi_processor_count=chip.processors,
        total_memory=80 << 30,
        shared_memory_per_block_optin=chip.block,
        regs_per_multiprocessor=chip.registers,
        warp_size=chip.warp,
    )
    return {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda *_: chip.name,
        "get_device_properties": lambda *_: properties,
        "get_device_capability": lambda *_: capability,
        "device": lambda *_: nullcontext(),
        "synchronize": lambda *_: None,
        "set_device": lambda *_: None,
        "_lazy_init": lambda: None,
    }


def _nothing(*args: Any, **options: Any) -> None:
    """Does nothing."""


@dataclass(frozen=True)
class _Constant:
    """Answers the same whatever is asked."""

    answer: Any

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.answer


class _Driver:
    """As much of a driver as Triton asks when it launches."""

    def __init__(self, arch: str) -> None:
        chip = CHIPS[arch]
        self.arch, self.target = arch, target_of(arch)
        self.capability = (self.target.arch, 0)
        if isinstance(self.target.arch, int):
            self.capability = divmod(self.target.arch, 10)
        facts = {
            "max_shared_mem": chip.block,
            "multiprocessor_count": chip.processors,
            "max_num_regs": chip.registers,
            "warpSize": chip.warp,
        }
        self.utils = SimpleNamespace(
            get_device_properties=_Constant(facts),
            load_binary=_Constant((0, 0, 0, 0, 1024)),
        )

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        return _nothing

    def get_current_target(self) -> Any:
        return self.target

    def get_current_device(self) -> int:
        """A device of its own for each architecture: Triton remembers binaries by device."""
        return 1000 + list(CHIPS).index(self.arch)

    def set_current_device(self, device: int) -> None:
        pass

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def get_device_interface(self) -> Any:
        return torch.cuda

    def get_device_capability(self, device: int | None = None) -> Any:
        return self.capability

    def get_benchmarker(self) -> Callable[..., list[float]]:
        return _Constant([0.0, 0.0, 0.0])

    def get_empty_cache_for_benchmark(self) -> torch.Tensor:
        return torch.empty(0)

    def clear_cache(self, cache: Any) -> None:
        pass

    def map_python_to_cpp_type(self, name: str) -> str:
        return name

    @staticmethod
    def is_active() -> bool:
        return True

"""NativeArtifact → `torch.nn.Module` class."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from importlib.util import find_spec
from threading import local
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from seqdsl.backends.mlir.errors import KernelError
from seqdsl.backends.torch import Artifact
from seqdsl.backends.torch.load import load
from seqdsl.diagnostics import CallError, UnsupportedError
from seqdsl.ir import nodes as ir
from seqdsl.native.artifact import NativeArtifact
from seqdsl.native.learning import ByChunks
from seqdsl.native.loop import NativeLoop
from seqdsl.native.stepping.steps import Steps

_FLOATS = (torch.float32, torch.float64, torch.bfloat16)


def available() -> bool:
    """Whether kernels can be compiled here."""
    return find_spec("torch_mlir") is not None


def warn_without() -> None:
    """Say, once in a process, that loops along time run in torch."""
    if not _warned:
        _warned.append(True)
        warnings.warn(
            "torch-mlir is not installed (pip install 'seqdsl[mlir]'), so recurrences "
            "run step by step in torch",
            RuntimeWarning,
            stacklevel=4,
        )


_warned: list[bool] = []


def load_kernels(artifact: NativeArtifact) -> type[nn.Module]:
    """The class of the layer for CPU tensors, its kernels made when first called."""
    cls = load(artifact.host)
    module: Any = sys.modules[cls.__module__]
    for name, region in artifact.regions.items():
        if name not in module._KERNELS:
            module._KERNELS[name] = NativeLoop(region, name)
    return cls


_NOTE = "\n# Calls that kernels cannot serve run in torch.\n"
_LEARNS = "# So do those that learn faster by chunks.\n"


def lenient(artifact: NativeArtifact) -> NativeArtifact:
    """The same as a module of its own, beside the one that refuses."""
    host = artifact.host
    if _NOTE in host.text:
        return artifact
    note = _NOTE + (_LEARNS if artifact.training else "")
    files = {**host.files, host.main: host.text + note}
    return replace(artifact, host=replace(host, files=files))


def load_native(artifact: NativeArtifact, other: Artifact | None) -> type[nn.Module]:
    """The class of the layer; calls that kernels cannot serve go to the file `other`.

    Without one they raise `CallError`. Instances are pickled together with both files.
    """
    cls = load_kernels(artifact if other is None else lenient(artifact))
    module: Any = sys.modules[cls.__module__]
    plain: Any = None if other is None else sys.modules[load(other).__module__]
    if not hasattr(module, "_DISPATCHED"):
        module._DISPATCHED = True
        names: list[str] = [*vars(module)]
        for name in names:
            found: Any = getattr(module, name)
            if isinstance(found, type) and issubclass(found, nn.Module):
                model, result = artifact.classes[name]
                training = artifact.training.get(name)
                chunks = None if training is None else ByChunks(model, training)
                _dispatch(found, getattr(plain, name, None), chunks)
                _step_by_kernels(found, model, getattr(module, result or "", None))
                _picklable(found, artifact, other)
    return cls


def _dispatch(
    cls: type[nn.Module], fallback: type[nn.Module] | None, chunks: ByChunks | None
) -> None:
    """`forward` and `step` of `cls` for CPU tensors, of `fallback` for others.

    A step that is not all kernels runs in torch: its loop has one step. Calls that learn
    faster by `chunks` do so.
    """
    same = fallback is not None and _same_state(cls, fallback)
    for method in ("forward", "step"):
        own: Callable[..., Any] = getattr(cls, method)
        other: Callable[..., Any] | None = getattr(fallback, method, None)
        if method == "step" and other is not None and same:
            own = other
        made = _either(own, other)
        if method == "forward" and other is not None and same and chunks is not None:
            made = _learning(made, other, chunks)
        setattr(cls, method, made)


def _learning(
    own: Callable[..., Any], other: Callable[..., Any], chunks: ByChunks
) -> Callable[..., Any]:
    @wraps(own)
    def call(self: nn.Module, *args: Any, **keywords: Any) -> Any:
        if not torch.compiler.is_compiling() and chunks(self, args):
            return other(self, *args, **keywords)
        return own(self, *args, **keywords)

    return _apart(call, own)


def _same_state(cls: type[nn.Module], other: type[nn.Module]) -> bool:
    """Whether streams of two classes begin with the same entries."""
    codes = [getattr(c, "initial_state").__code__ for c in (cls, other)]  # noqa: B009 (untyped)
    return len({(c.co_code, c.co_consts, c.co_names) for c in codes}) == 1


def _step_by_kernels(cls: type[nn.Module], model: ir.Model, result: Any) -> None:
    """`step` of `cls` as kernels alone, where a call can be served so."""
    steps, other = Steps(model), getattr(cls, "step")  # noqa: B009 (untyped)

    @wraps(other)
    def step(self: nn.Module, *args: Any, **keywords: Any) -> Any:
        if not keywords and not _traced():
            found = steps.run(self, args)
            if found is not None:
                outputs, state = found
                return outputs[0] if result is None else result(*outputs), state
        return other(self, *args, **keywords)

    setattr(cls, "step", _apart(step, other))  # noqa: B010 (untyped)


def _traced() -> bool:
    """Whether operations are seen, or changed, by something before they run."""
    internals = torch.compiler.is_compiling() or _interpreted()
    return internals or torch.is_autocast_enabled("cpu")


def _either(
    own: Callable[..., Any], other: Callable[..., Any] | None
) -> Callable[..., Any]:
    @wraps(own)
    def call(self: nn.Module, *args: Any, **keywords: Any) -> Any:
        if torch.compiler.is_compiling():
            chosen = own
            if other is not None and unserved(args, keywords) is not None:
                chosen = other
            return chosen(self, *args, **keywords)
        if getattr(_inside, "call", False):
            return own(self, *args, **keywords)
        why = refusal(args, keywords)
        if why is None and (other is None or type(self) not in _broken):
            _inside.call = True
            try:
                return own(self, *args, **keywords)
            except KernelError as error:
                if other is None:
                    raise
                _note_broken(type(self), error)
            finally:
                _inside.call = False
        if other is None:
            raise CallError(f"the target `mlir` {why}; `auto` falls back to torch")
        return other(self, *args, **keywords)

    return _apart(call, own)


def _apart(call: Any, own: Callable[..., Any]) -> Callable[..., Any]:
    """`call` with code of its own: torch.compile counts recompilations by code."""
    name = f"{own.__module__}_{own.__qualname__}"
    call.__code__ = call.__code__.replace(co_name=name)
    return call


_inside = local()
"""Whether this thread runs a layer with kernels already: its sub-layers need not ask."""

_broken: set[type[nn.Module]] = set()


def _note_broken(cls: type[nn.Module], error: KernelError) -> None:
    """Say once that a layer runs in torch after all."""
    _broken.add(cls)
    warnings.warn(
        f"{cls.__name__} runs in torch: {error}", RuntimeWarning, stacklevel=4
    )


def refusal(args: tuple[Any, ...], keywords: dict[str, Any]) -> str | None:
    """Why kernels cannot serve a call; None where they can."""
    if _interpreted():
        return "does not run under torch.func or a dispatch mode"
    return unserved(args, keywords)


def unserved(args: tuple[Any, ...], keywords: dict[str, Any]) -> str | None:
    """The same as far as it lies in the tensors that are given."""
    for leaf in pytree.tree_leaves((args, keywords)):
        if isinstance(leaf, Tensor):
            if leaf.device.type != "cpu":
                return f"runs on CPU tensors, not on {leaf.device.type}"
            if leaf.is_floating_point() and leaf.dtype not in _FLOATS:
                return f"has no {str(leaf.dtype).removeprefix('torch.')}"
    return None


def _interpreted() -> bool:
    """Whether torch.func or a dispatch mode sees operations before they run."""
    internals: Any = vars(torch)["_C"]
    stack = internals._functorch.peek_interpreter_stack()
    return stack is not None or internals._len_torch_dispatch_stack() > 0


def _picklable(
    cls: type[nn.Module], artifact: NativeArtifact, other: Artifact | None
) -> None:
    """Instances carry the files of their class."""

    def reduce(self: nn.Module, protocol: Any) -> tuple[Any, ...]:
        state = self.__getstate__() if hasattr(self, "__getstate__") else self.__dict__
        return _restore, (artifact, other, cls.__name__), state

    cls.__reduce_ex__ = reduce


def _restore(artifact: NativeArtifact, other: Artifact | None, name: str) -> nn.Module:
    """An empty instance, to be filled with what was pickled."""
    module = sys.modules[load_native(artifact, other).__module__]
    cls = getattr(module, name)
    return cls.__new__(cls)


def check_strict(artifact: NativeArtifact) -> None:
    """Raise `UnsupportedError` where the target `mlir` was asked for and cannot do it."""
    if not available():
        raise UnsupportedError(
            "the target `mlir` needs torch-mlir: pip install 'seqdsl[mlir]'"
        )
    if artifact.refused:
        raise UnsupportedError(
            f"the target `mlir` has no kernel for a loop along time of "
            f"{'; '.join(artifact.refused)}"
        )

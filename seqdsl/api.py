"""The Python API: specs as objects whose layers make torch modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqdsl.diagnostics import CallError
from seqdsl.elaborate import Elaborated, elaborate
from seqdsl.elaborate.program import std_names
from seqdsl.ir.sizes import Scalar
from seqdsl.prepared import Opened, opened_file, opened_std, opened_text, prepared

if TYPE_CHECKING:
    import torch

Externs = Mapping[str, Callable[..., Any]]


class Layer:
    """A layer of a spec; called with its options it makes a module."""

    def __init__(self, spec: Opened, name: str, externs: Externs) -> None:
        self._spec = spec
        self._externs = externs
        self.name = name

    def __call__(
        self,
        *,
        target: str = "auto",
        strategy: str = "auto",
        dtype: torch.dtype | None = None,
        **options: Scalar | Layer,
    ) -> Any:
        """A `torch.nn.Module` with `forward`, `step`, `initial_state` and `verdicts`.

        An option that is a layer takes one of the standard library (`seqdsl.std.gla.GLA`)
        or its text (`"std.gla:GLA(heads = 8)"`). `target` is `auto`, `torch` or `mlir`:
        kernels for CPU tensors, which `auto` takes where it can. `strategy` is `auto` or a
        way to run recurrences such as `loop`; `dtype` is that of the parameters. Raises `SpecError` where the spec or an option is wrong,
        `UnsupportedError` where the target cannot host the layer.
        """
        given = {name: _scalar(value) for name, value in options.items()}
        made = prepared(self._spec, self.name, given, target, strategy)
        externs = {k: f for k, f in self._externs.items() if k in made.externs}
        bound = {"externs": externs} if made.externs else {}
        module: Any = made.module_class()(**given, **bound)
        module.verdicts = made.verdicts
        return module if dtype is None else module.to(dtype)

    def elaborate(self, **options: Scalar | Layer) -> Elaborated:
        """The typed IR; `options` are needed only where the layer's form reads them."""
        given = {name: _scalar(value) for name, value in options.items()}
        return elaborate(self._spec.program, self.name, given)

    @property
    def key(self) -> str:
        """How other specs name the layer: `std.gla:GLA`; raises `CallError` for a file's."""
        program = self._spec.program
        if not program.main.key.startswith("std."):
            raise CallError(
                f"{self!r} is not of the standard library: import it in the spec that is "
                f'to use it, and give its name, "{self.name}"'
            )
        return f"{program.main.key}:{self.name}"

    def __repr__(self) -> str:
        options = self.declared_options()
        return f"<layer {self.name}({', '.join(options)})>"

    def declared_options(self) -> list[str]:
        """The options as declared: `D`, `H = D`."""
        from seqdsl.syntax.format import format_expr

        decl = next(d for d in self._spec.program.spec.layers if d.name == self.name)
        return [
            o.name if o.default is None else f"{o.name} = {format_expr(o.default)}"
            for o in decl.options
        ]


def _scalar(value: Scalar | Layer) -> Scalar:
    return value.key if isinstance(value, Layer) else value


class Spec:
    """A loaded `.seq` file; its layers are attributes: `spec.GLA(D=64, heads=4)`."""

    def __init__(self, spec: Opened, externs: Externs | None = None) -> None:
        self._spec = spec
        self._externs = dict(externs or {})

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers in file order."""
        return self._spec.outline.layers

    def __getattr__(self, name: str) -> Layer:
        if name.startswith("__") or "_spec" not in self.__dict__:
            raise AttributeError(name)
        if name in self.layers:
            return Layer(self._spec, name, self._externs)
        raise AttributeError(
            _unknown(f"{self._spec.outline.name} has no layer", name, self.layers)
        )

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.layers]

    def __repr__(self) -> str:
        return f"<spec {self._spec.outline.name}: {', '.join(self.layers)}>"


class _Std:
    """The standard library: `seqdsl.std.gla` is the spec of `std.gla`."""

    def __getattr__(self, name: str) -> Spec:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in std_names():
            message = _unknown("the standard library has no", name, std_names())
            raise AttributeError(message)
        return Spec(opened_std(name))

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *std_names()]

    def __repr__(self) -> str:
        return "<the standard library>"


std = _Std()


def _unknown(what: str, name: str, known: tuple[str, ...]) -> str:
    close = get_close_matches(name, known, 1)
    hint = f"did you mean `{close[0]}`?" if close else f"it has {', '.join(known)}"
    return f"{what} `{name}`; {hint}"


def load(path: str | Path, externs: Externs | None = None) -> Spec:
    """The spec in the file at `path`, or the standard library's, as `std.gla`.

    `externs` gives a callable for each `extern` op of the spec. Raises `SpecError` for
    syntax errors and imports that do not resolve, `OSError` where the file cannot be
    read; other mistakes are raised by the layer that has them, when it is made.
    """
    return Spec(opened_file(str(path)), externs)


def loads(
    text: str,
    externs: Externs | None = None,
    *,
    name: str = "<text>",
    folder: str | Path | None = None,
) -> Spec:
    """The spec that `text` spells; imports of files are looked up in `folder`.

    Raises as `load` does.
    """
    where = None if folder is None else Path(folder)
    return Spec(opened_text(text, name, where), externs)

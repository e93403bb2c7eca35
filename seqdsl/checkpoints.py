"""Published checkpoints as modules of the standard library.

How a family's files map onto a layer is data: `stdlib/checkpoints/NAME.toml` gives the layer,
its options as expressions over the checkpoint's configuration, and the rows of names.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqdsl.api import load
from seqdsl.diagnostics import CallError, UnsupportedError
from seqdsl.elaborate.program import suggest
from seqdsl.ir.sizes import Apply, Lit, Opt, Scalar, Size, SizeError, evaluate
from seqdsl.syntax import ast
from seqdsl.syntax.parse import parse_expression

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from seqdsl.runtime.weights import Layout

Weights = Mapping[str, "Tensor"]


def load_checkpoint(
    source: str | Path | Weights,
    *,
    layout: str | None = None,
    config: Mapping[str, Any] | None = None,
    target: str = "auto",
    strategy: str = "auto",
    dtype: torch.dtype | None = None,
) -> torch.nn.Module:
    """A compiled model with the weights of a published checkpoint.

    `source` is a folder as Hugging Face saves it (`config.json` and safetensors, in one
    file or in shards), a `.safetensors` or torch file, or a state dict. `layout` says what
    the checkpoint is (`seqdsl.checkpoint_layouts()`); by default the configuration's
    `model_type`. `config` is the configuration where `source` has none. Parameters are
    float32, or `dtype`.

    Raises `CallError` where the layout is unknown, or names are missing, unexpected or of
    another shape; `UnsupportedError` where the configuration asks for what the layer does
    not do; `OSError` where a file cannot be read.
    """
    weights, found = _read(source)
    settings = _flat({**found, **(config or {})})
    plan = _plan(layout or settings.get("model_type"))
    known = plan.known(settings, weights)
    options = {name: known[name] for name in plan.options} | plan.layers(known)
    spec, _, layer = plan.layer.partition(":")
    module: torch.nn.Module = getattr(load(spec), layer)(
        target=target, strategy=strategy, dtype=dtype, **options
    )
    from seqdsl.runtime.weights import mapped

    shapes = {key: value.shape for key, value in module.state_dict().items()}
    module.load_state_dict(mapped(plan.layout(), weights, shapes, known, _value))
    return module.eval()


def checkpoint_layouts() -> tuple[str, ...]:
    """Names of the layouts that `load_checkpoint` knows."""
    folder = files("seqdsl.stdlib").joinpath("checkpoints")
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(n.removesuffix(".toml") for n in names if n.endswith(".toml")))


# ---- Layouts


@dataclass(frozen=True)
class _Plan:
    """A layout as written: `stdlib/checkpoints/NAME.toml`."""

    name: str
    data: Mapping[str, Any]

    @property
    def layer(self) -> str:
        return self.data["layer"]

    @property
    def options(self) -> Mapping[str, str]:
        return self.data.get("options", {})

    def known(
        self, settings: Mapping[str, Scalar], weights: Weights
    ) -> dict[str, Scalar]:
        """The configuration, and the sizes and options computed from it."""
        for name, wanted in self.data.get("require", {}).items():
            if settings.get(name, wanted) != wanted:
                raise UnsupportedError(
                    f"a checkpoint of the layout `{self.name}` is loaded where "
                    f"{name} = {wanted}, and here it is {settings[name]}"
                )
        known = dict(settings)
        for name, text in {**self.data.get("sizes", {}), **self.options}.items():
            known[name] = self._value(name, text, known, weights)
        return known

    def _value(
        self, name: str, text: str, known: Mapping[str, Scalar], weights: Weights
    ) -> Scalar:
        try:
            return _value(text, known, weights)
        except KeyError as error:
            raise CallError(
                f"the layout `{self.name}` needs {error} of the checkpoint, for the "
                f"size `{name}` = {text}: give a configuration, as `config`"
            ) from None

    def layers(self, known: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Options that are layers: texts with their sizes filled in."""
        return {
            name: _filled(text, known)
            for name, text in self.data.get("layers", {}).items()
        }

    def layout(self) -> Layout:
        """The rows of names, groups written out."""
        from seqdsl.runtime.weights import Layout, Row

        rows = [
            Row(ours, tuple(f"{at}{one}" for one in _several(theirs)))
            for own, at, table in self._tables()
            for ours, theirs in ((f"{own}{key}", t) for key, t in table.items())
        ]
        words = self.data.get("words", {})
        return Layout(self.name, tuple(rows), words, tuple(self.data.get("ignore", ())))

    def _tables(self) -> Iterator[tuple[str, str, Mapping[str, str | list[str]]]]:
        yield "", "", self.data.get("keys", {})
        for group in self.data.get("group", ()):
            for own, theirs in group["at"].items():
                yield own, theirs, group["keys"]


def _several(theirs: str | list[str]) -> list[str]:
    return [theirs] if isinstance(theirs, str) else theirs


def _plan(name: object) -> _Plan:
    known = checkpoint_layouts()
    if name not in known:
        said = "no layout is given" if name is None else f"there is no layout `{name}`"
        hint = suggest(str(name), [*known]) or f"there are {', '.join(known)}"
        raise CallError(f"{said}; {hint}")
    file = files("seqdsl.stdlib").joinpath("checkpoints", f"{name}.toml")
    return _Plan(str(name), tomllib.loads(file.read_text("utf-8")))


# ---- Arithmetic in a layout


def _filled(template: str, known: Mapping[str, Scalar]) -> str:
    """`{…}` in a text replaced by the values of what stands inside."""
    out, rest = "", template
    while "{" in rest:
        before, _, rest = rest.partition("{")
        inside, _, rest = rest.partition("}")
        out += before + f"{Lit(_value(inside, known))}"
    return out + rest


def _value(
    text: str, known: Mapping[str, Scalar], weights: Weights | None = None
) -> Scalar:
    """The value of option arithmetic as text; `KeyError` for a name without value."""
    size = _size(parse_expression(text), weights or {})
    try:
        return evaluate(size, known)
    except SizeError as error:
        raise CallError(f"{text}: {error}") from None


def _size(expr: ast.Expr, weights: Weights) -> Size:
    match expr:
        case ast.Number(value=value) | ast.Bool(value=value) | ast.String(value=value):
            return Lit(value)
        case ast.Name(id=name):
            return Opt(name)
        case ast.Unary(op=op, operand=operand):
            return Apply("neg" if op == "-" else op, (_size(operand, weights),))
        case ast.Binary(op=op, left=left, right=right):
            return Apply(op, (_size(left, weights), _size(right, weights)))
        case ast.Call(func=ast.Name(id=name), args=args):
            values = [_size(arg, weights) for arg in args]
            if name in _OF_WEIGHTS:
                given = [v.value for v in values if isinstance(v, Lit)]
                return Lit(_OF_WEIGHTS[name](weights, *given))
            return Apply(name, tuple(values))
        case _:
            raise AssertionError(expr)


def _extent(weights: Weights, key: Scalar, dim: Scalar) -> int:
    """`extent("emb.weight", 1)`: the extent of a tensor's dim."""
    return weights[str(key)].shape[int(dim)]


def _count(weights: Weights, template: Scalar) -> int:
    """`count("blocks.#.ln1.weight")`: how many keys there are for # = 0, 1, …"""
    n = 0
    while str(template).replace("#", str(n)) in weights:
        n += 1
    return n


_OF_WEIGHTS: Mapping[str, Callable[..., Scalar]] = {
    "extent": _extent,
    "count": _count,
}


# ---- Files


def _read(source: str | Path | Weights) -> tuple[Weights, Mapping[str, Any]]:
    """The tensors of a checkpoint, and its configuration if it has one."""
    if isinstance(source, Mapping):
        return source, {}
    path = Path(source)
    if not path.is_dir():
        return _tensors(path), {}
    config = json.loads((path / "config.json").read_text("utf-8"))
    index = path / "model.safetensors.index.json"
    if not index.exists():
        return _tensors(path / "model.safetensors"), config
    shards = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    weights: dict[str, Tensor] = {}
    for shard in sorted(shards):
        weights |= _tensors(path / shard)
    return weights, config


def _tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        import torch

        return torch.load(path, map_location="cpu", weights_only=True)
    from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]

    return load_file(path)


def _flat(config: Mapping[str, Any]) -> dict[str, Scalar]:
    """Settings by name; those of a nested table also by theirs."""
    flat: dict[str, Scalar] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat({str(k): v for k, v in value.items()})  # pyright: ignore
        elif isinstance(value, bool | int | float | str):
            flat[name] = value
    return flat

"""What the compiler makes of a layer, kept between processes.

A process that asks for a layer which an earlier one has made parses nothing: the name
under which it is kept says all that it depends on. Whatever cannot be read is made again.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from seqdsl import driver
from seqdsl.elaborate import Elaborated, Program, elaborate, load_std, load_text
from seqdsl.elaborate.closure import closure
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import bind_sizes, with_defaults
from seqdsl.ir.sizes import Scalar
from seqdsl.runtime import cache
from seqdsl.source import Source
from seqdsl.syntax.read import read

if TYPE_CHECKING:
    from torch import nn

    from seqdsl.analysis import Verdict
    from seqdsl.native.choose import Choice


@dataclass(frozen=True)
class Prepared:
    """The files of a layer's class, the extern ops that it calls, and its verdicts.

    `codes` are those files compiled, by their names as modules.
    """

    choice: Choice
    externs: frozenset[str]
    verdicts: tuple[Verdict, ...]
    codes: Mapping[str, bytes]

    def module_class(self) -> type[nn.Module]:
        """The class; raises as `Choice.load` does."""
        from seqdsl.backends.torch.load import offer

        offer(self.codes)
        return self.choice.load()


@dataclass(frozen=True)
class Outline:
    """How messages call a file, and the names of its own layers in order."""

    name: str
    layers: tuple[str, ...]


class Opened:
    """A spec, parsed when something asks for more than is kept of it.

    `parts` gives the texts that it consists of, as they are at that time.
    """

    def __init__(
        self, parse: Callable[[], Program], parts: Callable[[], tuple[str, ...]]
    ) -> None:
        self._parse, self._parts = parse, parts
        self.identity = cache.key("spec", *parts())
        kept = _kept("spec", self.identity)
        if isinstance(kept, Outline):
            self.outline = kept
        else:
            program = self.program
            self.outline = Outline(program.spec.source.name, program.layers)
            _keep("spec", self.identity, self.outline)

    @cached_property
    def program(self) -> Program:
        """The spec with everything that it imports."""
        while True:
            parts = self._parts()
            program = self._parse()
            if self._parts() == parts:  # else a file was changed meanwhile
                self.identity = cache.key("spec", *parts)
                return program


def opened_std(name: str) -> Opened:
    """A file of the standard library, whose texts are part of every name."""
    return Opened(lambda: load_std(name), lambda: (f"std.{name}",))


def opened_text(text: str, name: str, folder: Path | None) -> Opened:
    """A text; raises `SpecError` as `load_text` does."""

    def parts() -> tuple[str, ...]:
        return (name, str(folder), *closure(Source(name, text), folder))

    return Opened(lambda: load_text(text, name, folder), parts)


def opened_file(path: str) -> Opened:
    """What `driver.load` finds at `path`; raises as it does."""
    place = Path(path)
    if not place.is_file():
        # `std.NAME`, or a file with the name of a layer behind it
        main = driver.load(path)[0].main
        if main.folder is None:
            return opened_std(main.key.removeprefix("std."))
        place = Path(main.key)

    def parts() -> tuple[str, ...]:
        return (path, *closure(read(place), place.resolve().parent))

    return Opened(lambda: driver.load(path)[0], parts)


def prepared(
    spec: Opened,
    layer: str,
    given: Mapping[str, Scalar],
    target: str,
    strategy: str,
) -> Prepared:
    """The layer for these options, from what an earlier process left where it can.

    Raises `SpecError` where the spec or an option is wrong, `UnsupportedError` where the
    target cannot host the layer.
    """
    about = (spec.identity, layer, repr(sorted(given.items())), target, strategy)
    name = cache.key(*about, _platform())
    kept = _kept("layer", name)
    if isinstance(kept, Prepared):
        return kept
    elaborated = elaborate(spec.program, layer, given)
    made = _prepare(elaborated, given, target, strategy)
    _keep("layer", name, made)
    return made


def _prepare(
    elaborated: Elaborated, given: Mapping[str, Scalar], target: str, strategy: str
) -> Prepared:
    model = elaborated.model
    bind_sizes(model, given)
    # `auto` goes by the sizes that it knows
    sized = replace(elaborated, model=with_defaults(model, given))
    choice = driver.choose(sized, target, strategy)
    verdicts = driver.analyze(model).verdicts
    from seqdsl.backends.torch.load import code_of

    codes = dict(map(code_of, choice.texts()))
    return Prepared(choice, frozenset(_externs_of(model)), verdicts, codes)


def _externs_of(model: ir.Model) -> set[str]:
    """The extern ops that a layer or its sub-layers call."""
    inner = (_externs_of(i.model) for i in model.instances)
    return {e.name for e in model.externs}.union(*inner)


def _platform() -> str:
    """What the files of a class depend on beside the spec."""
    import torch

    from seqdsl.backends.mlir.machine import host_key

    return f"python {sys.version} torch {torch.__version__} {host_key()}"


def _kept(kind: str, name: str) -> object:
    data = cache.load(f"{kind}-{name}")
    if data is None:
        return None
    try:
        return pickle.loads(data)
    except (pickle.UnpicklingError, AttributeError, ImportError, EOFError, TypeError):
        return None


def _keep(kind: str, name: str, value: object) -> None:
    if cache.folder() is not None:
        cache.store(f"{kind}-{name}", pickle.dumps(value))

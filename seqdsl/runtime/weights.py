"""Tensors of a checkpoint brought into the names and shapes of a module.

A row says for a key of ours, in which `{l}` stands for an index, from which tensors it is
made: `layers.{l + 1}.in_proj.weight | rows(0, E)`. Steps behind `|` are applied in order:
`split(n)` cuts the first dim into n parts, `rows(a, b)` takes entries a to b of the first
dim (of each part, after `split`), `mT` swaps the last two dims, `add(c)` adds a number.
Several sources, or `{e in E}` in one, are stacked along a new first dim.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Size, Tensor, stack

from seqdsl.diagnostics import CallError
from seqdsl.ir.sizes import Scalar

Evaluate = Callable[[str, Mapping[str, Scalar]], Scalar]
"""An expression as text, and the names it may read."""

_INDEX = re.compile(r"\{(\w+)\}")
_EACH = re.compile(r"\{(\w+) in ([^}]+)\}")
_BRACED = re.compile(r"\{([^}]+)\}")
_STEP = re.compile(r"(\w+)(?:\((.*)\))?")
_MOST = 8


@dataclass(frozen=True)
class Row:
    """A key of ours as a pattern, and the sources of its tensor."""

    ours: str
    theirs: tuple[str, ...]

    def match(self, key: str) -> re.Match[str] | None:
        """Where `key` is one of this row: with its indices as named groups."""
        parts = _INDEX.split(self.ours)
        names = parts[1::2]
        pattern = re.escape(parts[0])
        for name, rest in zip(names, parts[2::2], strict=True):
            pattern += rf"(?P<{name}>[^.]+){re.escape(rest)}"
        return re.fullmatch(pattern, key)


@dataclass(frozen=True)
class Layout:
    """How a checkpoint is laid out: rows, words that stand for indices, keys to pass over."""

    name: str
    rows: tuple[Row, ...]
    words: Mapping[str, int]
    ignored: tuple[str, ...]

    def passes_over(self, key: str) -> bool:
        """Whether `key` holds nothing of the model: a copy, a table that is computed."""
        return any(re.fullmatch(pattern, key) for pattern in self.ignored)


def mapped(
    layout: Layout,
    checkpoint: Mapping[str, Tensor],
    shapes: Mapping[str, Size],
    known: Mapping[str, Scalar],
    evaluate: Evaluate,
) -> dict[str, Tensor]:
    """The tensors of `checkpoint` under our keys, in the `shapes` of the module.

    Raises `CallError` naming every key that is missing, unexpected or of another shape.
    """
    made: dict[str, Tensor] = {}
    used: set[str] = set()
    missing: dict[str, str] = {}
    unfit: list[str] = []
    for key, shape in shapes.items():
        row, names = _row(layout, key, known)
        steps = [list(_steps(text)) for text in row.theirs]
        sources = [s for parts in steps for s in _sources(parts[0], names, evaluate)]
        used.update(sources)
        absent = [s for s in sources if s not in checkpoint]
        missing = {s: key for s in absent} | missing
        if absent:
            continue
        tensors = [
            _stepped(checkpoint[source], parts[1:], names, evaluate)
            for parts in steps
            for source in _sources(parts[0], names, evaluate)
        ]
        tensor = stack(tensors) if len(tensors) > 1 else tensors[0]
        if tensor.numel() == shape.numel():
            made[key] = tensor.reshape(shape)
        else:
            found = ", ".join(f"{s} {[*checkpoint[s].shape]}" for s in sources[:2])
            unfit.append(f"{key} is {[*shape]}, made of {found}")
    unexpected = [k for k in checkpoint if k not in used and not layout.passes_over(k)]
    lacking = [f"{source} (for {key})" for source, key in missing.items()]
    _refuse(layout, lacking, unexpected, unfit)
    return made


def _row(
    layout: Layout, key: str, known: Mapping[str, Scalar]
) -> tuple[Row, dict[str, Scalar]]:
    for row in layout.rows:
        match = row.match(key)
        if match is None:
            continue
        words = {name: _index(layout, word) for name, word in match.groupdict().items()}
        if None not in words.values():
            return row, {**known, **{n: i for n, i in words.items() if i is not None}}
    raise CallError(f"the layout `{layout.name}` says nothing of `{key}`")


def _index(layout: Layout, word: str) -> int | None:
    return int(word) if word.isdecimal() else layout.words.get(word)


def _steps(text: str) -> Iterator[str]:
    return (part.strip() for part in text.split("|"))


def _sources(
    template: str, names: Mapping[str, Scalar], evaluate: Evaluate
) -> Iterator[str]:
    each = _EACH.search(template)
    if each is not None:
        count = evaluate(each[2], names)
        for i in range(int(count)):
            one = template.replace(each[0], str(i))
            yield from _sources(one, names, evaluate)
        return
    yield _BRACED.sub(lambda m: str(evaluate(m[1], names)), template)


def _stepped(
    tensor: Tensor, steps: list[str], names: Mapping[str, Scalar], evaluate: Evaluate
) -> Tensor:
    along = 0
    for step in steps:
        match = _STEP.fullmatch(step)
        assert match is not None, step
        given = match[2].split(",") if match[2] else []
        numbers = [evaluate(text, names) for text in given]
        match match[1], numbers:
            case "split", [n]:
                tensor, along = tensor.reshape(int(n), -1, *tensor.shape[1:]), 1
            case "rows", [low, high]:
                tensor = tensor.narrow(along, int(low), int(high) - int(low))
            case "mT", []:
                tensor = tensor.mT
            case "add", [number]:
                tensor = tensor + float(number)
            case _:
                raise AssertionError(step)
    return tensor


def _refuse(
    layout: Layout, missing: list[str], unexpected: list[str], unfit: list[str]
) -> None:
    parts = [
        _listed(f"{len(lines)} {what}", lines)
        for what, lines in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", unfit),
        )
        if lines
    ]
    if parts:
        head = f"this is no checkpoint of the layout `{layout.name}` and these sizes"
        raise CallError("\n".join([f"{head}:", *parts]))


def _listed(title: str, lines: list[str]) -> str:
    shown = [f"    {line}" for line in lines[:_MOST]]
    rest = [f"    and {len(lines) - _MOST} more"] if len(lines) > _MOST else []
    return "\n".join([f"  {title}:", *shown, *rest])

"""`list`: the standard library, one line a layer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from itertools import product, takewhile
from math import prod

from seqdsl.analysis import Verdict, analyze
from seqdsl.commands.outcome import OK, print_json
from seqdsl.diagnostics import CallError, SpecError
from seqdsl.elaborate import Program, elaborate, load_std
from seqdsl.elaborate.program import std_names
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import Bound, bind_instance, bind_sizes
from seqdsl.ir.sizes import Scalar
from seqdsl.ir.types import TIME

SMALL: tuple[int, ...] = (16, 4, 2, 1)
"""Extents of options without a default, in the count of parameters, as they are tried."""


@dataclass(frozen=True)
class Entry:
    """A layer of the standard library.

    `verdict` is what its recurrences over time allow together; `parameters` are counted at
    the default sizes, `sizes` being those of the options that have none.
    """

    name: str
    summary: str
    citation: str
    verdict: str
    parameters: int
    sizes: dict[str, int]


def list_(pattern: str, json: bool) -> int:
    """Print the layers that match `pattern` in name, summary or citation."""
    found = (e for name in std_names() for e in entries(name) if _matches(e, pattern))
    if json:
        rows = [asdict(entry) for entry in found]
        print_json(rows)
    else:
        rows = [print(_line(entry), flush=True) for entry in found]
    if not rows:
        raise CallError(f"nothing in the standard library matches `{pattern}`")
    return OK


def _line(entry: Entry) -> str:
    at = ", ".join(f"{name}={size}" for name, size in entry.sizes.items())
    count = f"{entry.parameters:,}" + (f" at {at}" if at else "")
    cited = f" [{entry.citation}]" if entry.citation else ""
    facts = f"{entry.name:<36} {entry.verdict:<36} {count:>10}"
    return f"{facts}  {entry.summary}{cited}"


def _matches(entry: Entry, pattern: str) -> bool:
    wanted = pattern.lower()
    texts = [entry.name, entry.summary, entry.citation]
    return any(
        wanted in text.lower() or fnmatch(text.lower(), wanted) for text in texts
    )


def matching(pattern: str) -> Iterator[str]:
    """Names of files with a layer that matches; raises `CallError` without one."""
    found = 0
    for name in std_names():
        if any(_matches(entry, pattern) for entry in entries(name)):
            found += 1
            yield name
    if not found:
        raise CallError(f"nothing in the standard library matches `{pattern}`")


def entries(file: str) -> Iterator[Entry]:
    """The layers of `std.<file>` in their order."""
    program = load_std(file)
    header = _comment(program.spec.source.text)
    for layer in program.layers:
        yield _entry(program, file, layer, header)


def _entry(program: Program, file: str, layer: str, header: str) -> Entry:
    model = elaborate(program, layer).model
    own = " ".join(model.doc.split())
    sizes = _sizes(model)
    return Entry(
        f"std.{file}:{layer}",
        _sentence(own or header),
        _citation(own) or _citation(header),
        _together(analyze(model).verdicts),
        parameter_count(model, sizes),
        sizes,
    )


def _sizes(model: ir.Model) -> dict[str, int]:
    """Small sizes for the options that have no default, the first that fit each other."""
    names = [o.name for o in model.options if o.default is None]
    problem: SpecError | None = None
    for extents in product(SMALL, repeat=len(names)):
        sizes: dict[str, int] = dict(zip(names, extents, strict=True))
        try:
            bind_sizes(model, sizes)
        except SpecError as error:
            problem = error
            continue
        return sizes
    assert problem is not None
    raise problem


# ---- What a comment says


def _comment(text: str) -> str:
    """The comment at the head of a file, on one line."""
    lines = takewhile(lambda line: line.startswith("# "), text.splitlines())
    return " ".join(line.removeprefix("# ").strip() for line in lines)


def _sentence(text: str) -> str:
    return re.split(r"(?<=[a-z)\d])\.(?: |$)", text)[0].rstrip(".")


_CITATION = re.compile(
    r"((?:[A-Z][\w-]+)(?:,? (?:[A-Z][\w-]+|team|et al\.|and|von|van))*) "
    r"((?:19|20)\d\d)(?=[,;:)]|\s|$)"
)


def _citation(text: str) -> str:
    match = _CITATION.search(text)
    return f"{match[1]} {match[2]}" if match else ""


# ---- What the compiler says


def _together(verdicts: Iterable[Verdict]) -> str:
    """One word for all recurrences over time: what the weakest of them allows."""
    over_time = [v for v in verdicts if v.recurrence.axis == TIME]
    kinds = {v.verdict for v in over_time}
    for kind in ("opaque", "sequential"):
        if kind in kinds:
            return kind
    scanned = {
        f"{v.structure}{'' if v.semiring in ('real', None) else f' ({v.semiring})'}"
        for v in over_time
        if v.verdict == "scannable"
    }
    if scanned:
        return f"scannable: {', '.join(sorted(scanned))}"
    return "finite lag" if "fir" in kinds else "no recurrence"


def parameter_count(model: ir.Model, options: dict[str, int]) -> int:
    """How many numbers the learned parameters of a layer hold, under `options` and its defaults."""
    given: dict[str, Scalar] = dict(options)
    return _count(model, bind_sizes(model, given))


def _count(model: ir.Model, bound: Bound) -> int:
    total = 0
    for param in model.params:
        if not param.frozen:
            extents = prod(bound.dims[dim] for dim in param.type.dims)
            total += extents * _copies(model, param.type.axes, bound)
    for instance in model.instances:
        inner = _count(instance.model, bind_instance(instance, bound))
        total += inner * _copies(model, instance.scope, bound)
    return total


def _copies(model: ir.Model, scope: Iterable[str], bound: Bound) -> int:
    """How many steps the repeats of `scope` have together, each with parameters of its own."""
    counts = {repeat.axis: repeat.count for repeat in model.repeats}
    total = 1
    for axis in scope:
        count = counts[axis]
        assert not isinstance(count, ir.Base)
        total *= int(bound.size(count))
    return total

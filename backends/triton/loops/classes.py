"""Classes whose loops and steps run as kernels where no gradient is wanted.

A layer is lowered once more with its loops as kernels. What that makes of `forward` and
`step` stands in the class under other names, and is called where it fits.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from seqdsl.backends.torch.kernels import Kernels
from seqdsl.backends.torch.lower import lower
from seqdsl.backends.torch.module import TorchClass, TorchModule
from seqdsl.backends.torch.names import Names, identifier
from seqdsl.backends.torch.python import Atom, one_line
from seqdsl.backends.torch.sizes import size_code
from seqdsl.backends.triton.loops.kernel import (
    dims_of,
    kernel_text,
    parallel_of,
    widest_of,
)
from seqdsl.backends.triton.loops.supported import allowed
from seqdsl.diagnostics import SpecError, UnsupportedError
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Size
from seqdsl.ir.types import BATCH, TIME
from seqdsl.schedule.cut import Fusion
from seqdsl.schedule.region import Region

_PARALLEL = re.compile(r"\b_(scan\w*|chunkwise|convolved|newton)\(")
_CALL = re.compile(r'_KERNELS\["(\w+)"\]\(\s*(\{[^{}]*\})')


def with_loops(
    module: TorchModule, model: ir.Model, taken: frozenset[str]
) -> tuple[TorchModule, Sequence[str]]:
    """`module` with kernels for its loops, and the texts of these."""
    kernels = Kernels(Fusion(allowed))
    try:
        other = lower(model, kernels=kernels, taken=taken)
    except (SpecError, UnsupportedError):
        return module, ()
    known = {n: r for n, r in kernels.regions.items() if _supported(r)}
    names = Names(taken | {c.name for c in module.classes})
    titles = {n: names.new(f"{r.name}_loop") for n, r in known.items()}
    twins = {c.name: c for c in other.classes}
    classes = tuple(
        _joined(c, twins[c.name], titles) if c.name in twins else c
        for c in module.classes
    )
    body = "\n".join(line for c in classes for m in c.methods for line in m)
    used = [n for n, title in titles.items() if re.search(rf"\b{title}\(", body)]
    texts = tuple(t for n in used for t in _texts(known[n], titles[n], names))
    more = [h for h in other.helpers if h not in module.helpers]
    needed = [h for h in more if "_KERNELS" not in h] if used else []
    helpers = (*module.helpers, *needed)
    return replace(module, classes=classes, helpers=helpers), texts


def _supported(region: Region) -> bool:
    """Whether there is a kernel for `region`."""
    model = region.model
    floats = (*(s.type.dtype for s in model.states), *_kinds(model))
    plain = all(identifier(d) == d for d in dims_of(region))
    return not region.replay and plain and set(floats) <= {"float"}


def _kinds(model: ir.Model) -> tuple[str, ...]:
    return tuple(o.expr.type.dtype for o in model.outputs)


def _texts(region: Region, title: str, names: Names) -> tuple[str, str]:
    """The kernel, and what says how to call it."""
    name = names.new(region.name.lower())
    model = region.model
    carried = {f"{s}_0" for s in region.states}
    reads = tuple(
        (BATCH in i.type.axes, TIME in i.type.axes, i.type.dims)
        for i in model.inputs
        if i.name not in carried
    )
    fields: Mapping[str, object] = {
        "dims": dims_of(region),
        "parallel": parallel_of(region),
        "reads": reads,
        "states": tuple(model.state[s].type.dims for s in region.states),
        "outputs": tuple(o.expr.type.dims for o in model.outputs),
        "values": widest_of(region),
    }
    text, numbers = kernel_text(name, region)
    lines = [f"    {key}={value!r},".replace("'", '"') for key, value in fields.items()]
    made = [f'"{n}": lambda sizes: {_evaluated(size)}' for size, n in numbers.items()]
    lines.append(f"    numbers={{{', '.join(made)}}},")
    return text, "\n".join([f"{title} = Loop(", f"    kernel={name},", *lines, ")"])


def _evaluated(size: Size) -> str:
    return one_line(size_code(size, lambda name: Atom(f'sizes["{name}"]')))


def _joined(
    mine: TorchClass, twin: TorchClass, titles: Mapping[str, str]
) -> TorchClass:
    """`mine` with the methods of `twin` that call kernels."""
    forward = _method(twin, "forward")
    calls = _CALL.findall("\n".join(forward))
    count = sum(line.count('_KERNELS["') for line in forward)
    if not calls or len(calls) != count or any(n not in titles for n, _ in calls):
        return mine
    loops = ", ".join(f"({titles[n]}, {' '.join(s.split())})" for n, s in calls)
    given = f"({loops},)"
    methods: list[tuple[str, ...]] = []
    for method in mine.methods:
        name = _name(method)
        other = _method(twin, name)
        waits = not _PARALLEL.search("\n".join(method))
        if name == "forward" and other:
            methods.append(_asking(method, given) if waits else method)
            methods.append(_renamed(other, titles))
        elif name == "step" and any("self.forward(" in line for line in other):
            methods += [_asking(method, given), _renamed(other, titles)]
        else:
            methods.append(method)
    return replace(mine, methods=tuple(methods))


def _method(owner: TorchClass, name: str) -> tuple[str, ...]:
    return next((m for m in owner.methods if _name(m) == name), ())


def _name(method: Sequence[str]) -> str:
    found = re.search(r"def (\w+)\(", "\n".join(method))
    return found[1] if found else ""


def _renamed(method: Sequence[str], titles: Mapping[str, str]) -> tuple[str, ...]:
    """A method under the name of its fused form."""
    text = "\n".join(method)
    text = re.sub(r"\bdef (forward|step)\(", r"def _fused_\1(", text, count=1)
    text = text.replace("self.forward(", "self._fused_forward(")
    for name, title in titles.items():
        text = text.replace(f'_KERNELS["{name}"](', f"{title}(")
    return tuple(text.split("\n"))


def _asking(method: Sequence[str], loops: str) -> tuple[str, ...]:
    """A method that calls its fused form where this fits."""
    text = "\n".join(method)
    found = ast.parse("class _:\n" + text).body[0]
    assert isinstance(found, ast.ClassDef)
    function = found.body[0]
    assert isinstance(function, ast.FunctionDef)
    plain = [a.arg for a in function.args.args[1:]]
    named = [a.arg for a in function.args.kwonlyargs]
    given = ", ".join(n for n in (*plain, *named) if n not in _OTHERS)
    arguments = ", ".join([*plain, *(f"{n}={n}" for n in named)])
    state = "state" if "state" in (*plain, *named) else "None"
    lines = [
        f"        if loops_fit(self, ({given},), {state}, {loops}):  # fmt: skip",
        f"            return self._fused_{function.name}({arguments})  # fmt: skip",
    ]
    first = function.body[0]
    assert isinstance(first, ast.Expr) and first.end_lineno is not None
    cut = first.end_lineno - 1
    return (*text.split("\n")[:cut], *lines, *text.split("\n")[cut:])


_OTHERS = ("state", "segments", "return_state", "batch", "time")

"""Classes whose loops and steps run as kernels.

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
from seqdsl.backends.torch.names import Names
from seqdsl.backends.torch.python import Atom, one_line
from seqdsl.backends.torch.sizes import size_code
from seqdsl.backends.triton.loops.extents import (
    dims_of,
    parallel_of,
    widest_of,
    work_of,
)
from seqdsl.backends.triton.loops.gradients import gradient_of, shown
from seqdsl.backends.triton.loops.kernel import kernel_text
from seqdsl.backends.triton.loops.supported import allowed, supported
from seqdsl.backends.triton.loops.waiting import (
    NOTE,
    REFUSED,
    SEQUENTIAL,
    reason,
    remarks,
)
from seqdsl.diagnostics import SpecError, UnsupportedError
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Size
from seqdsl.ir.types import BATCH, TIME
from seqdsl.schedule.cut import Fusion
from seqdsl.schedule.region import Region

_CALL = re.compile(r'_KERNELS\["(\w+)"\]\(\s*(\{[^{}]*\})')


def with_loops(
    module: TorchModule, model: ir.Model, taken: frozenset[str], asked: bool
) -> tuple[TorchModule, Sequence[str]]:
    """`module` with kernels for its loops and their gradients, and the texts of these.

    `asked`: parallel forms were, so that a loop does not stand in for one.
    """
    kernels = Kernels(Fusion(allowed))
    try:
        other = lower(model, kernels=kernels, taken=taken)
    except (SpecError, UnsupportedError):
        return module, ()
    known = {n: r for n, r in kernels.regions.items() if supported(r)}
    names = Names(taken | {c.name for c in module.classes})
    names.taken |= {r.name for r in module.results}
    titles = {n: names.new(f"{r.name}_loop") for n, r in known.items()}
    twins = {c.name: c for c in other.classes}
    classes = tuple(
        _joined(c, twins[c.name], titles, kernels.refused, asked)
        if c.name in twins
        else c
        for c in module.classes
    )
    body = _text(classes)
    used = [n for n, title in titles.items() if re.search(rf"\b{title}\(", body)]
    if not used:
        return replace(module, classes=classes), ()
    fixed = _fixed(_text(other.classes), known)
    forward = "\n".join(line for c in classes for line in _method(c, "forward"))
    written = [
        _Written(known[n], titles[n], fixed[n] if titles[n] in forward else None, names)
        for n in used
    ]
    module = replace(
        module,
        classes=(*(c for w in written for c in w.classes), *classes),
        results=(*(r for w in written for r in w.results), *module.results),
    )
    texts = tuple(t for w in written for t in w.texts)
    helpers = dict.fromkeys(module.helpers)
    for source in (other, *(m for w in written for m in w.modules)):
        helpers |= dict.fromkeys(h for h in source.helpers if "_KERNELS" not in h)
    return replace(module, helpers=tuple(helpers)), texts


def _text(classes: Sequence[TorchClass]) -> str:
    return "\n".join(line for c in classes for m in c.methods for line in m)


def _fixed(text: str, regions: Mapping[str, Region]) -> dict[str, frozenset[str]]:
    """States that begin again from numbers wherever a loop is called in `text`."""
    found = {n: frozenset(r.states) for n, r in regions.items()}
    tree = ast.parse("class _:\n" + text)
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Subscript(slice=ast.Constant(value=str(name))),
                args=[_, _, _, _, ast.Tuple(elts=again), *_],
            ) if name in found:
                pairs = zip(regions[name].states, again, strict=True)
                found[name] &= {s for s, x in pairs if _is_number(x)}
            case _:
                pass
    return found


def _is_number(node: ast.expr) -> bool:
    kinds = (ast.Attribute, ast.Subscript)
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return names <= {"float"} and not any(isinstance(n, kinds) for n in ast.walk(node))


class _Written:
    """The texts of a loop, and with a gradient its classes.

    There is none where `fixed`, the states that begin again from numbers, is None.
    """

    def __init__(
        self, region: Region, title: str, fixed: frozenset[str] | None, names: Names
    ) -> None:
        found = None if fixed is None else gradient_of(region, fixed, names)
        self.modules = () if found is None else found.modules
        self.classes = tuple[TorchClass, ...]()
        self.results = tuple(r for m in self.modules for r in m.results)
        if found is None:
            self.texts = _texts(region, title, names)
            return
        inner = {n: names.new(f"{r.name}_loop") for n, r in found.loops.items()}
        loops = (_texts(r, inner[n], names) for n, r in found.loops.items())
        own = _texts(region, title, names, found.field(inner))
        self.texts = (*own, *(t for pair in loops for t in pair))
        self.classes = tuple(
            replace(c, methods=tuple(_calling(m, inner) for m in c.methods))
            for c in shown(found, title)
        )


def _texts(region: Region, title: str, names: Names, *more: str) -> tuple[str, ...]:
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
        "work": work_of(region),
    }
    text, numbers = kernel_text(name, region)
    lines = [f"    {key}={value!r},".replace("'", '"') for key, value in fields.items()]
    made = [f'"{n}": lambda sizes: {_evaluated(size)}' for size, n in numbers.items()]
    lines += [f"    numbers={{{', '.join(made)}}},", *more]
    lead = [f"{title} = Loop(", f'    name="{title}",', f"    kernel={name},"]
    return text, "\n".join([*lead, *lines, ")"])


def _evaluated(size: Size) -> str:
    return one_line(size_code(size, lambda name: Atom(f'sizes["{name}"]')))


def _joined(
    mine: TorchClass,
    twin: TorchClass,
    titles: Mapping[str, str],
    refused: Sequence[str],
    asked: bool,
) -> TorchClass:
    """`mine` with the methods of `twin` that call kernels, of which some were `refused`."""
    forward = _method(twin, "forward")
    calls = _CALL.findall("\n".join(forward))
    count = sum(line.count('_KERNELS["') for line in forward)
    if not calls or len(calls) != count or any(n not in titles for n, _ in calls):
        return _refusing(mine, refused, asked)
    loops = ", ".join(f"({titles[n]}, {' '.join(s.split())})" for n, s in calls)
    given = f"({loops},)"
    methods: list[tuple[str, ...]] = []
    for method in mine.methods:
        name = _name(method)
        other = _method(twin, name)
        if name == "forward" and other:
            why = reason(method, asked)
            methods.append(_asking(method, given, why) if why else method)
            methods.append(_renamed(other, titles))
        elif name == "step" and any("self.forward(" in line for line in other):
            methods += [_asking(method, given, None), _renamed(other, titles)]
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
    return _calling(tuple(text.split("\n")), titles)


def _calling(method: Sequence[str], titles: Mapping[str, str]) -> tuple[str, ...]:
    """A method that calls loops by their own names."""
    text = "\n".join(method)
    for name, title in titles.items():
        text = text.replace(f'_KERNELS["{name}"](', f"{title}(")
    return tuple(text.split("\n"))


def _asking(method: Sequence[str], loops: str, why: str | None) -> tuple[str, ...]:
    """A method that calls its fused form where this fits, and says `why`."""
    function = _function(method)
    plain = [a.arg for a in function.args.args[1:]]
    named = [a.arg for a in function.args.kwonlyargs]
    given = ", ".join(n for n in (*plain, *named) if n not in _OTHERS)
    arguments = ", ".join([*plain, *(f"{n}={n}" for n in named)])
    state = "state" if "state" in (*plain, *named) else "None"
    lines = [f"        # {NOTE}: {why}"] if why else []
    parallel = "" if why in (None, SEQUENTIAL) else ", parallel=True"
    lines += [
        f"        if loops_fit(self, ({given},), {state}, {loops}{parallel}):  # fmt: skip",
        f"            return self._fused_{function.name}({arguments})  # fmt: skip",
    ]
    return _begun(method, function, lines)


def _refusing(mine: TorchClass, refused: Sequence[str], asked: bool) -> TorchClass:
    """`mine`, whose `forward` says why no kernel runs its loops."""
    lead = f"{mine.name}: "
    why = [
        f"        # {REFUSED}: {x.removeprefix(lead)}"
        for x in refused
        if x.startswith(lead)
    ]
    if not why or not reason(_method(mine, "forward"), asked):
        return mine
    methods = [
        _begun(m, _function(m), why) if _name(m) == "forward" else m
        for m in mine.methods
    ]
    return replace(mine, methods=tuple(methods))


def _function(method: Sequence[str]) -> ast.FunctionDef:
    found = ast.parse("class _:\n" + "\n".join(method)).body[0]
    assert isinstance(found, ast.ClassDef)
    function = found.body[0]
    assert isinstance(function, ast.FunctionDef)
    return function


def _begun(
    method: Sequence[str], function: ast.FunctionDef, lines: Sequence[str]
) -> tuple[str, ...]:
    """A method with `lines` behind its docstring."""
    first, text = function.body[0], "\n".join(method).split("\n")
    assert isinstance(first, ast.Expr) and first.end_lineno is not None
    cut = first.end_lineno - 1
    return (*text[:cut], *lines, *text[cut:])


def remarked(module: TorchModule) -> TorchModule:
    """`module`, whose `forward` says where only a part of it is a kernel."""

    def said(method: tuple[str, ...]) -> tuple[str, ...]:
        found = remarks(method) if _name(method) == "forward" else ()
        return _begun(method, _function(method), found) if found else method

    classes = (replace(c, methods=tuple(map(said, c.methods))) for c in module.classes)
    return replace(module, classes=tuple(classes))


_OTHERS = ("state", "segments", "return_state", "batch", "time")

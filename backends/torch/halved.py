"""Complex values on their way into kernels and out of them, as pairs of real ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.python import Expr, call
from seqdsl.ir.types import Type


def halves(m: Method, state: str, code: Expr) -> list[Expr]:
    """A value of a state as the kernel takes it: a complex one by its parts."""
    if m.model.state[state].type.dtype != "complex":
        return [code]
    return [call("torch.real", code), call("torch.imag", code)]


def unpack(
    m: Method, named: Iterable[tuple[str, str]], types: Mapping[str, Type], code: Expr
) -> None:
    """Local names for what a kernel returns; complex values are put together."""
    targets: list[str] = []
    joined: list[tuple[str, str, str]] = []
    for local, name in named:
        if types[name].dtype != "complex":
            targets.append(local)
            continue
        re, im = m.names.new(f"{local}_re"), m.names.new(f"{local}_im")
        targets += [re, im]
        joined.append((local, re, im))
    m.write(f"{', '.join(targets)}{',' if len(targets) == 1 else ''} = ", code)
    for local, re, im in joined:
        m.write(f"{local} = ", call("torch.complex", re, im))

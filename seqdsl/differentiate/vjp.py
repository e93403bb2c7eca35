"""Vector-Jacobian products: from a node and its cotangent to those of its operands."""

from __future__ import annotations

from collections.abc import Callable

from seqdsl.differentiate.broadcast import Dims, conjugate, fit, mul, spread, total
from seqdsl.differentiate.partials import pull_back
from seqdsl.differentiate.vjp_along import pull_along
from seqdsl.differentiate.vjp_conv import Steps, pull_conv
from seqdsl.differentiate.vjp_index import pull_concat, pull_gather, pull_slice
from seqdsl.differentiate.vjp_reduce import pull_reduce
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import apply
from seqdsl.ir.walk import children

Wanted = Callable[[ir.Node], bool]


def everything(_: ir.Node) -> bool:
    """Every operand's cotangent is wanted."""
    return True


def vjp(
    node: ir.Node,
    ct: ir.Node,
    dims: Dims,
    wanted: Wanted = everything,
    steps: Steps = "own",
) -> tuple[ir.Node | None, ...]:
    """Cotangents of `children(node)` given `ct`, the cotangent of `node`.

    A cotangent may lack dims along which it is constant. None where the operand is
    not `wanted`, is no float or complex value, or has no influence at first order.
    `node` itself and its operands occur in the result as they are. Reads of other
    steps (`Shift`, `At`, `Stack`, `Copy`) are leaves here: what they read is another
    variable. So are the earlier steps that a convolution along time reads, unless `steps`
    is "all". Complex cotangents follow torch: the derivative of a real loss with
    respect to the real part plus i times that to the imaginary part.

    Raises `build.Issue` (E0315) where an operator cannot be differentiated.
    """
    result: list[ir.Node | None] = []
    for i, child in enumerate(children(node)):
        smooth = child.type.dtype in ("float", "complex")
        pulled = _pull(node, i, ct, dims, steps) if smooth and wanted(child) else None
        if pulled is not None:
            pulled = fit(_complete(node, child, pulled, dims), child, dims)
        result.append(pulled)
    return tuple(result)


def _complete(node: ir.Node, operand: ir.Node, pulled: ir.Node, dims: Dims) -> ir.Node:
    """`pulled` with what a broadcast operand gathers along dims nobody names."""
    names: list[str] = []
    if isinstance(node, ir.Map | ir.Concat):
        into = node.into if isinstance(node, ir.Concat) else None
        known = {*operand.type.dims, *pulled.type.dims, into}
        names.extend(d for d in node.type.dims if d not in known)
    lost = node.type.axes - operand.type.axes - pulled.type.axes
    names.extend(sorted(lost & dims.copies))
    return total(pulled, names, dims) if names else pulled


def _pull(
    node: ir.Node, index: int, ct: ir.Node, dims: Dims, steps: Steps
) -> ir.Node | None:
    """The cotangent of operand `index`, perhaps with dims that the operand lacks."""
    match node:
        case ir.Map():
            return pull_back(node, index, ct)
        case ir.Contract():
            others = [a for i, a in enumerate(node.args) if i != index]
            return mul(*map(conjugate, others), ct)
        case ir.Reduce():
            return pull_reduce(node, ct, dims)
        case ir.Along():
            return pull_along(node, ct, dims)
        case ir.Rename() | ir.Split() | ir.Merge() | ir.Roll():
            return _pull_view(node, ct)
        case ir.SliceDim():
            return pull_slice(node, ct, dims)
        case ir.Concat():
            return pull_concat(node, index, ct, dims)
        case ir.Gather():
            return pull_gather(node, ct, dims) if index == 0 else None
        case ir.Conv():
            return pull_conv(node, index, ct, dims, steps)
        case ir.ExternCall() | ir.Grad():
            raise refusal(node)
        case _:
            return None


def refusal(node: ir.ExternCall | ir.Grad) -> build.Issue:
    """Why a node has no derivative."""
    if isinstance(node, ir.Grad):
        return build.Issue("E0315", "this `grad` must be expanded first")
    return build.Issue(
        "E0315",
        f"`grad` cannot go through the extern op `{node.name}`",
        "an extern op is opaque; write it as equations, or use `stopgrad`",
    )


def _pull_view(node: ir.Rename | ir.Split | ir.Merge | ir.Roll, ct: ir.Node) -> ir.Node:
    """Through a re-indexing that has an inverse (or, filled with 0, an adjoint)."""
    have = ct.type.dims
    match node:
        case ir.Rename(pairs=pairs):
            return build.rename(ct, [(new, old) for old, new in pairs if new in have])
        case ir.Split(dim=dim, into=into):
            if not set(into) & set(have):
                return ct
            return build.merge(spread(ct, into), into, dim)
        case ir.Merge(dims=dims, into=into):
            return build.split(ct, into, dims) if into in have else ct
        case ir.Roll(dim=dim, offset=offset, wrap=wrap):
            if dim not in have and wrap:
                return ct
            back = apply("neg", offset)
            return build.roll(spread(ct, (dim,)), dim, back, wrap)

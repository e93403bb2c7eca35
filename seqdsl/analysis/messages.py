"""What is said of an expression that is not linear in the state, and how it is spelled."""

from __future__ import annotations

from seqdsl.analysis.graph import name_of
from seqdsl.analysis.normal import Normal
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import children
from seqdsl.source import NOWHERE, Span


def reads_in(normal: Normal, node: ir.Node) -> dict[str, Span]:
    """Reads of the recurrence below `node`: text and place, through definitions."""
    found: dict[str, Span] = {}
    seen: set[str] = set()
    stack = [node]
    while stack:
        current = stack.pop()
        if not normal.active(current):
            continue
        if normal.is_read(current) or isinstance(current, ir.At | ir.Stack | ir.Copy):
            found.setdefault(text_of(current), current.span)
        elif isinstance(current, ir.Ref) and current.name in normal.model.equation:
            if current.name not in seen:
                seen.add(current.name)
                stack.append(normal.model.equation[current.name].expr)
        else:
            stack.extend(reversed(children(current)))
    return found


def shortened(text: str) -> str:
    """Some source text on one line of at most 40 characters."""
    text = " ".join(text.split())
    return text if len(text) <= 40 else f"{text[:37]}…"


def text_of(node: ir.Node) -> str:
    """The user's spelling of a node, shortened to one line."""
    text = shortened(node.span.text) if node.span is not NOWHERE else ""
    if text:
        return text
    match node:
        case ir.Ref() | ir.Result():
            return name_of(node)
        case ir.Shift(arg=arg, axis=axis, offset=offset):
            return f"{name_of(arg)}[{axis}{offset:+d}]"
        case ir.At(arg=arg) | ir.Stack(arg=arg) | ir.Copy(arg=arg):
            return name_of(arg)
        case ir.Map(op=op) | ir.Reduce(op=op) | ir.Along(op=op):
            return op
        case _:
            return type(node).__name__.lower()


def _dims(node: ir.Node) -> set[str]:
    return {d for c in children(node) for d in c.type.dims}


_CUTS = ("floor", "ceil", "round", "sign", "int", "bool", "floordiv", "mod")
_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not")


def message_of(normal: Normal, node: ir.Node) -> tuple[str, str]:
    read = next(iter(reads_in(normal, node)), states_text(normal))
    if id(node) in normal.long:
        return "E0314", f"what is made of `{read}` here is too long to be taken apart"
    match node:
        case ir.Map():
            return _map_message(normal, node, read)
        case ir.Contract(over=over) | ir.Reduce(over=over) | ir.Along(over=over) if any(
            name in normal.model.copies for name in over
        ):
            return "E0306", f"`{read}` reads all earlier steps of the recurrence"
        case ir.Contract(over=over) if not _dims(node) >= set(over):
            return "E0305", f"`{read}` goes through a sum over other steps here"
        case ir.Conv(axes=axes) if normal.axis in axes:
            return "E0306", f"`{read}` is read at several steps by a convolution"
        case ir.Contract():
            return "E0302", f"values that both depend on `{read}` are contracted"
        case ir.Copy():
            return "E0306", f"`{read}` reads all earlier steps of the recurrence"
        case ir.Reduce(over=over) if normal.axis in over:
            return "E0306", f"`{read}` goes through a reduction over all steps"
        case ir.Reduce(op=op) | ir.Along(op=op):
            return "E0305", f"`{read}` goes through {op} here"
        case ir.ExternCall(name=name):
            return "E0307", f"`{read}` goes through the extern op `{name}`"
        case ir.Result(call=call):
            layer = normal.model.instance[normal.model.call[call].instance].model.name
            return "E0308", f"the state goes through the layer `{layer}`"
        case _:
            return _loop_message(node, read)


def _loop_message(node: ir.Node, read: str) -> tuple[str, str]:
    match node:
        case ir.At() | ir.Stack():
            return "E0309", f"`{read}` is the result of a whole repeat"
        case ir.Shift(axis=axis):
            return "E0309", f"`{text_of(node)}` also runs along `{axis}`"
        case _:
            return "E0301", f"`{read}` goes through `{text_of(node)}`"


def _map_message(normal: Normal, node: ir.Map, read: str) -> tuple[str, str]:
    match node.op:
        case "pow" if not isinstance(node.args[1], ir.Const):
            return "E0301", f"`{read}` goes into a power here"
        case "pow" if "int" != node.args[1].type.dtype:
            return "E0301", f"`{read}` goes through a root or power here"
        case "mul" | "square" | "pow":
            return "E0302", f"values that depend on `{read}` are multiplied"
        case "div":
            return "E0303", f"this divides by a value that depends on `{read}`"
        case "where":
            return "E0304", f"which value is taken depends on `{read}`"
        case op if op in _COMPARISONS:
            return "E0304", f"`{read}` is compared or decides something here"
        case "stopgrad":
            return "E0312", f"the gradient of `{read}` is cut here"
        case "real" | "imag" | "conj" | "complex":
            return (
                "E0311",
                f"`{node.op}` of `{read}` is not linear over complex numbers",
            )
        case op if op in _CUTS:
            return "E0301", f"`{read}` is cut to steps by {op} here"
        case op:
            where = "in this gradient" if node.span.text.startswith("grad(") else "here"
            return "E0301", f"`{read}` goes through {op} {where}"


def states_text(normal: Normal) -> str:
    """Any name of the recurrence, for want of a read."""
    return min(normal.members)

"""Parameters: where `self` keeps them, how they are made and given initial values."""

from __future__ import annotations

import keyword
from dataclasses import dataclass, field

from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.python import Atom
from seqdsl.backends.torch.values import Value
from seqdsl.elaborate.keys import MODULE_ATTRIBUTES
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import subtree


def parameter(m: Method, param: ir.Param) -> Value:
    """A parameter, inside a method (and inside the loops along which it is untied)."""
    code = Atom(path(m, param.key))
    return Value(code, param.type.dims, param.type.dtype)


def path(m: Method, key: str) -> str:
    """Where `self`, or a step of a `ModuleList`, holds what has the key `key`."""
    parts = key.split(".")
    for i in range(len(parts) - 1, -1, -1):
        part = parts[i]
        if part.startswith("{"):
            axis = part[1:-1]
            prefix = ".".join(parts[:i])
            holder = m.holders.get(prefix)
            if holder is None:
                holder = f"{path(m, prefix)}[{m.steps[axis]} - 1]"
            return _dotted(holder, parts[i + 1 :], key)
    return _dotted("self", parts, key)


def first_path(key: str) -> str:
    """The same outside of all loops: in the first step of each."""
    root, parts = "self", list[str]()
    for part in key.split("."):
        if part.startswith("{"):
            root, parts = f"{_dotted(root, parts, f'{key}.')}[0]", []
        else:
            parts.append(part)
    return _dotted(root, parts, key)


def _dotted(root: str, parts: list[str], key: str) -> str:
    code = root
    for i, part in enumerate(parts):
        last = i + 1 == len(parts)
        if keyword.iskeyword(part):
            code = f'getattr({code}, "{part}")'
        elif part in MODULE_ATTRIBUTES:
            kind = "_parameters" if last and not key.endswith(".") else "_modules"
            code = f'{code}.{kind}["{part}"]'
        else:
            code = f"{code}.{part}"
    return code


def holders_of(m: Method, axis: str) -> dict[str, str]:
    """Lists of modules with one for each step, and a local for the current one.

    Those that themselves stand in a list are known where a loop runs over that.
    """
    marks = [p.key for p in m.model.params] + [i.name for i in m.model.instances]
    holders: dict[str, str] = {}
    for key in marks:
        parts = key.split(".")
        if f"{{{axis}}}" in parts:
            above = parts[: parts.index(f"{{{axis}}}")]
            prefix = ".".join(above)
            around = {part[1:-1] for part in above if part.startswith("{")}
            if prefix not in holders and around <= m.steps.keys():
                holders[prefix] = m.names.new(f"{axis}_layer")
    return holders


# ---- The tree of modules that gives every parameter its key


@dataclass
class Tree:
    """Modules by name: parameters and sub-layers at the leaves."""

    children: dict[str, Tree] = field(default_factory=dict[str, "Tree"])
    param: ir.Param | None = None
    instance: ir.Instance | None = None

    def place(self, key: str) -> Tree:
        """The node at the dotted path `key`."""
        node = self
        for part in key.split("."):
            if part.startswith("{"):
                # loops of several inlined calls may run over one list of modules
                part = next((c for c in node.children if c.startswith("{")), part)
            node = node.children.setdefault(part, Tree())
        return node


def tree_of(model: ir.Model) -> Tree:
    """Everything that `self` holds, in the order of declaration."""
    tree = Tree()
    for param in model.params:
        tree.place(param.key).param = param
    for instance in model.instances:
        tree.place(instance.name).instance = instance
    return tree


def is_linear(tree: Tree) -> bool:
    """Whether the node is a `torch.nn.Linear`: `weight [out, in]`, perhaps `bias [out]`."""
    weight = tree.children.get("weight")
    bias = tree.children.get("bias")
    if (
        set(tree.children) - {"weight", "bias"}
        or weight is None
        or weight.param is None
    ):
        return False
    if weight.param.type.dtype != "float" or len(weight.param.type.dims) != 2:
        return False
    if weight.param.frozen or weight.param.init.kind != "expr":
        return False
    if bias is None:
        return True
    return (
        bias.param is not None
        and not bias.param.frozen
        and bias.param.type.dims == weight.param.type.dims[:1]
        and bias.param.type.dtype == "float"
    )


def tables(model: ir.Model) -> frozenset[str]:
    """Parameters that are only looked up by their first dim: embeddings."""
    looked: set[str] = set()
    other: set[str] = set()
    exprs = [e.expr for e in model.equations] + [o.expr for o in model.outputs]
    exprs += [a for c in model.calls for _, a in c.args]
    for expr in exprs:
        gathered: set[int] = set()
        for node in subtree(expr):
            if isinstance(node, ir.Gather) and isinstance(node.arg, ir.Ref):
                param = model.param.get(node.arg.name)
                if param is not None and param.type.dims[:1] == (node.dim,):
                    looked.add(param.name)
                    gathered.add(id(node.arg))
            if isinstance(node, ir.Ref) and id(node) not in gathered:
                other.add(node.name)
    return frozenset(looked - other)


def linear_paths(model: ir.Model) -> set[str]:
    """Paths (as `path` gives them, holders left out) of modules that are `Linear`."""
    found: set[str] = set()
    embedded = tables(model)

    def walk(tree: Tree, key: str) -> None:
        weight = tree.children.get("weight")
        used = weight is not None and weight.param is not None
        if used and is_linear(tree) and weight.param.name not in embedded:  # pyright: ignore[reportOptionalMemberAccess]
            found.add(key)
            if "bias" in tree.children:
                found.add(f"{key}.bias")
            return
        for name, child in tree.children.items():
            walk(child, f"{key}.{name}" if key else name)

    walk(tree_of(model), "")
    return found

"""`__init__` and `reset_parameters` of a generated class."""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Mapping

from seqdsl.backends.torch.expressions import expression
from seqdsl.backends.torch.method import Layer, Method
from seqdsl.backends.torch.names import Names
from seqdsl.backends.torch.parameters import Tree, is_linear, path, tables, tree_of
from seqdsl.backends.torch.pointwise import cast, tensor
from seqdsl.backends.torch.python import (
    Atom,
    Expr,
    call,
    layout,
    method,
    number,
    one_line,
    tuple_of,
)
from seqdsl.backends.torch.reindex import canonical
from seqdsl.backends.torch.sizes import size_code
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Apply, Lit, Opt, Size, apply, options_of
from seqdsl.ir.types import Type
from seqdsl.ir.walk import subtree, transform


def constructor(layer: Layer, classes: Mapping[int, str]) -> list[str]:
    """`__init__(self, D: int, H: int | None = None)`."""
    model = layer.model
    m = Method(layer, Names())
    head = _signature(model)
    m.line("super().__init__()")
    for name in _solved_order(model):
        _define(m, name)
    _constraints(m)
    if model.externs:
        m.line("self.externs = dict(externs or {})")
        names = ", ".join(f'"{e.name}"' for e in model.externs)
        m.line(f"{m.helper('_check_externs')}(self.externs, ({names},))")
    _modules(m, tree_of(model), "self", "", classes, tables(model))
    if model.params:
        m.line("self.reset_parameters()")
    return [*head, *m.lines]


def _signature(model: ir.Model) -> list[str]:
    required, parts = True, ["self"]
    keyword_only = False
    for option in model.options:
        text = _option(option)
        if option.default is not None:
            required = False
        elif not required and not keyword_only:
            keyword_only = True
    if keyword_only:
        parts.append("*")
    parts += [_option(o) for o in model.options]
    if model.externs:
        parts.append("externs=None")
    one = f"    def __init__({', '.join(parts)}):"
    if len(one) <= 88:
        return [one]
    return ["    def __init__(", *(f"        {p}," for p in parts), "    ):"]


def _option(option: ir.Option) -> str:
    kind = "int" if option.integral else "float"
    match option.default:
        case None:
            return f"{option.name}: {kind}"
        case Lit(value=bool() as value):
            return f"{option.name}: bool = {value}"
        case Lit(value=str() as value):
            return f'{option.name}: str = "{value}"'
        case Lit(value=value):
            kind = "int" if isinstance(value, int) and option.integral else kind
            return f"{option.name}: {kind} = {one_line(number(value))}"
        case _:
            return f"{option.name}: {kind} | None = None"


def _solved_order(model: ir.Model) -> Iterator[str]:
    """Options and dims, each after what its definition reads."""
    sizes: dict[str, Size | None] = {o.name: o.default for o in model.options}
    for dim, size in model.dims.items():
        if dim not in sizes and not isinstance(size, Lit | Opt):
            sizes[dim] = size
    done: dict[str, None] = {}

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in done or name in above or name not in sizes:
            return
        size = sizes[name]
        for read in options_of(size) if size is not None else ():
            visit(read, (*above, name))
        done[name] = None

    for name in sizes:
        visit(name, ())
    yield from done


def _define(m: Method, name: str) -> None:
    """One option or dim: its default, its check, its attribute."""
    model = m.model
    option = next((o for o in model.options if o.name == name), None)
    attribute = f"self.{m.layer.attributes[name]}"
    size = model.dims.get(name) if option is None else option.default
    read = lambda n: Atom(
        n
        if any(o.name == n for o in model.options)
        else f"self.{m.layer.attributes[n]}"
    )  # noqa: E731
    integral = option is None or option.integral
    if option is None:
        assert size is not None
        code = size_code(size, m.layer.option)
        m.write(f"{attribute} = ", _whole(m, name, size, code))
        return
    if size is not None and not isinstance(size, Lit):
        code = size_code(size, read)
        m.line(f"if {name} is None:")
        m.indent += 4
        m.write(f"{name} = ", _whole(m, name, size, code) if integral else code)
        m.indent -= 4
    given = call(m.helper("_whole"), f'"{name}"', name) if integral else Atom(name)
    m.write(
        f"{attribute} = {name} = " if _reused(model, name) else f"{attribute} = ", given
    )


def _reused(model: ir.Model, name: str) -> bool:
    """Whether another default reads the option."""
    sizes = [o.default for o in model.options if o.default is not None]
    return any(name in options_of(s) for s in sizes)


def _whole(m: Method, name: str, size: Size, code: Expr) -> Expr:
    """The size, refused with its numbers where it is no whole number."""
    if not _divides(size):
        return code
    shown = f"{name} = {size}"
    numbers = _numbers(m, size)
    text = f'f"{shown} = {numbers}"' if numbers else f'"{shown}"'
    return call(m.helper("_whole"), text, code)


def _divides(size: Size) -> bool:
    match size:
        case Apply(op=op, args=args):
            return op not in ("+", "*", "-") or any(_divides(a) for a in args)
        case _:
            return False


def _numbers(m: Method, size: Size) -> str:
    match size:
        case Lit():
            return f"{size}"
        case Opt(name=name):
            known = any(o.name == name for o in m.model.options)
            return "{" + (name if known else f"self.{m.layer.attributes[name]}") + "}"
        case Apply(op=op, args=(a, b)) if not op.isalpha():
            return f"{_numbers(m, a)} {op} {_numbers(m, b)}"
        case Apply():
            return ""


def _constraints(m: Method) -> None:
    for constraint in m.model.constraints:
        left, right = (m.size(s) for s in (constraint.left, constraint.right))
        if constraint.right == Lit(True):
            test = f"not ({one_line(left)})"
        else:
            test = f"{one_line(left)} != {one_line(right)}"
        names = dict.fromkeys(
            [*options_of(constraint.left), *options_of(constraint.right)]
        )
        values = ", ".join(f"{n} = {{{one_line(m.size(Opt(n)))}}}" for n in names)
        message = (
            constraint.message.replace("{", "{{").replace("}", "}}").replace('"', "'")
        )
        with m.block(f"if {test}:"):
            text = f'f"{message} ({values})"' if names else f'"{message}"'
            m.write("raise ", call("CallError", text))
        m.helper("CallError")


# ---- Modules


def _modules(
    m: Method,
    tree: Tree,
    owner: str,
    key: str,
    classes: Mapping[int, str],
    embedded: frozenset[str],
) -> None:
    """Children of `owner`, whose path in the state dict is `key`."""
    for name, child in tree.children.items():
        here = f"{key}.{name}" if key else name
        mark = next((c for c in child.children if c.startswith("{")), None)
        if mark is not None:
            _module_list(
                m,
                child.children[mark],
                owner,
                name,
                f"{here}.{mark}",
                classes,
                embedded,
            )
            continue
        code = _leaf(m, child, classes, embedded)
        if code is not None:
            _set(m, owner, name, code)
            continue
        _set(m, owner, name, Atom("nn.Module()"))
        target = (
            f'getattr({owner}, "{name}")'
            if keyword.iskeyword(name)
            else f"{owner}.{name}"
        )
        _modules(m, child, target, here, classes, embedded)


def _module_list(
    m: Method,
    step: Tree,
    owner: str,
    name: str,
    key: str,
    classes: Mapping[int, str],
    embedded: frozenset[str],
) -> None:
    """One child for every step of the loop along which it is untied."""
    axis = key.rsplit(".", 1)[1][1:-1]
    count = m.model.repeat[axis].count
    assert not isinstance(count, ir.Base)
    _set(m, owner, name, Atom("nn.ModuleList()"))
    layer = m.names.new("layer")
    with m.block(f"for _ in range({one_line(m.size(count))}):"):
        m.line(f"{layer} = nn.Module()")
        _modules(m, step, layer, key, classes, embedded)
        m.line(f"{owner}.{name}.append({layer})")


def _set(m: Method, owner: str, name: str, code: Expr) -> None:
    if keyword.iskeyword(name):
        m.write("", call("setattr", owner, f'"{name}"', code))
    else:
        m.write(f"{owner}.{name} = ", code)


def _leaf(
    m: Method, tree: Tree, classes: Mapping[int, str], embedded: frozenset[str]
) -> Expr | None:
    if tree.param is not None:
        return _parameter(m, tree.param)
    if tree.instance is not None:
        instance = tree.instance
        given = tuple((name, m.size(size)) for name, size in instance.options)
        externs = (("externs", Atom("externs")),) if instance.model.externs else ()
        from seqdsl.backends.torch.python import Invoke

        return Invoke(Atom(classes[id(instance.model)]), (), (*given, *externs))
    if not is_linear(tree):
        return None
    weight = tree.children["weight"].param
    assert weight is not None
    out, inner = m.extents(weight.type.dims)
    if weight.name in embedded:
        return None if "bias" in tree.children else call("nn.Embedding", out, inner)
    if "bias" in tree.children:
        return call("nn.Linear", inner, out)
    return call("nn.Linear", inner, out, bias="False")


def _parameter(m: Method, param: ir.Param) -> Expr:
    sizes = m.extents(param.type.dims)
    shape: list[Expr] = sizes if sizes else [Atom("()")]
    match param.type.dtype:
        case "float":
            made = call("torch.empty", *shape)
        case "complex":
            made = call(
                "torch.empty", *shape, dtype="torch.get_default_dtype().to_complex()"
            )
        case "int":
            made = call("torch.empty", *shape, dtype="torch.int64")
        case "bool":
            made = call("torch.empty", *shape, dtype="torch.bool")
    if param.frozen or param.type.dtype in ("int", "bool"):
        return call("nn.Parameter", made, requires_grad="False")
    return call("nn.Parameter", made)


# ---- Initial values


def resetter(layer: Layer) -> list[str]:
    """`reset_parameters(self)`."""
    model = layer.model
    if not model.params:
        return []
    m = Method(layer, Names(), making=True)
    lines = [
        "    @torch.no_grad()",
        "    def reset_parameters(self):",
        f'{" " * 8}"""Give every parameter of this layer its initial value anew."""',
    ]
    for scope, params in _by_scope(model):
        opened = 0
        held: list[str] = []
        for axis in scope:
            prefix = _prefix(params[0], axis)
            holder = m.names.new(f"{axis}_layer")
            held.append(prefix)
            uses_n = any(_reads_step(p, axis) for p in params)
            m.steps[axis] = m.names.new(axis)
            where = path(m, prefix)
            if uses_n:
                m.line(f"for {m.steps[axis]}, {holder} in enumerate({where}, start=1):")
            else:
                m.line(f"for {holder} in {where}:")
            m.holders[prefix] = holder
            m.env["position", axis] = _number(m.steps[axis])
            m.indent += 4
            opened += 1
        for param in params:
            _reset(m, param)
        m.indent -= 4 * opened
        for prefix in held:
            del m.holders[prefix]
        for axis in scope:
            del m.steps[axis]
    return [*lines, *m.lines]


def _number(name: str):
    from seqdsl.backends.torch.values import Value

    return Value(Atom(name), (), "int", scalar=True)


def _reads_step(param: ir.Param, axis: str) -> bool:
    expr = param.init.expr
    if expr is None:
        return False
    return any(isinstance(n, ir.Position) and n.along == axis for n in subtree(expr))


def _prefix(param: ir.Param, axis: str) -> str:
    parts = param.key.split(".")
    return ".".join(parts[: parts.index(f"{{{axis}}}")])


def _by_scope(model: ir.Model) -> list[tuple[tuple[str, ...], list[ir.Param]]]:
    """Parameters in an order in which each comes after those its init reads, by loops."""
    placed: dict[str, ir.Param] = {}

    def visit(param: ir.Param, above: frozenset[str]) -> None:
        if param.name in placed or param.name in above:
            return
        for node in subtree(param.init.expr) if param.init.expr is not None else ():
            if isinstance(node, ir.Ref) and node.name in model.param:
                visit(model.param[node.name], above | {param.name})
        placed[param.name] = param

    for param in model.params:
        visit(param, frozenset())
    groups: list[tuple[tuple[str, ...], list[ir.Param]]] = []
    for param in placed.values():
        marks = [p[1:-1] for p in param.key.split(".") if p.startswith("{")]
        scope = tuple(marks)
        same = groups and groups[-1][0] == scope
        if same and all(
            _prefix(groups[-1][1][0], a) == _prefix(param, a) for a in scope
        ):
            groups[-1][1].append(param)
        else:
            groups.append((scope, [param]))
    return groups


def _reset(m: Method, param: ir.Param) -> None:
    target = path(m, param.key)
    init = param.init
    if init.kind == "orthogonal" or init.expr is None:
        gain = Atom("1.0") if init.gain is None else m.size(init.gain)
        m.write("", call(m.helper("_orthogonal_"), target, gain), "", param.span)
        return
    m.write("", _initializer(m, param, target, init.expr), "", param.span)


def _constant(node: ir.Node) -> ir.Node:
    """Arithmetic of what is known when a module is made, as one constant."""
    match node:
        case ir.Map(op=op, args=args) if op in _ARITHMETIC and all(
            isinstance(a, ir.Const) for a in args
        ):
            sizes = tuple(a.value for a in args if isinstance(a, ir.Const))
            value = apply(_ARITHMETIC[op], *sizes)
            return ir.Const(value=value, type=node.type, span=node.span)
        case _:
            return node


_ARITHMETIC = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "neg": "neg",
    "sqrt": "sqrt",
    "exp": "exp",
    "log": "log",
}


def _initializer(m: Method, param: ir.Param, target: str, expr: ir.Node) -> Expr:
    """The call that fills `target`, by torch's own initializers where they fit."""
    floating = param.type.dtype == "float"
    expr = transform(expr, _constant)
    match expr:
        case ir.Const(value=Lit(value=0 | 0.0)) if floating:
            return call("nn.init.zeros_", target)
        case ir.Const(value=Lit(value=1 | 1.0)) if floating:
            return call("nn.init.ones_", target)
        case ir.Const(value=value) if floating:
            return call("nn.init.constant_", target, m.size(value))
        case ir.Map(
            op="add",
            args=(
                ir.Const(value=low),
                ir.Map(op="mul", args=(ir.Const(value=wide), ir.Sample() as drawn)),
            ),
        ) if floating and drawn.type.dims in ((), param.type.dims):
            if drawn.kind == "normal":
                return call("nn.init.normal_", target, m.size(low), m.size(wide))
            high = (
                wide.args[0]
                if isinstance(wide, Apply)
                and wide.op == "-"
                and wide.args[1:] == (low,)
                else None
            )
            if high is None and isinstance(wide, Lit) and isinstance(low, Lit):
                top: Expr = number(float(low.value) + float(wide.value))
            else:
                top = m.size(high if high is not None else Apply("+", (low, wide)))
            return call("nn.init.uniform_", target, m.size(low), top)
        case _:
            return _copied(m, param, target, expr)


def _copied(m: Method, param: ir.Param, target: str, expr: ir.Node) -> Expr:
    dims = param.type.dims

    def spread(node: ir.Node) -> ir.Node:
        from dataclasses import replace

        from seqdsl.ir import build

        match node:
            case ir.Sample(type=Type(dims=())):
                return replace(node, type=replace(node.type, dims=dims))
            case ir.Map(op=op, args=args):
                return build.map_(op, *args, span=node.span)
            case _:
                return node

    local = Method(m.layer, m.names, making=True, indent=m.indent)
    local.steps, local.holders, local.env = m.steps, m.holders, m.env
    value = expression(local, transform(expr, spread))
    value = canonical(
        local,
        tensor(local, cast(local, value, param.type.dtype), param.type.dtype),
        dims,
    )
    for name in ("dtype", "device"):
        if name in local.needed:
            m.line(f"{name} = {target}.{name}")
    m.lines += local.lines
    return method(Atom(target), "copy_", value.code)


_ = (layout, tuple_of)

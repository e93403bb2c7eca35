"""`__init__` of a generated class."""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Mapping

from seqdsl.backends.torch.method import Layer, Method
from seqdsl.backends.torch.names import Names
from seqdsl.backends.torch.parameters import Tree, is_linear, tables, tree_of
from seqdsl.backends.torch.python import (
    Atom,
    Expr,
    call,
    number,
    one_line,
    quoted,
)
from seqdsl.backends.torch.sizes import size_code
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Apply, Lit, Opt, Size, options_of


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
        case Lit(value=value):
            if isinstance(value, bool | str):
                kind = type(value).__name__
            shown = quoted(value) if isinstance(value, str) else one_line(number(value))
            return f"{option.name}: {kind} = {shown}"
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

    def read(n: str) -> Expr:
        known = any(o.name == n for o in model.options)
        return Atom(n if known else f"self.{m.layer.attributes[n]}")

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
    least = () if option.least == 1 else (option.least,)
    given: Expr = Atom(name)
    if integral:
        given = call(m.helper("_whole"), f'"{name}"', name, *least)
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
    numbers = _numbers(m, size)
    text = _filled(f"{name} = {size}", f" = {numbers}" if numbers else "")
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
            return _literal(f"{size}")
        case Opt(name=name):
            known = any(o.name == name for o in m.model.options)
            return "{" + (name if known else f"self.{m.layer.attributes[name]}") + "}"
        case Apply(op=op, args=(a, b)) if not op.isalpha():
            return f"{_numbers(m, a)} {op} {_numbers(m, b)}"
        case Apply():
            return ""


def _filled(text: str, numbers: str) -> str:
    """A string literal that says `text` and then `numbers`, names in braces."""
    return f"f{quoted(_literal(text) + numbers)}" if numbers else quoted(text)


def _literal(text: str) -> str:
    """`text` where an f-string would see names in braces."""
    return text.replace("{", "{{").replace("}", "}}")


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
        with m.block(f"if {test}:"):
            text = _filled(constraint.message, f" ({values})" if names else "")
            m.write("raise ", call("CallError", text))
        m.helper("CallError")


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
    with m.block(f"for _ in range({one_line(m.whole(count))}):"):
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

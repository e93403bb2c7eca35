"""State-dict keys: derived from the spec's own names, or set with `as`."""

from __future__ import annotations

import keyword

from seqdsl.elaborate.context import Context
from seqdsl.elaborate.scope import Scope, Site
from seqdsl.source import Span
from seqdsl.syntax import ast

PRIMITIVES = ("linear", "embed", "conv", "param")

# Attributes of `torch.nn.Module` (and of the generated classes) that a parameter
# must not hide.
MODULE_ATTRIBUTES = frozenset(
    [
        "T_destination",
        "_apply",
        "_backward_hooks",
        "_backward_pre_hooks",
        "_buffers",
        "_call_impl",
        "_compiled_call_impl",
        "_forward_hooks",
        "_forward_hooks_always_called",
        "_forward_hooks_with_kwargs",
        "_forward_pre_hooks",
        "_forward_pre_hooks_with_kwargs",
        "_get_backward_hooks",
        "_get_backward_pre_hooks",
        "_get_name",
        "_is_full_backward_hook",
        "_load_from_state_dict",
        "_load_state_dict_post_hooks",
        "_load_state_dict_pre_hooks",
        "_maybe_warn_non_full_backward_hook",
        "_modules",
        "_named_members",
        "_non_persistent_buffers_set",
        "_parameters",
        "_register_load_state_dict_pre_hook",
        "_register_state_dict_hook",
        "_replicate_for_data_parallel",
        "_save_to_state_dict",
        "_slow_forward",
        "_state_dict_hooks",
        "_state_dict_pre_hooks",
        "_version",
        "_wrapped_call_impl",
        "add_module",
        "apply",
        "bfloat16",
        "buffers",
        "call_super_init",
        "children",
        "compile",
        "cpu",
        "cuda",
        "double",
        "dump_patches",
        "eval",
        "externs",
        "extra_repr",
        "float",
        "forward",
        "get_buffer",
        "get_extra_state",
        "get_parameter",
        "get_submodule",
        "half",
        "initial_state",
        "ipu",
        "load_state_dict",
        "modules",
        "mtia",
        "named_buffers",
        "named_children",
        "named_modules",
        "named_parameters",
        "parameters",
        "prefill",
        "register_backward_hook",
        "register_buffer",
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
        "register_load_state_dict_post_hook",
        "register_load_state_dict_pre_hook",
        "register_module",
        "register_parameter",
        "register_state_dict_post_hook",
        "register_state_dict_pre_hook",
        "requires_grad_",
        "reset_parameters",
        "set_extra_state",
        "set_submodule",
        "share_memory",
        "state_dict",
        "step",
        "to",
        "to_empty",
        "train",
        "training",
        "type",
        "verdicts",
        "xpu",
        "zero_grad",
    ]
)

# What callers of a layer already mean by these words, so no input can be called so.
CALL_WORDS = frozenset(
    [
        "self",
        "state",
        "segments",
        "return_state",
        "time",
        "batch",
        "externs",
        "abs",
        "all",
        "any",
        "bool",
        "dict",
        "enumerate",
        "float",
        "int",
        "isinstance",
        "len",
        "list",
        "max",
        "min",
        "range",
        "round",
        "set",
        "sorted",
        "str",
        "sum",
        "super",
        "tuple",
        "type",
        "zip",
    ]
) | frozenset(keyword.kwlist)


def safe(key: str) -> str:
    """`key` with parts that a torch module cannot have as attributes changed by a `_`.

    Python keeps names that begin with two underscores to itself.
    """
    parts = [f"{p.strip('_')}_" if p[:2] == "__" else p for p in key.split(".")]
    return ".".join(f"{p}_" if p in MODULE_ATTRIBUTES else p for p in parts)


def local_name(site: Site, expr: ast.Expr, kind: str, key: str | None) -> str:
    """What a call that creates parameters is called: `z`, `n_x`, `u_rmsnorm`.

    The equation's name where it is the only such call there, else the equation's
    name with the argument's (the function's where the argument has none).
    """
    if key is not None:
        return key
    name = site.name if site.initial is None else f"{site.name}.initial"
    primitive = kind in PRIMITIVES
    # what `h.initial` stands beside cannot be the sub-layer `h`
    if site.parametric > 1 or (site.learned and not primitive):
        # sub-layers go by their own name: what they are says more than what they read
        argument = _argument_name(expr) if primitive else None
        name = f"{name}_{argument or kind}"
    site.taken[name] = site.taken.get(name, 0) + 1
    n = site.taken[name]
    return name if n == 1 else f"{name}_{n}"


def _argument_name(expr: ast.Expr) -> str | None:
    if not isinstance(expr, ast.Call) or not expr.args:
        return None
    first = expr.args[0]
    while isinstance(first, ast.Index | ast.Redim):
        first = first.value
    return first.id if isinstance(first, ast.Name) else None


def prefixed(scope: Scope, key: str) -> str:
    """`key` below the repeats around it: `l.{l}.key`; the braces hold the step from 0."""
    path = "".join(f"{axis}.{{{axis}}}." for axis in scope.axes)
    return path + safe(key)


def check_unique(ctx: Context, key: str, span: Span) -> None:
    """Take `key`; E0121 where it is taken, or lies above or below a taken one."""
    parts = key.split(".")
    above = [".".join(parts[:i]) for i in range(1, len(parts))]
    holders = [p for p in above if ctx.taken_keys.get(p) == "leaf"]
    if key in ctx.taken_keys or holders:
        other = f" by `{holders[0]}`" if holders else ""
        raise ctx.fail(
            "E0121",
            f"the state-dict key `{key}` is already taken{other}",
            span,
            "set another one with `as`",
        )
    ctx.taken_keys[key] = "leaf"
    for path in above:
        ctx.taken_keys[path] = "folder"


def snake(name: str) -> str:
    """`GatedDeltaNet` as `gated_delta_net`."""
    out: list[str] = []
    for i, char in enumerate(name):
        after_lower = i > 0 and (name[i - 1].islower() or name[i - 1].isdigit())
        before_lower = i + 1 < len(name) and name[i + 1].islower() and i > 0
        if char.isupper() and (after_lower or (before_lower and name[i - 1] != "_")):
            out.append("_")
        out.append(char.lower())
    return "".join(out)

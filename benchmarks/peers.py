"""The same recurrences in JAX and onnxruntime, where they are installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import Case

Run = Callable[[], object]


def jax_runs(case: Case, inputs: list[Tensor]) -> dict[str, tuple[Run, Run]]:
    """Jitted: forward, and forward with gradients of all inputs.

    `lax.scan` over time, and `lax.associative_scan` where a case has that form.
    """
    if case.scan is None or find_spec("jax") is None:
        return {}
    import jax
    import jax.numpy as jnp

    scan: Any = case.scan

    def stepwise(*xs: Any) -> Any:
        lead = [jnp.moveaxis(x, 1, 0) for x in xs]
        first = tuple(jnp.full((case.batch, *s), 0.01) for s in case.carry)
        _, ys = jax.lax.scan(scan, first, tuple(lead))
        return jnp.moveaxis(ys, 0, 1)

    found = {"JAX lax.scan": _jitted(stepwise, inputs)}
    if case.parallel is not None:
        found["JAX associative_scan"] = _jitted(case.parallel, inputs)
    return found


def _jitted(forward: Any, inputs: list[Tensor]) -> tuple[Run, Run]:
    import jax
    import jax.numpy as jnp

    taken = [jnp.asarray(x.numpy()) for x in inputs]
    whole: Any = jax.jit(forward)
    places = tuple(range(len(taken)))
    gradient: Any = jax.jit(jax.grad(lambda *xs: forward(*xs).sum(), argnums=places))
    return (
        lambda: jax.block_until_ready(whole(*taken)),
        lambda: jax.block_until_ready(gradient(*taken)),
    )


_RULES = {
    "linear attention": "linear",
    "delta rule": "delta",
    "gated linear attention": "gated",
    "gated delta rule": "gated_delta",
}


def onnx_run(case: Case, inputs: list[Tensor]) -> Run | None:
    """onnxruntime's `LinearAttention`, for the rules that it has."""
    rule = _RULES.get(case.name)
    if rule is None or find_spec("onnxruntime") is None or find_spec("onnx") is None:
        return None
    import onnxruntime as ort

    names = ["query", "key", "value", "past_state", "decay", "beta"]
    heads = case.options["heads"]
    flat = [x.reshape(case.batch, case.time, -1).numpy() for x in inputs]
    if rule.startswith("gated"):
        flat[3] = torch.log(inputs[3]).reshape(case.batch, case.time, -1).numpy()
    if rule == "delta":
        names = [n for n in names if n != "decay"]
    state = torch.zeros(case.batch, heads, case.options["K"], case.options["V"])
    given = dict(zip(names, [*flat[:3], state.numpy(), *flat[3:]], strict=False))
    options: Any = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session: Any = ort.InferenceSession(_model(rule, heads, given), options)
    return lambda: session.run(None, given)


def _in_order(given: dict[str, Any]) -> list[str]:
    """Names of inputs, empty for a decay that is left out before others."""
    names = list(given)
    return (
        names if "decay" in given or "beta" not in given else [*names[:4], "", "beta"]
    )


def _model(rule: str, heads: int, given: dict[str, Any]) -> bytes:
    """A graph of the one node."""
    from onnx import TensorProto, helper

    helper_: Any = helper
    kinds = [
        helper_.make_tensor_value_info(n, TensorProto.FLOAT, list(x.shape))
        for n, x in given.items()
    ]
    out = helper_.make_tensor_value_info("out", TensorProto.FLOAT, None)
    after = helper_.make_tensor_value_info("state", TensorProto.FLOAT, None)
    node = helper_.make_node(
        "LinearAttention",
        _in_order(given),
        ["out", "state"],
        domain="com.microsoft",
        update_rule=rule,
        q_num_heads=heads,
        kv_num_heads=heads,
        scale=1.0,
    )
    graph = helper_.make_graph([node], "row", kinds, [out, after])
    opsets = [
        helper_.make_opsetid("", 21),
        helper_.make_opsetid("com.microsoft", 1),
    ]
    model = helper_.make_model(graph, opset_imports=opsets, ir_version=10)
    return model.SerializeToString()

"""Generated modules as torch modules: errors, precision, copies, compilers."""

from __future__ import annotations

import ast
import copy
import io
import pickle
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from seqdsl.backends.torch import Artifact, compile_model
from seqdsl.backends.torch.load import load
from seqdsl.diagnostics import CallError
from seqdsl.elaborate import elaborate_text

SPECS = Path(__file__).with_name("torch_specs")
MAKE: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "gru": ({"D": 3, "H": 4}, (2, 5, 3)),
    "gateddeltanet": ({"D": 4, "heads": 2}, (2, 5, 4)),
    "lm": ({"vocab": 5, "D": 8, "L": 2}, (2, 5)),
    "moe": ({"D": 3, "E": 4, "F": 5}, (2, 5, 3)),
    "mingru": ({"D": 3, "H": 4}, (2, 5, 3)),
    "depthrecurrent": ({"D": 4, "heads": 2, "N": 2}, (2, 5, 4)),
    "halt": ({"D": 3}, (2, 5, 3)),
}


def artifact(name: str) -> Artifact:
    """The generated file of a spec."""
    return compile_model(elaborate_text((SPECS / f"{name}.seq").read_text("utf-8")))


def made(name: str, **options: Any) -> Any:
    """A module of a spec."""
    return load(artifact(name))(**(options or MAKE[name][0]))


def example(name: str) -> Tensor:
    shape = MAKE[name][1]
    return torch.randint(0, 5, shape) if name == "lm" else torch.randn(shape)


def assert_same(ours: Any, theirs: Any) -> None:
    """Equal outputs, one or several."""
    one = isinstance(ours, Tensor)
    for a, b in [(ours, theirs)] if one else zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


# ---- The text


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.seq")), ids=lambda p: p.stem)
def test_the_text_needs_torch_alone(path: Path) -> None:
    text = artifact(path.stem).text
    roots = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        for name in (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert roots <= {
        *("torch", "math", "collections", "typing"),
        *("mmap", "threading", "weakref"),  # memory of large results
    }


def test_a_file_runs_without_us(tmp_path: Path) -> None:
    made_file = artifact("gru")
    (tmp_path / "gru.py").write_text(made_file.text, encoding="utf-8")
    code = "import torch, gru; print(gru.GRU(D=3, H=4)(torch.zeros(1, 2, 3)).shape)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "torch.Size([1, 2, 4])"


def test_equal_sublayers_share_a_class() -> None:
    text = artifact("lm").text
    assert text.count("class SwiGLU(") == 1


def test_state_dict_keys_are_those_of_the_spec() -> None:
    keys = set(made("lm").state_dict())
    assert {"x0.weight", "l.0.u_rmsnorm.weight", "l.1.x_swi_glu.out_x.weight"} <= keys


def test_tracebacks_show_generated_lines() -> None:
    module = made("gru")
    module.z_h = None
    with pytest.raises(TypeError) as caught:
        module(example("gru"))
    lines = [f.line for f in traceback.extract_tb(caught.value.__traceback__)]
    assert any("self.z_h" in (line or "") for line in lines)


# ---- Wrong calls


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"D": 10, "heads": 4}, r"K = D / heads = 10 / 4 = 2.5 is not a whole number"),
        ({"D": 0, "heads": 1}, r"D = 0, but must be at least 1"),
    ],
)
def test_options_are_checked_with_their_numbers(
    options: dict[str, int], message: str
) -> None:
    with pytest.raises(CallError, match=message):
        made("gateddeltanet", **options)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            torch.zeros(2, 10, 32),
            r"`x` is declared \[D\] with D = 3, so it must be \[batch, time, 3\]; got",
        ),
        (torch.zeros(2, 3), r"got \[2, 3\]"),
        (torch.zeros(2, 5, 3, dtype=torch.int64), "declared float; got torch.int64"),
        ([1.0], "must be a tensor, not list"),
        (torch.zeros(2, 5, 3, device="meta"), "is on meta"),
    ],
)
def test_inputs_are_checked(x: Any, message: str) -> None:
    with pytest.raises(CallError, match=message):
        made("gru")(x)


def test_states_are_checked() -> None:
    module, x = made("gru"), example("gru")
    state = module.initial_state(2)
    with pytest.raises(CallError, match=r"must have the keys \['h', 'segment'\]"):
        module(x, state={"h": state["h"]})
    with pytest.raises(CallError, match=r"state\['h'\] must be \[2, 4\]; got \[3, 4\]"):
        module(x, state=module.initial_state(3) | {"segment": state["segment"]})
    with pytest.raises(CallError, match="must have the keys"):
        module.step(x[:, 0], None)


def test_segments_are_checked() -> None:
    module, x = made("gru"), example("gru")
    with pytest.raises(CallError, match=r"segments must be \[batch, time\] = \[2, 5\]"):
        module(x, segments=torch.zeros(2, 4, dtype=torch.int64))
    with pytest.raises(CallError, match="segments must be whole numbers"):
        module(x, segments=torch.zeros(2, 5))


def test_indices_are_checked() -> None:
    with pytest.raises(CallError, match=r"`tokens` is 7, which is outside \[0, 5\)"):
        made("lm")(torch.tensor([[0, 7]]))
    with pytest.raises(CallError, match=r"`tokens` is -1"):
        made("lm")(torch.tensor([[-1, 0]]))


def test_strategies_that_do_not_exist_are_refused() -> None:
    model = elaborate_text((SPECS / "gru.seq").read_text("utf-8"))
    with pytest.raises(CallError, match="no strategy `magic`"):
        compile_model(model, strategy="magic")


# ---- What torch does with modules


@pytest.mark.parametrize("name", MAKE)
def test_copies_compute_the_same(name: str) -> None:
    module, x = made(name), example(name)
    expected = module(x)
    assert_same(copy.deepcopy(module)(x), expected)
    assert_same(pickle.loads(pickle.dumps(module))(x), expected)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    assert_same(torch.load(file, weights_only=False)(x), expected)
    params = dict(module.named_parameters())
    assert_same(torch.func.functional_call(module, params, (x,)), expected)


@pytest.mark.parametrize("name", MAKE)
def test_compiles_and_exports(name: str) -> None:
    module, x = made(name), example(name)
    expected = module(x)
    compiler: Any = vars(torch)["compile"]
    compiled = compiler(module, backend="aot_eager", fullgraph=True)
    assert_same(compiled(x), expected)
    assert_same(torch.export.export(module, (x,)).module()(x), expected)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_precisions(name: str, dtype: torch.dtype) -> None:
    module, x = made(name).to(dtype), example(name)
    result = module(x.to(dtype) if x.is_floating_point() else x)
    for y in [result] if isinstance(result, Tensor) else result:
        assert y.dtype == dtype
        assert bool(y.isfinite().all())


def floats(state: Any) -> list[Tensor]:
    """All float tensors in a state."""
    if hasattr(state, "keys"):
        return [x for key in state for x in floats(state[key])]
    if hasattr(state, "append"):
        return [x for one in state for x in floats(one)]
    return [state] if state.is_floating_point() else []


@pytest.mark.parametrize("name", ["gru", "gateddeltanet", "lm", "depth_time"])
def test_states_keep_their_precision_under_autocast(name: str) -> None:
    module = made(name, **({"D": 3} if name == "depth_time" else {}))
    x = torch.randn(2, 5, 3) if name == "depth_time" else example(name)
    with torch.autocast("cpu", torch.bfloat16):
        _, state = module(x, return_state=True)
        _, after = module.step(x[:, 0], state)
        module(x, state=after)
    carried = [x for x in floats(state) if x.dim() == 2]
    assert carried or name != "gru"
    assert all(x.dtype == torch.float32 for x in carried)


def test_training_changes_dropout_only() -> None:
    module = load(artifact("dropout"))(D=3)
    x = torch.ones(2, 50, 3)
    assert torch.equal(module.eval()(x), x)
    kept = module.train()(x)
    assert set(kept.unique().tolist()) == {0.0, 2.0}


def norm(v: Tensor) -> Tensor:
    """What the extern op below is bound to."""
    return v.square().sum().sqrt()


def test_an_extern_op_is_bound_when_a_module_is_made() -> None:
    text = """
extern norm(x: [D]) -> []

layer L(D):
    input x: [D]
    output y = x / norm(x)
"""
    cls: Any = load(compile_model(elaborate_text(text)))
    with pytest.raises(CallError, match="extern `norm` is not bound"):
        cls(D=3)
    x = torch.randn(2, 4, 3)
    y = cls(D=3, externs={"norm": norm})(x)
    torch.testing.assert_close(y, x / x.square().sum(-1, keepdim=True).sqrt())


def test_a_growing_memory_inside_a_recurrence() -> None:
    text = """
layer L(D):
    input x: [D]
    state h: [D] = 0
    k = x + h[t-1]
    p = softmax[s <= t](dot[D](x, k[s]))
    h = tanh(dot[s](p, k[s]))
    output h
"""
    cls: Any = load(compile_model(elaborate_text(text)))
    module, x = cls(D=3), torch.randn(2, 6, 3, dtype=torch.float64)
    h, keys, expected = (
        torch.zeros(2, 3, dtype=torch.float64),
        list[Tensor](),
        list[Tensor](),
    )
    for x_t in x.unbind(1):
        keys.append(x_t + h)
        past = torch.stack(keys, 1)
        p = torch.softmax(torch.einsum("bd,bsd->bs", x_t, past), -1)
        h = torch.tanh(torch.einsum("bs,bsd->bd", p, past))
        expected.append(h)
    whole = torch.stack(expected, 1)
    torch.testing.assert_close(module(x), whole)
    state = module.initial_state(2, dtype=torch.float64)
    first, state = module(x[:, :2], state=state, return_state=True)
    second = module(x[:, 2:], state=state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)

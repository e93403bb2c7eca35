"""Re-indexing in the interpreter, and calls that are refused."""

from __future__ import annotations

import pytest
import torch
from reference_case import check, layer, listed, made, noise, run, run_all
from torch import Tensor
from torch.nn import functional as F

from seqdsl.backends.reference import interpret
from seqdsl.diagnostics import CallError
from seqdsl.elaborate import elaborate_text

# ---- Re-indexing


def test_gather_by_name() -> None:
    text = layer("x: [V, K]; i: int [K]; j: int [M]", "OUT", options="V, K, M")
    x, sizes = torch.randn(1, 2, 4, 3), {"V": 4, "K": 3, "M": 2}
    i, j = torch.randint(0, 4, (1, 2, 3)), torch.randint(0, 4, (1, 2, 2))
    aligned = run(text.replace("OUT", "output gather[V](x, i)"), sizes, x=x, i=i, j=j)
    wanted = torch.gather(x, 2, i.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(aligned, wanted.double())
    crossed = run(text.replace("OUT", "output gather[V](x, j)"), sizes, x=x, i=i, j=j)
    wanted = torch.stack([x[0, t, j[0, t]] for t in range(2)])[None]
    torch.testing.assert_close(crossed, wanted.double())
    for wrong in (-1, 4):
        with pytest.raises(CallError, match=f"index {wrong} is outside `V`"):
            j[0, 1, 1] = wrong
            run(text.replace("OUT", "output gather[V](x, j)"), sizes, x=x, i=i, j=j)


@pytest.mark.parametrize(
    ("expr", "wanted"),
    [
        ("roll[K](x, 1)", [5, 0, 1, 2, 3, 4]),
        ("roll[K](x, -8)", [2, 3, 4, 5, 0, 1]),
        ("shift[K](x, 2)", [0, 0, 0, 1, 2, 3]),
        ("shift[K](x, -1)", [1, 2, 3, 4, 5, 0]),
        ("shift[K](x, 9)", [0] * 6),
        ("x[K = 1:6:2 as J]", [1, 3, 5]),
        ("x[K = 4]", 4),
        ("x.(K -> [A, B])", [[0, 1, 2], [3, 4, 5]]),
        ("x.(K -> [A, B]).([B, A] -> K)", [0, 3, 1, 4, 2, 5]),
        ("concat[K](x, 2 * x)", [0, 1, 2, 3, 4, 5, 0, 2, 4, 6, 8, 10]),
        ("stack[P](x, x + 1)", [[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]]),
        ("index[K] * x", [0, 1, 4, 9, 16, 25]),
        ("onehot[A](int(x[K = 1]))", [0, 1]),
        ("x[K = t + 1]", 1),
    ],
)
def test_re_indexing_of_dims(expr: str, wanted: list[int] | int) -> None:
    text = layer("x: [K]", "dim A = 2", "dim B = K / A", f"output {expr}", options="K")
    x = torch.arange(6.0).reshape(1, 1, 6)
    assert listed(run(text, {"K": 6}, x=x)[0, 0]) == wanted


# ---- Convolution


def test_convolution_along_time_is_a_left_padded_conv1d() -> None:
    text = """
layer Conv(D, O):
    input x: [D]
    y = conv(x, O, width = 3, dilation = 2)
    z = conv(x, width = 4)
    output concat[O](y, linear(z, O, bias = false))
"""
    options = {"D": 3, "O": 2}
    params, x = made(text, options), noise(2, 9, 3)
    p = [params[f"{n}.{k}"] for n in "yz" for k in ("weight", "bias")]
    early = x.transpose(1, 2)
    y = F.conv1d(F.pad(early, (4, 0)), p[0], p[1], dilation=2)
    z = F.conv1d(F.pad(early, (3, 0)), p[2][:, None], p[3], groups=3)
    (last,) = [w for n, w in params.items() if n[0] not in "yz"]
    theirs = torch.cat([y, torch.einsum("od,bdt->bot", last, z)], 1).transpose(1, 2)
    check(run(text, options, params, x=x), theirs, x, *params.values())


@pytest.mark.parametrize("pad", ["zero", "circular", "reflect", "replicate"])
def test_convolution_along_dims(pad: str) -> None:
    text = f"""
layer Image(I, J, C, O):
    input x: [C, I, J]
    y = conv[I, J](x, O, width = [3, 5], sum = [C], pad = "{pad}")
    output y
"""
    options = {"I": 5, "J": 6, "C": 2, "O": 3}
    params, x = made(text, options), noise(1, 2, 2, 5, 6)
    mode = "constant" if pad == "zero" else pad
    padded = F.pad(x[0], (2, 2, 1, 1), mode=mode)
    theirs = F.conv2d(padded, params["y.weight"], params["y.bias"])[None]
    check(run(text, options, params, x=x), theirs, x, *params.values())


# ---- Calls


def test_inputs_per_batch_and_per_call() -> None:
    text = layer(
        "x: [D]; c: [D] per batch; n: int per call", "output x * c + n", options="D"
    )
    x, c = torch.randn(2, 3, 4), torch.randn(2, 4)
    found = run(text, {"D": 4}, x=x, c=c, n=torch.tensor(2))
    torch.testing.assert_close(found, (x.double() * c.double()[:, None] + 2))


def test_no_steps_and_no_rows() -> None:
    text = layer(
        "x: [D]", "state h: [D] = 0", "h = h[t-1] + x", "output h", options="D"
    )
    assert run(text, {"D": 4}, x=torch.zeros(2, 0, 4)).shape == (2, 0, 4)
    assert run(text, {"D": 4}, x=torch.zeros(0, 3, 4)).shape == (0, 3, 4)


ECHO = layer("x: [D]; k: int", "output x * k", options="D")


@pytest.mark.parametrize(
    ("x", "k", "message"),
    [
        ((1, 2), (1, 2), r"`x` is \[batch, time, D\], but has shape \[1, 2\]"),
        ((1, 2, 4), (1, 2), r"`x` is \[batch, time, D\] = \[1, 2, 3\], but"),
        ((1, 2, 3), (1, 3), r"`k` is \[batch, time\] = \[1, 2\], but has shape"),
    ],
)
def test_wrong_shapes(x: tuple[int, ...], k: tuple[int, ...], message: str) -> None:
    with pytest.raises(CallError, match=message):
        run(ECHO, {"D": 3}, x=torch.zeros(x), k=torch.zeros(k, dtype=torch.int64))


def test_wrong_dtypes_and_names() -> None:
    x, k = torch.zeros(1, 2, 3), torch.zeros(1, 2, dtype=torch.int64)
    with pytest.raises(CallError, match="`k` is int, but holds torch.float32"):
        run(ECHO, {"D": 3}, x=x, k=k.float())
    with pytest.raises(CallError, match="`x` is float, but holds torch.complex64"):
        run(ECHO, {"D": 3}, x=x * 1j, k=k)
    with pytest.raises(CallError, match="needs the input `k`"):
        run(ECHO, {"D": 3}, x=x)
    with pytest.raises(CallError, match="has no input `z`"):
        run(ECHO, {"D": 3}, x=x, k=k, z=k)
    for segments in (k[:, :1], k.float()):
        with pytest.raises(CallError, match="segments are"):
            run_all(ECHO, {"D": 3}, segments=segments, x=x, k=k)


def test_extent_of_time_where_no_input_tells_it() -> None:
    model = elaborate_text("layer L():\n    output float(t)\n")
    with pytest.raises(CallError, match="needs `time`"):
        interpret(model, options={}, params={}, inputs={})
    found = interpret(model, options={}, params={}, inputs={}, time=3, batch=2)
    assert [listed(v) for v in found.values()] == [[[0, 1, 2], [0, 1, 2]]]


def _flipped(x: Tensor) -> Tensor:
    return x.flip(-1)


def _first(x: Tensor) -> Tensor:
    return x[:1]


def test_extern_ops() -> None:
    text = "extern twist(x: [K]) -> [K]\n" + layer(
        "x: [K]", "output twist(x)", options="K"
    )
    x = torch.randn(2, 3, 4)
    found = run(text, {"K": 4}, externs={"twist": _flipped}, x=x)
    torch.testing.assert_close(found, x.double().flip(-1))
    with pytest.raises(CallError, match="`twist` is not bound"):
        run(text, {"K": 4}, x=x)
    with pytest.raises(CallError, match=r"returned \[1\], declared \[4\]"):
        run(text, {"K": 4}, externs={"twist": _first}, x=x)

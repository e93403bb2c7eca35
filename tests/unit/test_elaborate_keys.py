"""State-dict keys: how they are made, set, kept stable and kept apart."""

from __future__ import annotations

import pytest
import torch
from elaborating import keys, layer, model, only_error

from seqdsl.elaborate.keys import safe, snake


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("output linear(x, H)", {"out.weight", "out.bias"}),
        ("z = linear(x, H)\noutput z", {"z.weight", "z.bias"}),
        (
            "h = 2 * x\nz = linear(x, H) + linear(h, H)\noutput z",
            {"z_x.weight", "z_x.bias", "z_h.weight", "z_h.bias"},
        ),
        (
            "z = linear(x, H) + linear(x[t-1], H)\noutput z",
            {"z_x.weight", "z_x.bias", "z_x_2.weight", "z_x_2.bias"},
        ),
        (
            "z = linear(x, H) + linear(2 * x, H)\noutput z",
            {"z_x.weight", "z_x.bias", "z_linear.weight", "z_linear.bias"},
        ),
        ("z = linear(x, H, bias = false)\noutput z", {"z.weight"}),
        ("output y = conv(x, width = 2)", {"y.weight", "y.bias"}),
        ("input k: int\ne = embed(k, 5, D)\noutput e", {"e.weight"}),
        ("param W: [D]\noutput W * x", {"W"}),
        ("param W: [D] as enc.weight\noutput W * x", {"enc.weight"}),
        ("z = x * param([D])\noutput z", {"z"}),
        ("z = linear(x, H) * param([H])\noutput z", None),
        ("z = linear(x, H) as proj.q\noutput z", {"proj.q.weight", "proj.q.bias"}),
        ("state h: [D] = param\nh = h[t-1] + x\noutput h", {"h.initial"}),
        (
            "state h: [D] = param\nh = linear(h[t-1], D) + x\noutput h",
            {"h.initial", "h.weight", "h.bias"},
        ),
        ("output rmsnorm[D](x)", {"out.weight"}),
        ("block = rms(D)\noutput block(x)", {"block.gain"}),
        (
            "u = rmsnorm[D](x) + SwiGLU(x, F = 2)\noutput u",
            {
                "u_rmsnorm.weight",
                "u_swi_glu.gate.weight",
                "u_swi_glu.up.weight",
                "u_swi_glu.down.weight",
            },
        ),
    ],
)
def test_keys_come_from_the_names_of_the_spec(
    lines: str, expected: set[str] | None
) -> None:
    rms = (
        "layer rms(D):\n    input x: [D]\n    param gain: [D] = 1\n    output gain * x"
    )
    found = keys(model(layer(f"input x: [D]\n{lines}", "D, H = 2", rms)))
    assert found == (expected or {"z_x.weight", "z_x.bias", "z_param"})


def test_steps_of_a_repeat_stand_in_the_key_of_what_is_untied() -> None:
    text = """
        input x: [D]
        tied = SwiGLU(D, F = 2)
        param W: [D]
        repeat l in 3:
            state h: [D] = W * x
            param g: [D]
            repeat n in 2:
                state z: [D] = 0
                z = tanh(linear(z[n-1], D) + h[l-1])
            h = tied(h[l-1]) * g + rmsnorm[D](z[n = 2])
        output h[l = 3]
    """
    assert keys(model(layer(text, "D"))) == {
        "W",
        "tied.gate.weight",
        "tied.up.weight",
        "tied.down.weight",
        "l.{l}.g",
        "l.{l}.h.weight",
        "l.{l}.n.{n}.z.weight",
        "l.{l}.n.{n}.z.bias",
    }


def test_keys_do_not_depend_on_the_order_of_lines() -> None:
    lines = [
        "z = sigmoid(linear(x, H))",
        "r = linear(x, H) + linear(z, H)",
        "param W: [D]",
        "n = SwiGLU(W * x, F = 3)",
        "block = SwiGLU(D, F = 2)",
    ]
    use = "output block(n) * sum[H](z + r)"
    forward = model(layer("\n".join(["input x: [D]", *lines, use]), "D, H"))
    backward = model(layer("\n".join(["input x: [D]", *lines[::-1], use]), "D, H"))
    assert keys(forward) == keys(backward)
    assert len(keys(forward)) == 2 + 4 + 1 + 3 + 3


def test_a_new_line_changes_no_other_key() -> None:
    text = "input x: [D]\nz = linear(x, H)\noutput z"
    more = text.replace("output z", "a = linear(z, H)\noutput z + a")
    assert keys(model(layer(text))) < keys(model(layer(more)))


@pytest.mark.parametrize(
    "lines",
    [
        "param W: [D] as a.b\nparam V: [D] as a.b\noutput x * W * V",
        "param W: [D] as a\nparam V: [D] as a.b\noutput x * W * V",
        "param W: [D] as a.b\nparam V: [D] as a\noutput x * W * V",
        "param z: [D] as y.weight\ny = linear(x, D)\noutput y * z",
        "a = linear(x, D) as same\nb = linear(x, D) as same\noutput a + b",
    ],
)
def test_keys_that_meet_are_refused(lines: str) -> None:
    found = only_error(layer(f"input x: [D]\n{lines}", "D"))
    assert found.code == "E0121"
    assert "`as`" in found.help[0]


def test_names_that_a_torch_module_needs_for_itself_are_changed() -> None:
    text = """
        input x: [D]
        forward = linear(x, D)
        param training: [D] = 1
        step = SwiGLU(D, F = 2)
        output step(forward * training)
    """
    assert keys(model(layer(text, "D"))) == {
        "forward_.weight",
        "forward_.bias",
        "training_",
        "step_.gate.weight",
        "step_.up.weight",
        "step_.down.weight",
    }


def test_every_public_attribute_of_a_torch_module_is_taken() -> None:
    module = torch.nn.Module()
    public = [name for name in dir(module) if not name.startswith("_")]
    assert [name for name in public if safe(name) == name] == []


def test_sub_layers_are_called_in_snake_case() -> None:
    for name, expected in (
        ("SwiGLU", "swi_glu"),
        ("GatedDeltaNet", "gated_delta_net"),
        ("RWKV7", "rwkv7"),
        ("rmsnorm", "rmsnorm"),
        ("A", "a"),
        ("S4D", "s4_d"),
        ("MLPMixer", "mlp_mixer"),
    ):
        assert snake(name) == expected

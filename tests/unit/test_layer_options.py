"""Options that are layers: chosen in a spec, as a text, and as an object."""

from __future__ import annotations

import pytest
import torch

import seqdsl
from seqdsl.elaborate import elaborate_text
from seqdsl.ir.bind import bind_sizes

SHELL = """
import std.gla: GLA

layer Double(D, by = 2):
    input x: [D]
    output by * x

layer Shell(D, heads = 2, mixer = GLA(heads = heads)):
    input x: [D]
    y = x + mixer(x)
    output y
"""


def keys(mixer: str | None) -> set[str]:
    spec = seqdsl.loads(SHELL)
    shell = spec.Shell(D=4) if mixer is None else spec.Shell(D=4, mixer=mixer)
    return set(shell.state_dict())


def test_the_default_reads_the_options_before_it() -> None:
    model = elaborate_text(SHELL, "Shell")
    (instance,) = model.instances
    assert bind_sizes(instance.model, {"D": 6, "heads": 3}).dims["K"] == 1
    assert dict(instance.options)["heads"] != 2


def test_keys_go_by_the_option() -> None:
    assert "y.q.weight" in keys(None)
    assert keys("Double") == set()
    assert "y.A_log" in keys("std.mamba:Mamba(N = 3)")


def test_a_choice_keeps_its_options() -> None:
    x = torch.randn(2, 3, 4)
    shell = seqdsl.loads(SHELL).Shell(D=4, mixer="Double(by = 5)")
    torch.testing.assert_close(shell(x), 6 * x)


def test_a_layer_of_the_library_may_be_given_as_it_is() -> None:
    spec = seqdsl.loads(SHELL)
    as_object = spec.Shell(D=4, mixer=seqdsl.std.ema.EMA)
    assert set(as_object.state_dict()) == keys("std.ema:EMA")
    with pytest.raises(seqdsl.CallError, match="import it in the spec"):
        spec.Shell(D=4, mixer=spec.Double)


def test_a_layer_is_handed_on_with_its_options() -> None:
    text = (
        SHELL
        + """
layer Outer(D, part = Double):
    input x: [D]
    output Shell(x, mixer = part)
"""
    )
    x = torch.randn(2, 3, 4)
    for choice, factor in (("Double", 3), ("Double(by = 7)", 8)):
        outer = seqdsl.loads(text).Outer(D=4, part=choice)
        torch.testing.assert_close(outer(x), factor * x)


@pytest.mark.parametrize(
    ("mixer", "code"),
    [
        ("Nothing", "E0505"),
        ("std.nothing:GLA", "E0505"),
        ("std.gla:Nothing", "E0505"),
        ("other.gla:GLA", "E0505"),
        ("1 + 2", "E0505"),
        ("(", "E0505"),
        ("Double(to = 3)", "E0402"),
        ("Double(by = q)", "E0101"),
        ("Double(1, 2, 3)", "E0401"),
    ],
)
def test_a_wrong_choice_is_one_mistake(mixer: str, code: str) -> None:
    with pytest.raises(seqdsl.SpecError) as error:
        seqdsl.loads(SHELL).Shell(D=4, mixer=mixer)
    assert [d.code for d in error.value.diagnostics] == [code]


def test_a_module_is_made_for_one_choice() -> None:
    shell = seqdsl.loads(SHELL).Shell(D=4, mixer="Double")
    assert type(shell)(D=4).mixer == "Double"
    with pytest.raises(seqdsl.CallError, match="one value of `mixer`"):
        type(shell)(D=4, mixer="GLA")


def test_a_choice_may_have_choices() -> None:
    """Also of the library, and of layers that are made of the shell itself."""
    text = (
        SHELL
        + """
layer Twice(D, part = GLA, again = Double):
    input x: [D]
    output Shell(again(part(x)), mixer = part)
"""
    )
    spec, x = seqdsl.loads(text), torch.randn(2, 3, 4)
    shell = spec.Shell(D=4, mixer="Twice(part = Double(by = 3))")
    torch.testing.assert_close(shell(x), (1 + 3 * 2 * 4) * x)
    nested = "Twice(part = std.ema:EMA, again = Twice(part = std.ema:EMA))"
    assert len(dict(spec.Shell(D=4, mixer=nested).named_parameters())) == 4
    assert spec.Shell(D=4, mixer=nested).mixer == nested


def test_a_layer_does_not_contain_itself() -> None:
    text = """
layer Wrap(D, m = Same):
    input x: [D]
    output m(x)

layer Same(D):
    input x: [D]
    output x

layer Grow(D, m = Same):
    input x: [D]
    output Grow(x, m = GIVEN)
"""
    for given in ("m", "Wrap(m = m)"):
        with pytest.raises(seqdsl.SpecError) as error:
            seqdsl.loads(text.replace("GIVEN", given)).Grow(D=4)
        assert [d.code for d in error.value.diagnostics] == ["E0115"]


@pytest.mark.parametrize("odd", ["\\", "{D}\n\0\u2028", '"""\\'])
def test_a_text_is_data(odd: str) -> None:
    """Whatever a text option says, from the spec or outside, it is not code."""
    text = """
layer Named(D, kind = "plain", other = ", x = print()):#", half = D / 2):
    input x: [D]
    dim H = D / 3 if kind == other else half
    output x * H
"""
    spec, x = seqdsl.loads(text), torch.randn(1, 2, 6)
    torch.testing.assert_close(spec.Named(D=6, kind=odd)(x), 3 * x)
    assert spec.Named(D=6, kind=odd).kind == odd
    torch.testing.assert_close(spec.Named(D=6, kind=odd, other=odd)(x), 2 * x)
    if not {'"', "\n"} & set(odd) and odd.isprintable():
        spec = seqdsl.loads(text.replace("plain", odd))
        assert spec.Named(D=6).kind == odd

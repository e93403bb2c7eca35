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

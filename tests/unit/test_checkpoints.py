"""Checkpoints without their libraries: files, layouts, and what is said of wrong ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Size, Tensor

import seqdsl
from seqdsl.runtime.weights import Layout, Row, mapped

CONFIG: dict[str, Any] = {
    "model_type": "mamba",
    "vocab_size": 7,
    "hidden_size": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 6,
    "state_size": 3,
    "time_step_rank": 2,
    "conv_kernel": 4,
    "layer_norm_epsilon": 1e-5,
    "nested": {"hidden_act": "silu"},
}


def mamba() -> dict[str, Tensor]:
    """A random checkpoint as `CONFIG` describes it."""
    shapes = {"backbone.embeddings.weight": (7, 4), "backbone.norm_f.weight": (4,)}
    for l in range(2):
        at = f"backbone.layers.{l}"
        shapes |= {
            f"{at}.norm.weight": (4,),
            f"{at}.mixer.in_proj.weight": (12, 4),
            f"{at}.mixer.conv1d.weight": (6, 1, 4),
            f"{at}.mixer.conv1d.bias": (6,),
            f"{at}.mixer.x_proj.weight": (8, 6),
            f"{at}.mixer.dt_proj.weight": (6, 2),
            f"{at}.mixer.dt_proj.bias": (6,),
            f"{at}.mixer.A_log": (6, 3),
            f"{at}.mixer.D": (6,),
            f"{at}.mixer.out_proj.weight": (4, 6),
        }
    chance = torch.Generator().manual_seed(0)
    return {n: torch.randn(*s, generator=chance) for n, s in shapes.items()}


def test_parts_go_where_the_layout_says() -> None:
    weights = mamba()
    model = seqdsl.load_checkpoint(weights, config=CONFIG)
    state = model.state_dict()
    theirs = weights["backbone.layers.1.mixer.in_proj.weight"]
    assert torch.equal(state["l.1.block.out_mixer.z.weight"], theirs[6:])
    mixed = weights["backbone.layers.0.mixer.x_proj.weight"]
    assert torch.equal(state["l.0.block.out_mixer.B.weight"], mixed[2:5])
    assert not model.training


def test_a_folder_a_file_and_shards_are_the_same(tmp_path: Path) -> None:
    weights = mamba()
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    save_file(weights, tmp_path / "model.safetensors")
    models = [
        seqdsl.load_checkpoint(tmp_path),
        seqdsl.load_checkpoint(tmp_path / "model.safetensors", config=CONFIG),
    ]
    (tmp_path / "model.safetensors").unlink()
    index: dict[str, str] = {}
    for i, name in enumerate(weights):
        index[name] = f"model-{i % 2}.safetensors"
    for file in set(index.values()):
        part = {n: weights[n] for n in weights if index[n] == file}
        save_file(part, tmp_path / file)
    named = {"weight_map": index}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(named))
    models.append(seqdsl.load_checkpoint(tmp_path))
    torch.save(weights, tmp_path / "model.pth")
    models.append(seqdsl.load_checkpoint(tmp_path / "model.pth", config=CONFIG))
    first, *others = (model.state_dict() for model in models)
    for other in others:
        assert all(torch.equal(first[key], other[key]) for key in first)


def test_all_that_does_not_fit_is_named_at_once() -> None:
    weights = mamba()
    del weights["backbone.layers.0.mixer.D"]
    weights["backbone.layers.1.mixer.E"] = torch.zeros(1)
    weights["backbone.norm_f.weight"] = torch.zeros(5)
    weights["lm_head.weight"] = torch.zeros(7, 4)
    with pytest.raises(seqdsl.CallError) as error:
        seqdsl.load_checkpoint(weights, config=CONFIG)
    assert str(error.value).splitlines() == [
        "this is no checkpoint of the layout `mamba` and these sizes:",
        "  1 missing:",
        "    backbone.layers.0.mixer.D (for l.0.block.out_mixer.skip)",
        "  1 unexpected:",
        "    backbone.layers.1.mixer.E",
        "  1 of another shape:",
        "    norm.weight is [4], made of backbone.norm_f.weight [5]",
    ]


def test_long_lists_are_cut() -> None:
    with pytest.raises(seqdsl.CallError, match="and 14 more"):
        seqdsl.load_checkpoint({}, config=CONFIG)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layout": "mambo", "config": CONFIG}, "did you mean `mamba`?"),
        ({}, "no layout is given; there are mamba, mamba2"),
        ({"layout": "mamba"}, "needs 'intermediate_size' of the checkpoint"),
        ({"layout": "rwkv7"}, "needs 'blocks.0.att.r_k' of the checkpoint"),
    ],
)
def test_what_cannot_be_known_is_said(given: dict[str, Any], message: str) -> None:
    with pytest.raises(seqdsl.CallError, match=message.replace("?", r"\?")):
        seqdsl.load_checkpoint({}, **given)


def test_a_setting_that_the_layer_lacks_is_refused() -> None:
    config = CONFIG | {"nested": {"hidden_act": "relu"}}
    with pytest.raises(seqdsl.UnsupportedError, match="hidden_act = silu, and here it"):
        seqdsl.load_checkpoint(mamba(), config=config)


def test_every_layout_names_a_layer_and_its_options() -> None:
    for layout in seqdsl.checkpoint_layouts():
        with pytest.raises(seqdsl.CallError):
            seqdsl.load_checkpoint({}, layout=layout)


def test_steps_are_applied_in_order() -> None:
    source = torch.arange(24.0).reshape(6, 4)
    rows = (
        Row("a", ("x | split(2) | rows(1, n)",)),
        Row("b.{i}", ("x | rows({i}, {i} + 1) | add(10)".replace("{i}", "i"),)),
        Row("c", ("y.{e in n - 1} | mT",)),
        Row("d", ("x | rows(0, 1)", "x | rows(1, 2)")),
    )
    made = mapped(
        Layout("test", rows, {"two": 2}, ("unused",)),
        {
            "x": source,
            "y.0": source,
            "y.1": source + 1,
            "unused": source,
        },
        {
            "a": Size([4, 4]),
            "b.two": Size([4]),
            "c": Size([2, 4, 6]),
            "d": Size([2, 4]),
        },
        {"n": 3},
        lambda text, names: eval(text, {}, dict(names)),
    )
    assert torch.equal(made["a"], source[[1, 2, 4, 5]])
    assert torch.equal(made["b.two"], source[2] + 10)
    assert torch.equal(made["c"], torch.stack([source.T, source.T + 1]))
    assert torch.equal(made["d"], source[:2])

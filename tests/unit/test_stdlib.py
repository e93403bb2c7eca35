"""The standard library: every file elaborates cleanly and means what its paper says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import stdlib_cells as cells
import stdlib_matrix as matrix
import stdlib_plain as plain
import torch
from stdlib_case import BATCH, TIME, model_of, moved, noise
from torch import Tensor

from seqdsl.backends.reference import initial_params, interpret
from seqdsl.elaborate import elaborate, load_std, unused_imports
from seqdsl.elaborate.program import std_names
from seqdsl.ir.bind import bind_sizes
from seqdsl.ir.sizes import Scalar
from seqdsl.syntax.format import format_spec

Plain = Callable[..., Tensor]


# ---- Every file


@pytest.mark.parametrize("file", std_names())
def test_a_file_is_clean(file: str) -> None:
    """No warning, canonical layout, lines that fit, and a header that says what it is."""
    program = load_std(file)
    for layer in program.layers:
        assert elaborate(program, layer).warnings == ()
    assert unused_imports(program) == ()
    text = program.spec.source.text
    assert format_spec(program.spec) == text
    assert max(map(len, text.splitlines())) <= 88
    first = text.splitlines()[0]
    assert first.startswith("# ") and first.endswith(".")


@pytest.mark.parametrize("file", std_names())
def test_default_sizes_can_be_made(file: str) -> None:
    """Where all options have defaults the initial values exist and are finite."""
    program = load_std(file)
    made = 0
    for layer in program.layers:
        model = elaborate(program, layer).model
        if any(option.default is None for option in model.options):
            continue
        bind_sizes(model, {})
        made += 1
        for value in initial_params(model, {}, seed=0).values():
            assert torch.isfinite(value).all()
    assert made or file == "parts"


# ---- Against plain loops

CASES: tuple[tuple[str, str, dict[str, Scalar], Plain], ...] = (
    ("ema", "EMA", {"D": 3}, plain.ema),
    ("mingru", "MinGRU", {"D": 4, "expand": 2}, plain.min_gru),
    ("minlstm", "MinLSTM", {"D": 4}, plain.min_lstm),
    ("lru", "LRU", {"D": 3, "N": 4}, plain.lru),
    ("s4d", "S4D", {"D": 3, "N": 8}, plain.s4d),
    ("s5", "S5", {"D": 3, "P": 4}, plain.s5),
    ("s5", "BidirectionalS5", {"D": 3, "P": 4}, plain.s5),
    ("rglru", "RGLRU", {"W": 6, "heads": 2}, plain.rglru),
    ("rwkv4", "RWKV4", {"D": 4}, plain.rwkv4),
    ("mamba", "Mamba", {"D": 4, "N": 3, "R": 2}, plain.mamba),
    ("longhorn", "Longhorn", {"D": 4, "N": 3}, partial(plain.longhorn, exact=False)),
    (
        "longhorn",
        "Longhorn",
        {"D": 4, "N": 3, "exact": True},
        partial(plain.longhorn, exact=True),
    ),
    ("retnet", "Retention", {"D": 8, "heads": 2}, matrix.retention),
    ("lightning", "LightningAttention", {"D": 6, "heads": 2}, matrix.lightning),
    (
        "linear_attention",
        "LinearAttention",
        {"D": 6, "heads": 2},
        matrix.linear_attention,
    ),
    ("based", "Based", {"D": 6, "heads": 2, "K": 3}, matrix.based),
    ("performer", "Performer", {"D": 6, "heads": 2}, matrix.performer),
    ("gla", "GLA", {"D": 8, "heads": 2, "rank": 3}, matrix.gla),
    ("mamba2", "Mamba2", {"D": 8, "P": 2, "N": 3, "groups": 2}, matrix.mamba2),
    ("rwkv5", "RWKV5", {"D": 6, "K": 3}, matrix.rwkv5),
    ("rwkv6", "RWKV6", {"D": 6, "K": 3, "rank": 2, "decay_rank": 2}, matrix.rwkv6),
    ("deltanet", "DeltaNet", {"D": 6, "heads": 2, "most": 2}, matrix.deltanet),
    (
        "gated_deltanet",
        "GatedDeltaNet",
        {"D": 6, "heads": 2, "groups": 2},
        matrix.gated_deltanet,
    ),
    (
        "gated_deltaproduct",
        "GatedDeltaProduct",
        {"D": 6, "heads": 2},
        matrix.gated_deltaproduct,
    ),
    ("kda", "KDA", {"D": 6, "heads": 2}, matrix.kda),
    (
        "attention",
        "MHA",
        {"D": 6, "heads": 2},
        partial(matrix.attention, window=99, rotary=0),
    ),
    (
        "attention",
        "GQA",
        {"D": 16, "kv": 2, "group": 2},
        partial(matrix.attention, window=99, rotary=1),
    ),
    (
        "attention",
        "SlidingWindow",
        {"D": 8, "heads": 2, "window": 3},
        partial(matrix.attention, window=3, rotary=1),
    ),
    (
        "rglru",
        "LocalAttention",
        {"D": 8, "heads": 2, "window": 3},
        partial(matrix.attention, window=3, rotary=0.5),
    ),
    ("path", "PaTH", {"D": 6, "heads": 2, "rank": 3}, matrix.path),
    ("mlstm", "MLSTM", {"D": 8, "heads": 2}, cells.mlstm),
    ("mlstm", "MLSTMBlock", {"D": 8, "heads": 2}, cells.mlstm_block),
    ("slstm", "SLSTM", {"D": 6, "heads": 2}, cells.slstm),
    (
        "ttt",
        "TTTLinear",
        {"D": 6, "heads": 2, "minibatch": 3},
        partial(cells.ttt, minibatch=3),
    ),
    ("elman", "Elman", {"D": 3, "H": 4}, cells.elman),
    ("jordan", "Jordan", {"D": 3, "H": 4}, cells.jordan),
    ("lstm", "LSTM", {"D": 3, "H": 4}, cells.lstm),
    ("lstm", "PeepholeLSTM", {"D": 3, "H": 4}, cells.peephole_lstm),
    ("gru", "GRU", {"D": 3, "H": 4}, cells.gru),
    ("gru", "ResetBeforeGRU", {"D": 3, "H": 4}, cells.reset_before_gru),
    (
        "bidirectional",
        "BidirectionalElman",
        {"D": 3, "H": 4},
        cells.bidirectional_elman,
    ),
    ("bidirectional", "BidirectionalGRU", {"D": 3, "H": 4}, cells.bidirectional_gru),
    (
        "bidirectional",
        "BidirectionalMinGRU",
        {"D": 3, "H": 4},
        cells.bidirectional_min_gru,
    ),
    ("moe", "MoE", {"D": 3, "E": 4, "F": 2}, cells.moe),
)


@pytest.mark.parametrize(
    ("file", "layer", "options", "oracle"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES]
)
def test_a_layer_is_its_paper(
    file: str, layer: str, options: dict[str, Scalar], oracle: Plain
) -> None:
    model = model_of(file, layer, options)
    params = moved(initial_params(model, options, seed=3))
    x = noise(
        BATCH, TIME, bind_sizes(model, options).dims[model.inputs[0].type.dims[0]]
    )
    name = model.inputs[0].name
    outputs = interpret(model, options=options, params=params, inputs={name: x})
    ours = next(iter(outputs.values()))
    torch.testing.assert_close(ours, oracle(params, x), atol=1e-10, rtol=1e-10)


EXTRA: tuple[tuple[str, str, dict[str, Scalar], str, tuple[int, ...], Plain], ...] = (
    ("hgrn", "HGRN", {"D": 4}, "low", (4,), plain.hgrn),
    ("hgrn2", "HGRN2", {"D": 6, "heads": 2}, "low", (2, 3), matrix.hgrn2),
    (
        "rwkv7",
        "RWKV7",
        {
            "D": 6,
            "K": 3,
            "decay_rank": 2,
            "rate_rank": 3,
            "mix_rank": 4,
            "gate_rank": 2,
        },
        "first",
        (BATCH, TIME, 6),
        matrix.rwkv7,
    ),
)


@pytest.mark.parametrize(
    ("file", "layer", "options", "name", "shape", "oracle"),
    EXTRA,
    ids=[c[0] for c in EXTRA],
)
def test_a_layer_with_two_inputs_is_its_paper(
    file: str,
    layer: str,
    options: dict[str, Scalar],
    name: str,
    shape: tuple[int, ...],
    oracle: Plain,
) -> None:
    model = model_of(file, layer, options)
    params = moved(initial_params(model, options, seed=3))
    x = noise(BATCH, TIME, int(options["D"]))
    extra = noise(*shape, seed=9).sigmoid()
    inputs = {"x": x, name: extra}
    outputs = interpret(model, options=options, params=params, inputs=inputs)
    ours = next(iter(outputs.values()))
    torch.testing.assert_close(ours, oracle(params, x, extra), atol=1e-10, rtol=1e-10)

"""The standard library: what the analysis must find in each layer."""

from __future__ import annotations

import pytest

from seqdsl.analysis import analyze
from seqdsl.elaborate import elaborate, load_std

# Per layer: states, verdict, structure, semiring, and whether the coefficients are constant.
Row = tuple[str, str, str | None, str | None, bool]
DIAGONAL = ("scannable", "diagonal", "real", False)
CONSTANT = ("scannable", "diagonal", "real", True)
SCALAR = ("scannable", "scalar", "real", False)
SUM = ("scannable", "identity", "real", True)
DELTA = ("scannable", "scalar_plus_low_rank", "real", False)
CHANNEL_DELTA = ("scannable", "diagonal_plus_low_rank", "real", False)
LAG = ("fir", None, None, True)
LOOP = ("sequential", None, None, False)

EXPECTED: dict[tuple[str, str], tuple[Row, ...]] = {
    ("ema", "EMA"): (("m", *CONSTANT),),
    ("mingru", "MinGRU"): (("h", *DIAGONAL),),
    ("minlstm", "MinLSTM"): (("h", *DIAGONAL),),
    ("lru", "LRU"): (("h", *CONSTANT),),
    ("s4d", "S4D"): (("h", *CONSTANT),),
    ("s5", "S5"): (("h", *CONSTANT),),
    ("s5", "BidirectionalS5"): (("f", *CONSTANT), ("b", *CONSTANT)),
    ("rglru", "RGLRU"): (("h", *DIAGONAL),),
    ("hgrn", "HGRN"): (("h", *DIAGONAL),),
    ("hgrn2", "HGRN2"): (("S", *DIAGONAL),),
    ("retnet", "Retention"): (("S", "scannable", "scalar", "real", True),),
    ("lightning", "LightningAttention"): (("S", "scannable", "scalar", "real", True),),
    ("linear_attention", "LinearAttention"): (("S", *SUM), ("z", *SUM)),
    ("based", "Based"): (("S", *SUM), ("z", *SUM)),
    ("performer", "Performer"): (("S", *SUM), ("z", *SUM)),
    ("gla", "GLA"): (("S", *DIAGONAL),),
    ("mamba", "Mamba"): (("u", *LAG), ("h", *DIAGONAL)),
    ("mamba2", "Mamba2"): (("B", *LAG), ("u", *LAG), ("h", *SCALAR), ("C", *LAG)),
    ("rwkv4", "RWKV4"): (
        ("x", *LAG),
        ("c", "scannable", "diagonal", "log", True),
        ("o", *DIAGONAL),
    ),
    ("rwkv5", "RWKV5"): (("x", *LAG), ("S", *CONSTANT)),
    ("rwkv6", "RWKV6"): (("x", *LAG), ("S", *DIAGONAL)),
    ("rwkv7", "RWKV7"): (("x", *LAG), ("S", *CHANNEL_DELTA)),
    ("mlstm", "MLSTMCell"): (
        ("m", "scannable", "diagonal", "max_plus", False),
        ("C", *SCALAR),
        ("n", *SCALAR),
    ),
    ("slstm", "SLSTM"): (("u", *LAG), ("m c n h", *LOOP)),
    ("deltanet", "DeltaNet"): (("S", *DELTA),),
    ("gated_deltanet", "GatedDeltaNet"): (("S", *DELTA),),
    ("gated_deltaproduct", "GatedDeltaProduct"): (("S", *DELTA), ("M", *DELTA)),
    ("kda", "KDA"): (("S", *CHANNEL_DELTA),),
    ("longhorn", "Longhorn"): (("u", *LAG), ("S", *DIAGONAL)),
    ("longhorn", "ExactLonghorn"): (("u", *LAG), ("S", *DELTA)),
    # layer normalization makes the gradient nonlinear in the weights
    ("ttt", "TTTLinear"): (("W0 b b0 W", *LOOP),),
    # one recurrence for every key: what a key has become
    ("path", "PaTH"): (("u", *DELTA),),
    ("attention", "MHA"): (),
    ("attention", "GQA"): (),
    ("attention", "SlidingWindow"): (),
    ("moe", "MoE"): (),
    ("elman", "Elman"): (("h", *LOOP),),
    ("jordan", "Jordan"): (("c y", *LOOP),),
    ("lstm", "LSTM"): (("c h", *LOOP),),
    ("lstm", "PeepholeLSTM"): (("c h", *LOOP),),
    ("gru", "GRU"): (("h", *LOOP),),
    ("gru", "ResetBeforeGRU"): (("h", *LOOP),),
    ("bidirectional", "BidirectionalElman"): (("f", *LOOP), ("b", *LOOP)),
    ("bidirectional", "BidirectionalGRU"): (("f", *LOOP), ("b", *LOOP)),
    ("bidirectional", "BidirectionalMinGRU"): (("f", *DIAGONAL), ("b", *DIAGONAL)),
}


@pytest.mark.parametrize(
    ("file", "layer"), EXPECTED, ids=[f"{f}-{name}" for f, name in EXPECTED]
)
def test_the_verdict_of_a_layer(file: str, layer: str) -> None:
    analyzed = analyze(elaborate(load_std(file), layer).model)
    found = {
        (
            " ".join(sorted(v.recurrence.states)),
            v.verdict,
            v.structure,
            v.semiring,
            v.invariant,
        )
        for v in analyzed.verdicts
    }
    expected = {
        (" ".join(sorted(row[0].split())), *row[1:]) for row in EXPECTED[file, layer]
    }
    assert found == expected


@pytest.mark.parametrize("layer", ["Elman", "LSTM", "GRU", "SLSTM"])
def test_a_nonlinear_layer_is_told_why(layer: str) -> None:
    analyzed = analyze(elaborate(load_std(layer.lower()), layer).model)
    (reason,) = [v.reasons[0] for v in analyzed.verdicts if v.verdict == "sequential"]
    assert "h[t-1]" in reason.message
    assert reason.span is not None

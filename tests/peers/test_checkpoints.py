"""Whole models, saved to disk by their own library and loaded by ours: logits, gradients,
generation with state.

The peers are small and randomly initialized, their weights moved so that zeros and ones hide
no mistake. They compute in single precision, so the bound is 1e-5 of the logits.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hugging import config
from peer import PARITY, apart, noise, peer, shaken
from torch import Tensor

import seqdsl

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

VOCAB, TIME, PROMPT, NEW = 11, 13, 6, 5
LENGTHS = (1, PROMPT, 11)
"""Of prompts: shorter and longer than windows, chunks and short convolutions."""
SINGLE = 1e-5

MODELS: Mapping[str, Mapping[str, Any]] = {
    "mamba": {"hidden_size": 8, "state_size": 4, "num_hidden_layers": 2},
    "mamba2": {
        "hidden_size": 8,
        "state_size": 4,
        "num_hidden_layers": 2,
        "num_heads": 4,
        "head_dim": 4,
        "n_groups": 2,
        "chunk_size": 4,
    },
    "recurrent_gemma": {
        "hidden_size": 24,
        "intermediate_size": 60,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "num_hidden_layers": 5,
        "attention_window_size": 4,
        "pad_token_id": None,  # its row of the table would get no gradient
    },
    "xlstm": {
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_heads": 2,
        "chunk_size": 4,
        "ffn_round_up_to_multiple_of": 4,
        "autocast_kernel_dtype": "float32",
    },
    "qwen3_next": {
        "hidden_size": 16,
        "num_hidden_layers": 8,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 6,
        "num_experts": 5,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 6,
        "shared_expert_intermediate_size": 10,
        "experts_implementation": "eager",
        "rms_norm_eps": 1e-5,
    },
}

LAYERS = {
    "mamba": "std.mamba:Mamba",
    "mamba2": "std.mamba2:Mamba2",
    "recurrent_gemma": "std.rglru:RecurrentGemma",
    "xlstm": "std.mlstm:MLSTM",
    "qwen3_next": "std.qwen3_next:Qwen3Next",
}

# Its mode for generation writes in place, so that nothing flows back.
TRAINING: Mapping[str, Mapping[str, Any]] = {
    "xlstm": {"mode": "train", "chunk_size": TIME}
}


def theirs(name: str, **more: Any) -> Any:
    library = peer("transformers", "transformers")
    torch.set_rng_state(torch.Generator().manual_seed(0).get_state())
    made = config(name, vocab_size=VOCAB, **{**MODELS[name], **more})
    model = library.AutoModelForCausalLM.from_config(made).eval()
    shaken(model, scale=0.1)
    return model


def tokens(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(VOCAB, shape, generator=generator)


def generated(model: Any, prompt: Tensor) -> tuple[Tensor, Tensor]:
    """The tokens that ours continues with, one at a time from its state; their logits."""
    logits, state = model(prompt, return_state=True)
    token, found, out = logits[:, -1].argmax(-1), list[Tensor](), list[Tensor]()
    last = logits[:, -1]
    for _ in range(NEW):
        out.append(token)
        found.append(last)
        last, state = model.step(token, state)
        token = last.argmax(-1)
    return torch.stack(out, 1), torch.stack(found, 1)


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_does_the_same(name: str, tmp_path: Path) -> None:
    model = theirs(name, **TRAINING.get(name, {}))
    model.save_pretrained(tmp_path)
    ours: Any = seqdsl.load_checkpoint(tmp_path)
    x = tokens(2, TIME)
    parameters = dict(ours.named_parameters())
    table = parameters["table" if "table" in parameters else "embed.weight"]
    embedding = model.get_input_embeddings().weight
    mine: Tensor = ours(x)
    their: Tensor = model(x, use_cache=False).logits
    assert apart(mine, their) < SINGLE
    for logits in (mine, their):
        torch.autograd.backward((logits * noise(*logits.shape)).sum())
    assert apart(table.grad, embedding.grad) < 10 * SINGLE
    PARITY.layer = LAYERS[name]
    PARITY.note(apart(mine, their), apart(table.grad, embedding.grad))


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_generates_the_same(name: str, tmp_path: Path) -> None:
    """Their cache against our state, both after a prompt read at once."""
    model = theirs(name)
    model.save_pretrained(tmp_path)
    ours = seqdsl.load_checkpoint(tmp_path)
    for length in LENGTHS:
        continues_alike(model, ours, tokens(2, length))


def continues_alike(model: Any, ours: Any, prompt: Tensor) -> None:
    with torch.no_grad():
        out, logits = generated(ours, prompt)
        their = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=NEW,
            min_new_tokens=NEW,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            eos_token_id=None,
            pad_token_id=0,
        )
    assert torch.equal(out, their.sequences[:, prompt.shape[1] :])
    assert apart(logits, torch.stack(their.logits, 1)) < SINGLE


# ---- RWKV-7, by its authors' package


def rwkv7(layers: int, D: int, K: int, F: int) -> dict[str, Tensor]:
    """Random weights under the names of RWKV-LM."""
    shapes: dict[str, tuple[int, ...]] = {
        "emb.weight": (VOCAB, D),
        "head.weight": (VOCAB, D),
        "blocks.0.ln0.weight": (D,),
        "blocks.0.ln0.bias": (D,),
        "ln_out.weight": (D,),
        "ln_out.bias": (D,),
    }
    for l in range(layers):
        block, att, ffn = f"blocks.{l}.", f"blocks.{l}.att.", f"blocks.{l}.ffn."
        for name in ("ln1", "ln2", "att.ln_x"):
            shapes |= {f"{block}{name}.{part}": (D,) for part in ("weight", "bias")}
        shapes |= {f"{att}x_{n}": (1, 1, D) for n in "rwkvag"}
        for n, rank in (("w", 3), ("a", 4), *([("v", 5)] if l else [])):
            shapes |= {
                f"{att}{n}0": (1, 1, D),
                f"{att}{n}1": (D, rank),
                f"{att}{n}2": (rank, D),
            }
        shapes |= {f"{att}g1": (D, 6), f"{att}g2": (6, D)}
        shapes |= {f"{att}k_k": (1, 1, D), f"{att}k_a": (1, 1, D)}
        shapes |= {f"{att}r_k": (D // K, K), f"{ffn}x_k": (1, 1, D)}
        for n in ("receptance", "key", "value", "output"):
            shapes[f"{att}{n}.weight"] = (D, D)
        shapes |= {f"{ffn}key.weight": (F, D), f"{ffn}value.weight": (D, F)}
    return {
        name: (0.4 * noise(*shape, seed=i) + (".weight" in name and len(shape) == 1))
        .float()
        .contiguous()
        for i, (name, shape) in enumerate(shapes.items())
    }


def authors(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Their model of a file; what the package is to be is said by the environment."""
    for name, value in (("RWKV_V7_ON", "1"), ("RWKV_JIT_ON", "0")):
        monkeypatch.setitem(os.environ, name, value)
    monkeypatch.delitem(sys.modules, "rwkv.model", raising=False)
    return peer("rwkv.model", "rwkv").RWKV(
        str(path.with_suffix("")), strategy="cpu fp32"
    )


def listed(x: Tensor) -> list[int]:
    return [int(token) for token in x]


def test_rwkv7_does_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, and continued from the state; the package runs one sequence at a time."""
    path = tmp_path / "rwkv7.pth"
    torch.save(rwkv7(layers=3, D=16, K=8, F=24), path)
    model = authors(path, monkeypatch)
    ours: Any = seqdsl.load_checkpoint(path, layout="rwkv7")
    x = tokens(TIME)
    their, _ = model.forward(listed(x), None, full_output=True)
    assert apart(ours(x[None])[0].detach(), their) < SINGLE
    for length in LENGTHS:
        their, state = model.forward(listed(x[:length]), None)
        _, own = ours(x[None, :length], return_state=True)
        for token in x[length:]:
            their, state = model.forward([int(token)], state)
            logits, own = ours.step(token[None], own)
            assert apart(logits[0].detach(), their) < SINGLE

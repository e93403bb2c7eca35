"""The generated text, as a reader sees it.

Run with `UPDATE_GOLDEN=1` to write the files in `tests/golden/torch` anew.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from seqdsl.backends.torch import compile_model
from seqdsl.elaborate import elaborate, elaborate_text, load_std
from seqdsl.elaborate.program import std_names

SPECS = Path(__file__).with_name("torch_specs")
GOLDEN = Path(__file__).parents[1] / "golden" / "torch"
NAMES = ("gru", "gateddeltanet", "birnn", "lm", "depthrecurrent", "moe", "halt")


@pytest.mark.parametrize("name", NAMES)
def test_text(name: str) -> None:
    text = compile_model(
        elaborate_text((SPECS / f"{name}.seq").read_text("utf-8"))
    ).text
    path = GOLDEN / f"{name}.py"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_text_is_the_same_every_time(name: str) -> None:
    spec = (SPECS / f"{name}.seq").read_text("utf-8")
    first, second = (compile_model(elaborate_text(spec)).text for _ in range(2))
    assert first == second


@pytest.mark.parametrize("file", std_names())
def test_text_of_the_library_is_the_same_every_time(file: str) -> None:
    """Its last layer's, read anew each time."""
    texts = list[str]()
    for _ in range(2):
        program = load_std(file)
        texts.append(compile_model(elaborate(program, program.layers[-1]).model).text)
    assert texts[0] == texts[1]
    compile(texts[0], f"{file}.py", "exec")

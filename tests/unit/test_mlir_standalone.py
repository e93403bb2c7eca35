"""MLIR text and object code of a layer, run from a C program that has nothing of ours."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

import seqdsl
from seqdsl.elaborate import elaborate, load_text
from seqdsl.native.load import available
from seqdsl.native.standalone import mlir_text, write_objects

pytestmark = pytest.mark.skipif(not available(), reason="torch-mlir is not installed")

SPEC = """\
layer Decay(heads, K, V):
    input a: [heads, K]
    input k: [heads, K]
    input v: [heads, V]
    state S: [heads, K, V] = 0
    S = sigmoid(a) * S[t-1] + k * v
    output y = dot[K](k, S)
"""
SIZES = {"heads": 2, "K": 5, "V": 19}

PROGRAM = """\
#include <stdio.h>
#include <stdlib.h>
#include "decay.h"

static float *read_floats(const char *path, long count)
{
    float *values = malloc(count * sizeof(float));
    FILE *file = fopen(path, "rb");
    if (!file || fread(values, sizeof(float), count, file) != (size_t)count) exit(1);
    fclose(file);
    return values;
}

int main(void)
{
    enum { batch = 3, time = 7, heads = 2, K = 5, V = 19 };
    float *a = read_floats("a.bin", batch * time * heads * K);
    float *k = read_floats("k.bin", batch * time * heads * K);
    float *v = read_floats("v.bin", batch * time * heads * V);
    float *first = calloc(batch * heads * K * V, sizeof(float));
    float *y = malloc(batch * time * heads * V * sizeof(float));
    float *last = malloc(batch * heads * K * V * sizeof(float));
    Decay_S(batch, time, a, k, v, first, y, last);
    FILE *file = fopen("y.bin", "wb");
    fwrite(y, sizeof(float), batch * time * heads * V, file);
    return fclose(file);
}
"""


def _write(tensor: Tensor, path: Path) -> None:
    numbers: list[float] = tensor.flatten().tolist()  # pyright: ignore
    path.write_bytes(struct.pack(f"{len(numbers)}f", *numbers))


def test_a_c_program_runs_the_object_code(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    model = elaborate(load_text(SPEC, "decay.seq", None), "Decay", SIZES).model
    found = write_objects(model, SIZES, tmp_path / "decay.o")
    assert found == tmp_path / "decay.h"
    (tmp_path / "main.c").write_text(PROGRAM)
    command = [compiler, "main.c", "decay.o", "-o", "main", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    inputs = [torch.randn(3, 7, 2, n) for n in (5, 5, 19)]
    for name, tensor in zip("akv", inputs, strict=True):
        _write(tensor, tmp_path / f"{name}.bin")
    subprocess.run([tmp_path / "main"], cwd=tmp_path, check=True)
    raw = bytearray((tmp_path / "y.bin").read_bytes())
    y = torch.frombuffer(raw, dtype=torch.float32).view(3, 7, 2, 19)
    expected = seqdsl.loads(SPEC).Decay(heads=2, K=5, V=19, target="torch")(*inputs)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)


def test_the_text_is_made_without_torch_mlir() -> None:
    model = elaborate(load_text(SPEC, "decay.seq", None), "Decay", SIZES).model
    text = mlir_text(model, SIZES)
    assert text.startswith("module {\n  func.func @Decay_S(")
    assert "vector<16xf32>" in text or "vector<8xf32>" in text or "x4xf32" in text


def test_a_layer_without_a_loop_is_refused() -> None:
    spec = "layer Sum(D):\n    input x: [D]\n    output x + 1\n"
    model = elaborate(load_text(spec, "sum.seq", None), "Sum", {"D": 2}).model
    with pytest.raises(seqdsl.UnsupportedError, match="no loop along time"):
        mlir_text(model, {"D": 2})

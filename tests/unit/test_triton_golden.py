"""The generated text, as a reader sees it: what there is in a file, and its layer.

The kernels are texts of `backends/triton/kernels`, so only their names are shown. Run with
`UPDATE_GOLDEN=1` to write the files in `tests/golden/triton` anew.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is there for Linux only")

from seqdsl.backends.triton import compile_model
from seqdsl.elaborate import elaborate_text

SPECS = Path(__file__).with_name("torch_specs")
GOLDEN = Path(__file__).parents[1] / "golden" / "triton"
NAMES = ("gateddeltanet", "mlstm")
SHOWN = ("_scanned", "_scanned_in", "_chunkwise")


def outline(text: str) -> Iterator[str]:
    """Names in order; in full what puts calls to kernels, and the layer."""
    for node in ast.parse(text).body:
        match node:
            case ast.FunctionDef(name=name) if name not in SHOWN:
                jit = any("triton.jit" in ast.unparse(d) for d in node.decorator_list)
                yield f"# {'kernel' if jit else 'function'} {name}"
            case ast.ClassDef(name=name) if "nn.Module" not in map(
                ast.unparse, node.bases
            ):
                yield f"# class {name}"
            case ast.Assign() | ast.AnnAssign() | ast.Expr():
                pass
            case _:
                yield ast.get_source_segment(text, node) or ""


@pytest.mark.parametrize("name", NAMES)
def test_text(name: str) -> None:
    spec = (SPECS / f"{name}.seq").read_text("utf-8")
    text = compile_model(elaborate_text(spec)).text
    assert text == compile_model(elaborate_text(spec)).text
    found = "\n".join(outline(text)) + "\n"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, "utf-8")
    assert found == path.read_text("utf-8")


def test_kernels_and_helpers_of_torch_have_names_of_their_own() -> None:
    """A file may have both."""
    from seqdsl.backends.torch import helpers
    from seqdsl.backends.triton import assemble

    kernels = [n for d, _, _ in assemble._statements().values() for n in d]
    assert len(kernels) == len(set(kernels))
    assert not set(kernels) & set(helpers._definitions())

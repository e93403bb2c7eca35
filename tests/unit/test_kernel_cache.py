"""Compiled kernels are kept between processes, whatever happens to the files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import seqdsl
from seqdsl.backends.mlir import compiled as module
from seqdsl.backends.mlir.errors import KernelError
from seqdsl.backends.mlir.machine import machine
from seqdsl.backends.mlir.objects import load_object, loadable
from seqdsl.backends.mlir.run import Native
from seqdsl.elaborate import elaborate, load_text
from seqdsl.native.artifact import native_artifact
from seqdsl.native.load import available
from seqdsl.runtime import cache
from seqdsl.schedule.region import Region
from seqdsl.schedule.sized import bound

needs_compiler = pytest.mark.skipif(
    not (available() and loadable()), reason="torch-mlir is not installed"
)

SPEC = """\
layer Decay(H):
    input a: [H]
    state h: [H] = 0
    h = sigmoid(a) * h[t-1] + a
    output h
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEQDSL_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


def region() -> Region:
    model = elaborate(load_text(SPEC, "decay.seq", None), "Decay", {"H": 19}).model
    (found,) = native_artifact(model).regions.values()
    return bound(found, {"H": 19})


def kernels(folder: Path) -> list[Path]:
    """What is kept of kernels."""
    return list(folder.glob("kernel-*"))


def run() -> None:
    """The kernel computes what torch does."""
    a = torch.randn(3, 11, 19)
    h, _ = Native(region())((a, torch.zeros(3, 19)), 3, 11, torch.float32)
    expected = seqdsl.loads(SPEC).Decay(H=19, target="torch")(a)
    torch.testing.assert_close(h, expected)


@needs_compiler
def test_what_was_compiled_once_is_not_compiled_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    assert len(kernels(folder)) == 1

    def refuse(text: str, name: str) -> Any:
        raise AssertionError(f"{name} is compiled again")

    monkeypatch.setattr(module, "compile_text", refuse)
    run()


@needs_compiler
@pytest.mark.parametrize("damage", ["empty", "short", "flipped", "foreign"])
def test_damaged_files_are_made_again(folder: Path, damage: str) -> None:
    run()
    (path,) = kernels(folder)
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    bad = {"empty": b"", "short": good[:-9], "flipped": bytes(flipped)}
    if damage == "foreign":
        cache.store(path.name, b"what no kernel is")
    else:
        path.write_bytes(bad[damage])
    run()
    data = cache.load(path.name)
    assert data is not None and len(data) + 32 == len(good)


@needs_compiler
def test_processes_do_not_disturb_each_other(folder: Path) -> None:
    """They compile and store at the same time, and all compute the same."""
    program = (
        "import torch, seqdsl\n"
        f"layer = seqdsl.loads({SPEC!r}).Decay(H=19, target='mlir')\n"
        "print(float(layer(torch.ones(2, 5, 19)).sum()))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    printed = {p.communicate()[0] for p in running}
    assert all(p.returncode == 0 for p in running)
    assert len(printed) == 1
    # one name for all, although each process orders its sets anew; no drafts left
    kinds = sorted(p.name.partition("-")[0] for p in folder.iterdir())
    assert kinds == ["kernel", "layer", "spec"]


def test_nothing_is_kept_where_the_variable_is_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEQDSL_CACHE", "")
    cache.store("name", b"data")
    assert cache.folder() is None and cache.load("name") is None


def test_a_folder_that_cannot_be_written_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEQDSL_CACHE", str(tmp_path / "file" / "below"))
    cache.store("name", b"data")
    assert cache.load("name") is None


def test_the_folder_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_MOST", 50_000)
    for i in range(100):
        cache.store(f"entry{i}", bytes(1000))
        os.utime(folder / f"entry{i}", (i, i))
    assert 0 < sum(size for _, size, _ in cache.files()) <= 50_000 + 32 * 1032
    assert cache.load("entry99") == bytes(1000) and cache.load("entry0") is None
    kept = len(list(folder.iterdir()))
    assert cache.clear() == kept and not list(folder.iterdir())


@needs_compiler
def test_what_is_no_object_code_is_refused() -> None:
    for data in (b"", b"\x7fELF\x02\x01", bytes(200), b"\x7fELF\x02\x01" + bytes(60)):
        with pytest.raises(KernelError):
            load_object(data)


@needs_compiler
def test_hosts_do_not_share_kernels(folder: Path) -> None:
    """Another width of vectors is another kernel."""
    for lanes in (8, 16):
        host = machine(32, "f32")
        host = type(host)(lanes, host.bits, host.registers, host.storage)
        module.compiled(region(), host, 1, False)
    assert len(kernels(folder)) == 2

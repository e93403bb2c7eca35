"""Imports: the standard library, files beside a spec, prefixes, circles and escapes."""

from __future__ import annotations

from pathlib import Path

import pytest
from elaborating import model

from seqdsl.diagnostics import Diagnostic, SpecError
from seqdsl.elaborate import (
    elaborate,
    load_file,
    load_std,
    load_text,
    unused_imports,
)
from seqdsl.elaborate.program import std_names

INNER = """layer Inner(D):
    input x: [D]
    output helper(x) + linear(x, D)

def helper(x):
    2 * x
"""
OUTER = "layer Outer(D):\n    input x: [D]\n    output {call}(x)\n"


def write(folder: Path, **files: str) -> Path:
    """A folder with spec files by their names (`a_b` stands for `a/b`)."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.seq"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def refused(path: Path) -> Diagnostic:
    """The one finding about a file that does not load."""
    with pytest.raises(SpecError) as caught:
        load_file(path)
    (found,) = caught.value.diagnostics
    return found


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("import inner", "Inner"),
        ("import inner: Inner", "Inner"),
        ("import inner as i", "i.Inner"),
        ("import inner: helper, Inner", "Inner"),
    ],
)
def test_files_beside_a_spec(tmp_path: Path, line: str, call: str) -> None:
    text = f"{line}\n\n{OUTER.format(call=call)}"
    write(tmp_path, inner=INNER, outer=text)
    for program in (
        load_file(tmp_path / "outer.seq"),
        load_text(text, folder=tmp_path),
    ):
        found = elaborate(program, "Outer").model
        assert [i.name for i in found.instances] == ["out"]


def test_a_folder_below(tmp_path: Path) -> None:
    write(
        tmp_path,
        parts__inner=INNER,
        outer="import parts.inner\n\n" + OUTER.format(call="Inner"),
    )
    assert elaborate(load_file(tmp_path / "outer.seq"), "Outer").model.instances


def test_importing_a_file_does_not_import_what_it_imports(tmp_path: Path) -> None:
    write(
        tmp_path,
        inner=INNER,
        middle="import inner\n\n" + OUTER.format(call="Inner").replace("Outer", "Mid"),
        outer="import middle\n\n" + OUTER.format(call="Inner"),
    )
    with pytest.raises(SpecError, match="unknown operator, def or layer `Inner`"):
        elaborate(load_file(tmp_path / "outer.seq"), "Outer")


def test_missing_files_and_names_are_marked(tmp_path: Path) -> None:
    write(tmp_path, inner=INNER, outer="import iner\n")
    found = refused(tmp_path / "outer.seq")
    assert (found.code, found.help) == ("E0102", ("did you mean `inner`?",))
    write(tmp_path, outer="import inner: Iner\n")
    found = refused(tmp_path / "outer.seq")
    assert (found.code, found.help) == ("E0114", ("did you mean `Inner`?",))
    assert found.span is not None
    assert found.span.text == "Iner"


def test_an_unknown_name_behind_a_prefix(tmp_path: Path) -> None:
    write(tmp_path, inner=INNER)
    text = "import inner as i\n\n" + OUTER.format(call="i.Iner")
    with pytest.raises(SpecError, match="E0114"):
        model(text, folder=tmp_path)


def test_circles_are_printed(tmp_path: Path) -> None:
    write(tmp_path, a="import b\n", b="import c\n", c="import a\n")
    found = refused(tmp_path / "a.seq")
    assert found.code == "E0103"
    assert "a.seq → b.seq → c.seq → a.seq" in found.message
    write(tmp_path, own="import own\n")
    assert refused(tmp_path / "own.seq").code == "E0103"


def test_the_same_file_from_two_sides_is_no_circle(tmp_path: Path) -> None:
    both = "import left: L\nimport right: R\n\n" + OUTER.format(call="L")
    left = "import inner\n\n" + OUTER.format(call="Inner").replace("Outer", "L")
    right = left.replace("layer L", "layer R")
    write(tmp_path, inner=INNER, left=left, right=right, outer=both)
    program = load_file(tmp_path / "outer.seq")
    assert elaborate(program, "Outer").model.outputs
    (unused,) = unused_imports(program)
    assert unused.code == "W0103"
    assert "right" in unused.message


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", secret=INNER)
    inside = write(tmp_path / "inside", outer="import secret\n")
    (inside / "secret.seq").symlink_to(outside / "secret.seq")
    assert refused(inside / "outer.seq").code == "E0104"
    (inside / "away").symlink_to(outside, target_is_directory=True)
    write(inside, outer="import away.secret\n")
    assert refused(inside / "outer.seq").code == "E0104"


def test_links_within_the_folder_are_fine(tmp_path: Path) -> None:
    write(tmp_path, inner=INNER, outer="import alias\n\n" + OUTER.format(call="Inner"))
    (tmp_path / "alias.seq").symlink_to(tmp_path / "inner.seq")
    assert elaborate(load_file(tmp_path / "outer.seq"), "Outer").model.instances


def test_text_without_a_folder_imports_only_the_library() -> None:
    with pytest.raises(SpecError, match="this text has no folder"):
        load_text("import inner\n")
    assert load_text("import std.prelude: Block\n").main.scope


def test_every_file_of_the_library_loads_and_can_be_imported() -> None:
    for name in std_names():
        program = load_std(name)
        again = load_text(f"import std.{name} as s\n")
        assert "s" in again.main.scope
        assert all(layer for layer in program.layers)


def test_library_files_that_do_not_exist() -> None:
    for line in ("import std.nothing", "import std", "import std.prelude.deep"):
        with pytest.raises(SpecError, match="E0102"):
            load_text(f"{line}\n")


def test_names_from_two_imports_meet(tmp_path: Path) -> None:
    write(tmp_path, a=INNER, b=INNER, outer="import a\nimport b\n")
    with pytest.raises(SpecError, match="E0105"):
        load_file(tmp_path / "outer.seq")


def test_own_layers_and_imports_do_not_share_names(tmp_path: Path) -> None:
    write(tmp_path, a=INNER, outer="import a: Inner\n\n" + INNER)
    assert refused(tmp_path / "outer.seq").code == "E0105"

"""The shape of the tree: links, the direction of imports, what `check` may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINKS = ("grammar", "backends", "stdlib", "docs")
FOLDERS = ("seqdsl", "grammar", "backends", "stdlib")

# Lower ranks may not import higher ones. `backends.*` folders share a rank and may not
# import each other.
RANKS = (
    ("source", "terminal", "diagnostics", "report"),
    ("grammar", "stdlib", "docs"),
    ("syntax", "ir"),
    ("elaborate", "rewrite", "differentiate", "analysis"),
    ("schedule",),
    ("runtime",),
    ("backends",),
    ("native",),
    ("codes", "locate"),
    ("driver",),
    ("prepared",),
    ("api", "checkpoints", "testing", "viz", "viz_layout"),
    ("bench",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
HEAVY = ("torch", "triton", "torch_mlir")
MAY_BE_HEAVY = ("backends", "native", "runtime", "testing", "bench")


def sources() -> list[Path]:
    """Every Python file of the package, by its real path."""
    return [p for folder in FOLDERS for p in real_files(ROOT / folder)]


def real_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            yield from real_files(path)
        elif path.suffix == ".py":
            yield path


def parts_of(path: Path) -> tuple[str, ...]:
    """The dotted name below `seqdsl` of a file, whichever folder it lives in."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1:] if parts[0] == "seqdsl" else parts


def imports(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Line and dotted name of each import, and whether it runs when loading."""
    tree = ast.parse(path.read_text("utf-8"))
    for node, at_load in walk(tree, True):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name, at_load) for alias in names)
            case ast.ImportFrom(module=module, level=level, names=names):
                base = "." * level + (module or "")
                for alias in names:
                    yield node.lineno, f"{base}.{alias.name}", at_load
            case _:
                pass


def walk(node: ast.AST, at_load: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        late = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing_only = isinstance(child, ast.If) and ast.unparse(child.test) in (
            "TYPE_CHECKING",
            "typing.TYPE_CHECKING",
        )
        here = at_load and not late and not typing_only
        yield child, here
        yield from walk(child, here)


@pytest.mark.parametrize("name", LINKS)
def test_links_lead_to_the_top_folders(name: str) -> None:
    link = ROOT / "seqdsl" / name
    cause = "a checkout with git's core.symlinks=false turns links into text files"
    assert link.is_dir(), f"{link} is not a link to ../{name}: {cause}"
    assert link.resolve() == (ROOT / name).resolve(), cause


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    mine = parts_of(path)
    for line, name, at_load in imports(path):
        place = f"{path.relative_to(ROOT)}:{line} imports {name}"
        assert not name.startswith("."), f"{place}: relative"
        top, *rest = name.split(".")
        assert top not in LINKS, f"{place}: import seqdsl.{top}"
        if top in HEAVY and at_load:
            assert mine[0] in MAY_BE_HEAVY, f"{place}: heavy"
        if top != "seqdsl" or not rest or rest[0] not in RANK or mine[0] not in RANK:
            continue
        if mine[0] == "diagnostics" and rest[0] == "report":
            continue  # only to print an error, when it is printed
        assert RANK[rest[0]] <= RANK[mine[0]], f"{place}: the wrong way"
        if mine[0] == rest[0] == "backends":
            apart = set(mine[1:2]) | {"base", "__init__"}
            if mine[1:2] == ("triton",):
                apart.add("torch")  # its modules are torch modules with kernels in them
            assert not rest[2:] or rest[1] in apart, f"{place}: backends are apart"


def test_every_part_has_a_rank() -> None:
    parts = {parts_of(p)[0] for p in sources()} - {"__init__"}
    assert parts <= RANK.keys()


def test_check_imports_nothing_heavy() -> None:
    script = (
        "import sys; from seqdsl.cli import app\n"
        "try: app(['check', 'std.mingru'])\n"
        "finally: print(sorted({m.split('.')[0] for m in sys.modules}))\n"
    )
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = run.stdout.splitlines()[-1]
    assert "'seqdsl'" in loaded
    for name in (*HEAVY, "numpy", "rich"):
        assert f"'{name}'" not in loaded


def test_parameters_cannot_hide_what_a_torch_module_has() -> None:
    import torch

    from seqdsl.elaborate.keys import MODULE_ATTRIBUTES

    names = {*dir(torch.nn.Module), *vars(torch.nn.Module())}
    assert {n for n in names if not n.startswith("__")} <= MODULE_ATTRIBUTES

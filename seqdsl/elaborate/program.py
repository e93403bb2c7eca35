"""Files of a spec: loading, imports, and which declaration a name means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path

from seqdsl.diagnostics import Diagnostic, Label, SpecError
from seqdsl.source import Source, Span
from seqdsl.syntax import ast
from seqdsl.syntax.parse import parse
from seqdsl.syntax.read import read

PRELUDE = "prelude"


Declared = ast.LayerDecl | ast.DefDecl | ast.MonoidDecl | ast.ExternDecl


@dataclass(frozen=True)
class Binding:
    """A layer, def or extern together with the file that declares it."""

    file: File
    decl: Declared


@dataclass
class File:
    """A parsed file and what its top-level names mean.

    `uses` records names that were looked up, for warnings about unused imports.
    """

    spec: ast.Spec
    folder: Path | None
    key: str
    scope: dict[str, Binding | File] = field(
        default_factory=dict[str, "Binding | File"]
    )
    imported: dict[str, ast.Import] = field(default_factory=dict[str, ast.Import])
    uses: set[str] = field(default_factory=set[str])

    def lookup(self, name: str) -> Binding | File | None:
        """What `name` means at the top level here, the prelude included."""
        found = self.scope.get(name)
        if found is not None:
            self.uses.add(name)
            return found
        return None if self.key == f"std.{PRELUDE}" else prelude().scope.get(name)

    def names(self) -> list[str]:
        """Every name that `lookup` knows."""
        extra = [] if self.key == f"std.{PRELUDE}" else [*prelude().scope]
        return [*self.scope, *extra]


@dataclass(frozen=True)
class Program:
    """A spec with everything it imports."""

    main: File

    @property
    def spec(self) -> ast.Spec:
        """The file that was asked for."""
        return self.main.spec

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of its own layers in file order."""
        return tuple(layer.name for layer in self.spec.layers)


def suggest(name: str, known: Mapping[str, object] | list[str] | set[str]) -> str:
    """`did you mean …?`, or an empty text."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else ""


@cache
def prelude() -> File:
    """The file whose names every spec knows."""
    return _load_std(PRELUDE, ())


def std_source(path: str) -> Source | None:
    """The text of `std.<path>`, or None where there is no such file."""
    if not all(part.isidentifier() for part in path.split(".")):
        return None
    resource = files("seqdsl.stdlib").joinpath(f"{path.replace('.', '/')}.seq")
    if not resource.is_file():
        return None
    return Source(f"std/{path.replace('.', '/')}.seq", resource.read_text("utf-8"))


def std_names() -> tuple[str, ...]:
    """Names of the standard library's files, without the prelude."""
    entries = files("seqdsl.stdlib").iterdir()
    names = (e.name.removesuffix(".seq") for e in entries if e.name.endswith(".seq"))
    return tuple(sorted(n for n in names if n != PRELUDE))


def load_text(text: str, name: str = "<text>", folder: Path | None = None) -> Program:
    """Parse `text`; imports of files are looked up in `folder`.

    Raises `SpecError` for syntax errors and imports that do not resolve.
    """
    source = Source(name, text)
    return Program(_load(source, folder, folder, name, ()))


def load_file(path: Path) -> Program:
    """Parse the file at `path` and what it imports.

    Raises `OSError` where it cannot be read, `SpecError` where it is wrong.
    """
    folder = path.resolve().parent
    key = str(path.resolve())
    return Program(_load(read(path), folder, folder, key, ()))


def load_std(path: str) -> Program:
    """The program of the standard-library file `std.<path>`.

    Raises `SpecError` (E0102) where there is none.
    """
    return Program(_load_std(path, ()))


@cache
def _load_std(path: str, chain: tuple[str, ...]) -> File:
    source = std_source(path)
    if source is None:
        message = f"the standard library has no `std.{path}`"
        hint = suggest(path, list(std_names())) or "see `seqdsl list`"
        raise SpecError([Diagnostic("E0102", message, None, (), (hint,))])
    return _load(source, None, None, f"std.{path}", chain)


def _load(
    source: Source,
    folder: Path | None,
    root: Path | None,
    key: str,
    chain: tuple[str, ...],
) -> File:
    file = File(parse(source), folder, key)
    problems: list[Diagnostic] = []
    for decl in file.spec.declarations:
        try:
            match decl:
                case ast.Import():
                    _bind_import(file, decl, root, (*chain, key))
                case _:
                    _bind(file, decl.name, Binding(file, decl), _name_span(decl))
        except SpecError as error:
            problems.extend(error.diagnostics)
    if problems:
        raise SpecError(problems)
    return file


def _name_span(decl: Declared) -> Span:
    start = decl.span.start
    text = decl.span.source.text
    found = text.find(decl.name, start)
    return Span(decl.span.source, found, found + len(decl.name))


def _bind(file: File, name: str, value: Binding | File, span: Span) -> None:
    old = file.scope.get(name)
    if isinstance(old, Binding) and old.file is file or name in file.imported:
        labels = (
            (Label(_name_span(old.decl), "first defined here"),)
            if isinstance(old, Binding) and old.file is file
            else (Label(file.imported[name].span, "first imported here"),)
        )
        diagnostic = Diagnostic(
            "E0105", f"`{name}` is already defined", span, labels, ("rename one",)
        )
        raise SpecError([diagnostic])
    file.scope[name] = value


def _bind_import(
    file: File, decl: ast.Import, root: Path | None, chain: tuple[str, ...]
) -> None:
    target = _resolve(file, decl, root, chain)
    if decl.alias is not None:
        _bind(file, decl.alias, target, decl.span)
        file.imported[decl.alias] = decl
        return
    own = {n: b for n, b in target.scope.items() if isinstance(b, Binding)}
    wanted = {n.id: n.span for n in decl.names} or {n: decl.span for n in own}
    for name, span in wanted.items():
        if name not in own:
            hint = suggest(name, own) or f"it has: {', '.join(own) or 'nothing'}"
            message = f"`{'.'.join(decl.path)}` has no layer or def `{name}`"
            raise SpecError([Diagnostic("E0114", message, span, (), (hint,))])
        if not decl.names and own[name].file is not target:
            continue
        _bind(file, name, own[name], span)
        file.imported[name] = decl


def _resolve(
    file: File, decl: ast.Import, root: Path | None, chain: tuple[str, ...]
) -> File:
    dotted = ".".join(decl.path)
    if decl.path[0] == "std":
        rest = ".".join(decl.path[1:])
        if f"std.{rest}" in chain:
            _refuse_cycle(decl, chain, f"std.{rest}")
        source = std_source(rest) if rest else None
        if source is None:
            hint = suggest(rest, list(std_names())) or "see `seqdsl list`"
            raise SpecError(
                [Diagnostic("E0102", f"there is no `{dotted}`", decl.span, (), (hint,))]
            )
        return _load_std(rest, chain if file.key.startswith("std.") else ())
    return _resolve_beside(file, decl, root, chain)


def _resolve_beside(
    file: File, decl: ast.Import, root: Path | None, chain: tuple[str, ...]
) -> File:
    dotted = ".".join(decl.path)
    if file.folder is None or root is None:
        help_ = ("load the spec from a file, so that its folder is known",)
        message = f"`{dotted}` cannot be found: this text has no folder"
        raise SpecError([Diagnostic("E0102", message, decl.span, (), help_)])
    path = root.joinpath(*decl.path).with_suffix(".seq")
    real = path.resolve()
    if not real.is_relative_to(root.resolve()):
        help_ = ("keep imported files in the spec's own folder or below it",)
        message = f"`{dotted}` leads out of the folder of the spec"
        raise SpecError([Diagnostic("E0104", message, decl.span, (), help_)])
    if not real.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.seq"))
        hint = suggest(decl.path[-1], known) or f"expected the file {path}"
        message = f"`{dotted}` is not a file beside this spec"
        raise SpecError([Diagnostic("E0102", message, decl.span, (), (hint,))])
    if str(real) in chain:
        _refuse_cycle(decl, chain, str(real))
    return _load(read(real, str(path)), real.parent, root, str(real), chain)


def _refuse_cycle(decl: ast.Import, chain: tuple[str, ...], key: str) -> None:
    circle = [*chain[chain.index(key) :], key]
    shown = " → ".join(Path(k).name if "/" in k else k for k in circle)
    help_ = ("move what both need into a third file",)
    message = f"files import each other: {shown}"
    raise SpecError([Diagnostic("E0103", message, decl.span, (), help_)])

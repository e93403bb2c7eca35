"""`show`, `compile` and `viz`: commands that make something of a layer."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from seqdsl import driver, report
from seqdsl.commands.inspect import layer_json
from seqdsl.commands.outcome import (
    OK,
    Request,
    elaborate_request,
    print_json,
    write_atomically,
)
from seqdsl.diagnostics import CallError, Diagnostic, SpecError
from seqdsl.ir.bind import bind_sizes, with_defaults

Files = Mapping[str, str]
Diagnostics = tuple[Diagnostic, ...]

STAGES = ("ast", "ir", "verdict", "schedule", "adjoint", "torch", "mlir", "triton")


def show(request: Request, stage: str) -> int:
    """Print one stage of one layer (of the whole file, for `ast`)."""
    if stage not in STAGES:
        raise CallError(f"there is no stage `{stage}`; stages: {', '.join(STAGES)}")
    print(_stage_text(request, stage), end="")
    return OK


def _stage_text(request: Request, stage: str) -> str:
    if stage == "ast":
        from seqdsl.syntax.text import spec_text

        return spec_text(driver.load(request.file)[0].spec)
    if stage in ("torch", "triton"):
        return "\n".join(_artifact(request, stage)[0].values())
    elaborated = elaborate_request(request)
    match stage:
        case "ir":
            from seqdsl.ir.text import model_text

            return model_text(elaborated.model)
        case "verdict":
            import json

            analyzed = driver.analyze(elaborated.model)
            found = layer_json(elaborated.model.name, analyzed)
            return json.dumps(found, indent=2) + "\n"
        case "mlir":
            from seqdsl.native.standalone import mlir_text

            return mlir_text(elaborated.model, request.given)
        case "adjoint":
            from seqdsl.differentiate.adjoint import adjoint
            from seqdsl.differentiate.text import adjoint_text

            return adjoint_text(adjoint(elaborated.model))
        case _:
            from seqdsl.schedule.choose import wish_of
            from seqdsl.schedule.make import plan
            from seqdsl.schedule.text import plan_text

            wish = wish_of(request.strategy)
            return plan_text(plan(driver.analyze(elaborated.model).model, wish))


def _artifact(request: Request, target: str) -> tuple[Files, Diagnostics]:
    """The files of a layer, and what there is to warn about.

    Options given become the defaults of the module's own; one that has no default yet
    may be left to whoever makes the module.
    """
    elaborated = elaborate_request(request)
    model, given = elaborated.model, request.given
    try:
        bind_sizes(model, given)
    except SpecError as error:
        wrong = [d for d in error.diagnostics if d.code != "E0501"]
        if wrong:
            raise SpecError(wrong) from None
    settled = replace(elaborated, model=with_defaults(model, given))
    files = driver.artifact(settled, target, request.strategy).files
    return files, elaborated.warnings


def _compile_mlir(request: Request, out: Path | None, dialect: str) -> int:
    """MLIR text, or object code with a header where `out` ends in `.o`."""
    from seqdsl.native.standalone import mlir_text, write_objects

    model = elaborate_request(request).model
    if out is not None and out.suffix == ".o":
        print(f"{out}\n{write_objects(model, request.given, out)}")
    elif out is None:
        print(mlir_text(model, request.given, dialect), end="")
    elif out.suffix == ".mlir":
        write_atomically(out, mlir_text(model, request.given, dialect))
        print(f"wrote {out}")
    else:
        raise CallError(f"-o {out}: the target `mlir` writes .mlir or .o")
    return OK


def compile_(
    request: Request, target: str, out: Path | None, json: bool, dialect: str = "vector"
) -> int:
    """Write the artifact of a layer to `out`, or to standard output."""
    if target == "mlir":
        return _compile_mlir(request, out, dialect)
    if dialect != "vector":
        raise CallError(f"--dialect {dialect} is of the target `mlir`")
    files, found = _artifact(request, target)
    if not json:
        report.show(found)
    if out is None:
        print("\n".join(files.values()), end="")
        return OK
    if len(files) == 1:
        places = dict(zip([out], files.values(), strict=True))
    else:
        out.mkdir(parents=True, exist_ok=True)
        places = {out / name: text for name, text in files.items()}
    for path, text in places.items():
        write_atomically(path, text)
    if json:
        warnings = [report.to_json(d) for d in found]
        written = [str(path) for path in places]
        print_json({"files": written, "diagnostics": warnings})
    else:
        for path in places:
            print(f"wrote {path}")
    return OK


def viz(request: Request, out: Path | None) -> int:
    """Write the picture of a layer to `out`, or to standard output."""
    from seqdsl.viz import svg

    written = elaborate_request(request).model
    analyzed = driver.analyze(written)
    # Gradients are shown as written; calls that a recurrence goes through are opened.
    whole = written.calls == analyzed.model.calls
    text = svg(written if whole else analyzed.model, analyzed.verdicts)
    if out is None:
        sys.stdout.write(text)
        return OK
    write_atomically(out, text)
    print(f"wrote {out}")
    return OK

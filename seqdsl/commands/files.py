"""`fmt` and `new`: commands about files of specs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from seqdsl import report
from seqdsl.commands.outcome import (
    OK,
    WRONG_CALL,
    WRONG_SPEC,
    code_of,
    print_json,
    write_atomically,
)
from seqdsl.diagnostics import CallError, Diagnostic, SpecError
from seqdsl.source import Source
from seqdsl.terminal import visible

# ---- fmt


def fmt(files: list[str], check: bool, json: bool) -> int:
    """Format each file; with `check`, only say which would change."""
    changed: list[str] = []
    problems: list[Diagnostic] = []
    unread: list[dict[str, str]] = []
    for name in files:
        try:
            if _format(Path(name), check):
                changed.append(name)
                _say(f"{'would reformat' if check else 'reformatted'} {name}", json)
        except SpecError as error:
            problems.extend(error.diagnostics)
        except OSError as error:
            why = error.strerror or str(error)
            unread.append({"file": name, "error": why})
            if not json:
                print(f"seqdsl: {visible(f'{name}: {why}')}", file=sys.stderr)
    if json:
        rows = [report.to_json(d) for d in problems]
        print_json({"changed": changed, "diagnostics": rows, "unread": unread})
    else:
        report.show(problems)
    if unread:
        return WRONG_CALL
    return code_of(tuple(problems)) or (WRONG_SPEC if check and changed else OK)


def _say(text: str, json: bool) -> None:
    if not json:
        print(text)


def _format(path: Path, check: bool) -> bool:
    """Whether `path` was, or would be, changed."""
    from seqdsl.syntax.format import format_spec
    from seqdsl.syntax.parse import parse

    old = path.read_bytes().decode("utf-8", errors="replace")
    new = format_spec(parse(Source(str(path), old.removeprefix("\ufeff"))))
    if new == old:
        return False
    if not check:
        write_atomically(path, new)
    return True


# ---- new

SPEC = """\
# {layer}: a gated recurrence to start from. `seqdsl explain {name}.seq` says what it is.

layer {layer}(D, H = D):
    input x: [D]
    state h: [H] = 0
    z = sigmoid(linear(x, H))  # how much of the step is taken
    h = (1 - z) * h[t-1] + z * linear(x, H)
    output h
"""

TEST = '''\
"""{layer} does the same for a whole sequence as step by step."""

from pathlib import Path

import torch

import seqdsl


def test_steps_equal_the_whole() -> None:
    spec = seqdsl.load(Path(__file__).with_name("{name}.seq"))
    layer = spec.{layer}(D=8)
    x = torch.randn(2, 5, 8)
    state = layer.initial_state(batch=2)
    steps = []
    for t in range(5):
        y, state = layer.step(x[:, t], state)
        steps.append(y)
    torch.testing.assert_close(torch.stack(steps, 1), layer(x))
'''


def new(name: str) -> int:
    """Write `name.seq` and its test into the current folder, over nothing."""
    stem = name.removesuffix(".seq")
    if not re.fullmatch(r"[^\W\d]\w*", stem):
        raise CallError(f"`{name}` is no name for a file that specs can import")
    layer = "".join(part[:1].upper() + part[1:] for part in stem.split("_")) or "Layer"
    texts = {f"{stem}.seq": SPEC, f"test_{stem}.py": TEST}
    for file in texts:
        if Path(file).exists():
            raise CallError(f"{file} exists already")
    for file, text in texts.items():
        write_atomically(Path(file), text.format(layer=layer, name=stem))
        print(f"wrote {file}")
    print(f"next: seqdsl check {stem}.seq")
    return OK

"""Every edit that a reason proposes does what it says: it is made, and judged again."""

from __future__ import annotations

import re

import pytest

from seqdsl.analysis import Verdict, analyze
from seqdsl.elaborate import elaborate_text

HEAD = """
layer L(D, H):
    input x: [D]
    input u: [H]
"""
CELLS = {
    "gru": """
    state h: [H] = 0
    r = sigmoid(linear(x, H) + linear(h[t-1], H))
    z = sigmoid(linear(x, H) + linear(h[t-1], H))
    n = tanh(linear(x, H) + r * linear(h[t-1], H))
    h = (1 - z) * n + z * h[t-1]
""",
    "lstm": """
    state h: [H] = 0
    state c: [H] = 0
    i = sigmoid(linear(x, H) + linear(h[t-1], H))
    f = sigmoid(linear(x, H) + linear(h[t-1], H))
    g = tanh(linear(x, H) + linear(h[t-1], H))
    c = f * c[t-1] + i * g
    h = tanh(c)
""",
    "peephole": """
    state h: [H] = 0
    state c: [H] = 0
    i = sigmoid(linear(x, H) + linear(h[t-1], H) + c[t-1])
    g = tanh(linear(x, H) + linear(h[t-1], H))
    o = sigmoid(linear(x, H) + linear(h[t-1], H))
    c = 0.9 * c[t-1] + i * g
    h = o * tanh(c)
""",
    "sru": """
    state c: [H] = 0
    f = sigmoid(linear(x, H) + 0.1 * c[t-1])
    c = f * c[t-1] + (1 - f) * u
""",
    "maximum": """
    state h: [H] = 0
    state m: [H] = 0
    g = tanh(h[t-1])
    m = max(m[t-1] + g, u)
    h = m * u
""",
    "plain": """
    state h: [H] = 0
    h = 0.5 * h[t-1] + tanh(h[t-1]) + u
""",
    "product": """
    state h: [H] = 0
    state g: [H] = 0
    h = u * h[t-1] + g[t-1]
    g = g[t-1] * h[t-1] + u
""",
    "gate and skip": """
    state h: [H] = 0
    z = sigmoid(h[t-1])
    k = u * h[t-1]
    h = z * k + 0.5 * h[t-1]
""",
}
_NAME = r"`([^`]+)`"


def verdicts(body: str) -> tuple[Verdict, ...]:
    out = "h" if "state h" in body else "c"
    text = f"{HEAD}{body.lstrip(chr(10))}    output {out}\n"
    return analyze(elaborate_text(text)).verdicts


def advice(body: str) -> list[str]:
    (found,) = (v for v in verdicts(body) if v.verdict == "sequential")
    return [h for r in found.reasons for h in r.help if "would" in h]


def edited(body: str, text: str) -> str:
    """The cell with the edit that a sentence asks for; what is not to be read becomes `u`."""
    condition = text.rpartition(" if ")[2]
    lines = [line for line in body.splitlines() if line.strip()]
    if condition.startswith("nothing read "):
        (read,) = re.findall(_NAME, condition)
        return "\n".join(line.replace(read, "u") for line in lines)
    where, _, what = condition.partition(" did not read ")
    parts, reads = re.findall(_NAME, where), re.findall(_NAME, what)
    names = [line.split()[0] for line in lines if not line.strip().startswith("state")]
    states = [
        line.split()[1][:-1] for line in lines if line.strip().startswith("state")
    ]
    # What reads a state through another definition reads it too.
    between = [n for n in names if n not in (*parts, *states)]
    return "\n".join(_cut(line, parts, reads, between) for line in lines)


def _cut(line: str, parts: list[str], reads: list[str], between: list[str]) -> str:
    name, sign, value = line.partition(" = ")
    for part in parts if sign else ():
        own = value if name.strip() == part else part
        new = own
        for read in reads:
            new = new.replace(read, "u")
        for other in between:
            new = re.sub(rf"\b{other}\b", "u", new)
        value = new if own == value else value.replace(own, new)
    return f"{name}{sign}{value}"


@pytest.mark.parametrize("name", CELLS)
def test_edits_do_what_they_say(name: str) -> None:
    body = CELLS[name]
    found = advice(body)
    assert found
    for text in found:
        after = verdicts(edited(body, text) + "\n")
        assert all(v.verdict != "sequential" for v in after), text
        structure = re.search(r"\((\w[\w ]*)\)", text)
        if structure is not None:
            kinds = {v.structure for v in after if v.verdict == "scannable"}
            assert structure[1].replace(" ", "_") in kinds, text
        subject = re.findall(_NAME, text.partition(" would ")[0])
        scans = {s for v in after for s in v.recurrence.states if v.structure}
        assert set(subject) <= scans, text

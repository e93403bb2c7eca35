"""Trains layers of the standard library on small tasks, side by side.

    python -m examples.tasks.train                 # everything, under 20 minutes on 2 cores
    python -m examples.tasks.train --docs          # the same; the table goes into the docs
    python -m examples.tasks.train --task parity --layer gla --layer "deltanet, negative" --seeds 3

Every layer is the mixer of the same language model: 2 pre-norm blocks, width 32. Weights and
data follow from the seed: layers see the same examples in the same order, until nearly all
answers are right and for at most the same number of steps.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import seqdsl
from examples.tasks.data import IGNORED, TASKS

LAYERS: Mapping[str, str] = {
    "attention": "std.attention:SlidingWindow(heads = 2)",
    "linear attention": "std.linear_attention:LinearAttention(heads = 2)",
    "retention": "std.retnet:Retention(heads = 2)",
    "gla": "std.gla:GLA(heads = 2, K = 16, tau = 1)",
    "mamba": "std.mamba:Mamba(N = 8)",
    "mamba2": "std.mamba2:Mamba2(P = 16, N = 16)",
    "mlstm": "std.mlstm:MLSTM(heads = 2, K = 16)",
    "deltanet": "std.deltanet:DeltaNet(heads = 2)",
    "deltanet, negative": "std.deltanet:DeltaNet(heads = 2, most = 2)",
    "gated deltanet": "std.gated_deltanet:GatedDeltaNet(heads = 2, V = 16, most = 2)",
    "gru": "std.cells:GRUMixer",
    "slstm": "std.slstm:SLSTM(heads = 2)",
}
WIDTH, BLOCKS, BATCH, RATE = 32, 2, 64, 4e-3
EVERY, ENOUGH = 50, 0.995
STEPS: Mapping[str, int] = {
    "recall": 500,
    "parity": 300,
    "copying": 300,
    "induction": 400,
}
DOCS = Path(__file__).parents[2] / "docs" / "library.md"


@dataclass(frozen=True)
class Result:
    """How a layer did on a task: the share of right answers on new examples.

    `seconds` are processor time, so that what else the machine does hardly counts.
    """

    task: str
    layer: str
    accuracy: float
    steps: int
    seconds: float


def accuracy(task: str, model: nn.Module, chance: torch.Generator) -> float:
    """On 512 new examples; for parity, the answer after the last bit."""
    tokens, targets = TASKS[task].draw(512, chance)
    with torch.no_grad():
        right = model(tokens).argmax(-1) == targets
    if task == "parity":
        right, targets = right[:, -1], targets[:, -1]
    return float(right[targets != IGNORED].float().mean())


def train(task: str, layer: str, steps: int, seed: int = 0) -> Result:
    """Train until nearly all answers are right, at most `steps` steps."""
    start, chance = time.process_time(), torch.Generator().manual_seed(seed)
    torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
    vocab = TASKS[task].vocab
    model: Any = seqdsl.std.language_model.LanguageModel(
        vocab=vocab, D=WIDTH, L=BLOCKS, mixer=LAYERS[layer]
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    found, step = 0.0, 0
    while step < steps and found < ENOUGH:
        loss = _loss(model, *TASKS[task].draw(BATCH, chance))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        step += 1
        if step % EVERY == 0:
            found = accuracy(task, model, torch.Generator().manual_seed(seed + 1))
    fresh = torch.Generator().manual_seed(seed + 2)
    spent = time.process_time() - start
    return Result(task, layer, accuracy(task, model, fresh), step, spent)


def _loss(model: nn.Module, tokens: Tensor, targets: Tensor) -> Tensor:
    logits = model(tokens).flatten(0, 1)
    return nn.functional.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED)


# ---- The table


def table(results: Sequence[Result]) -> str:
    """Layers as rows, tasks as columns: percent right, and after how many steps.

    With several seeds the worst and the best of them, and the most steps. The last column
    is the processor time of the row in seconds.
    """
    tasks = list(dict.fromkeys(r.task for r in results))
    lines = [["layer", *tasks, "s"], ["---", *(["---:"] * (len(tasks) + 1))]]
    for layer in dict.fromkeys(r.layer for r in results):
        own = [[r for r in results if (r.layer, r.task) == (layer, t)] for t in tasks]
        spent = sum(r.seconds for seeds in own for r in seeds)
        lines.append([layer, *map(_cell, own), f"{spent:.0f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(seeds: Sequence[Result]) -> str:
    if not seeds:
        return ""
    found = sorted({f"{100 * r.accuracy:.0f}" for r in seeds}, key=int)
    between = "–".join(dict.fromkeys((found[0], found[-1])))
    return f"{between} ({max(r.steps for r in seeds)})"


def report(results: Sequence[Result], minutes: float, jobs: int) -> str:
    """The table, and how long all of it took."""
    spent = sum(r.seconds for r in results) / 60
    took = f"{minutes:.0f} minutes by {jobs} processes, {spent:.0f} of processor time."
    return f"{table(results)}\n\nOne run of the command: {took}\n"


def written(page: str, text: str) -> str:
    """`page` with `text` between the marks for the table."""
    before, _, rest = page.partition("<!-- tasks -->\n")
    _, _, after = rest.partition("<!-- end of tasks -->\n")
    return f"{before}<!-- tasks -->\n\n{text}\n<!-- end of tasks -->\n{after}"


# ---- The command


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", action="append", choices=TASKS, help="all by default")
    parser.add_argument("--layer", action="append", choices=LAYERS, help="likewise")
    parser.add_argument("--steps", type=int, help="at most, of training")
    parser.add_argument("--seeds", type=int, default=1, help="of weights and data")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--out", type=Path, help="a file for the table")
    parser.add_argument(
        "--docs", action="store_true", help=f"write it into {DOCS.name}"
    )
    given = parser.parse_args()
    if given.docs and (given.task or given.layer or given.steps):
        parser.error("the docs take the whole table")
    return given


def main() -> None:
    """Train what was asked for; print the table, and write it where it is wanted."""
    given, start = _given(), time.perf_counter()
    runs = [
        (task, layer, given.steps or STEPS[task], seed)
        for task in given.task or TASKS
        for layer in given.layer or LAYERS
        for seed in range(given.seeds)
    ]
    results: list[Result] = []
    with ProcessPoolExecutor(given.jobs, None, torch.set_num_threads, (1,)) as pool:
        waiting = [pool.submit(train, *run) for run in runs]
        for future in waiting:
            r = future.result()
            results.append(r)
            print(f"{r.task}: {r.layer}: {r.accuracy:.1%} in {r.steps} steps, "
                  f"{r.seconds:.0f} s", flush=True)  # fmt: skip
    text = report(results, (time.perf_counter() - start) / 60, given.jobs)
    print(text, end="")
    if given.out is not None:
        given.out.write_text(text, "utf-8")
    if given.docs:
        DOCS.write_text(written(DOCS.read_text("utf-8"), text), "utf-8")


if __name__ == "__main__":
    main()

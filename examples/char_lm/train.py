"""Compile a language model from its equations, train it on real text, sample from it.

`python -m examples.char_lm.train` writes everything into `demo-out/`; `--steps 20`
makes it short.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch.nn import functional as F

import seqdsl
from examples.char_lm import text
from seqdsl import driver
from seqdsl.analysis import one_line

SPEC = Path(__file__).with_name("char_lm.seq")
BATCH, LENGTH = 32, 96


def batches(tokens: torch.Tensor, steps: int) -> list[torch.Tensor]:
    """Random windows `[batch, length + 1]`."""
    high = len(tokens) - LENGTH - 1
    generator = torch.Generator().manual_seed(0)
    starts = torch.randint(high, (steps, BATCH, 1), generator=generator)
    return [tokens[s + torch.arange(LENGTH + 1)] for s in starts]


def loss_of(model: Any, window: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats of predicting each next character."""
    logits = model(window[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())


@torch.no_grad()
def held_out_bits(model: Any, corpus: text.Corpus) -> float:
    """Bits per character on held-out text, in windows of 256 characters."""
    model.eval()
    size = 256
    rows = min(len(corpus.held_out) // (size + 1), 128)
    windows = corpus.held_out[: rows * (size + 1)].view(rows, size + 1)
    bits = loss_of(model, windows).item() / math.log(2)
    model.train()
    return bits


def train(model: Any, corpus: text.Corpus, steps: int, console: Console) -> list[float]:
    """AdamW with a cosine schedule; the losses in bits per character."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 4e-3, total_steps=steps + 1, pct_start=0.1
    )
    losses: list[float] = []
    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}  {task.fields[bits]:.2f} bits/char"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=steps, bits=float("nan"))
        for window in batches(corpus.train, steps):
            loss = loss_of(model, window)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item() / math.log(2))
            recent = losses[-50:]
            progress.update(task, advance=1, bits=sum(recent) / len(recent))
    return losses


@torch.no_grad()
def step_error(model: Any, tokens: torch.Tensor) -> float:
    """Largest difference between `forward` and one `step` a token, over all logits."""
    whole = model(tokens)
    state = model.initial_state(batch=tokens.shape[0])
    worst = 0.0
    for t in range(tokens.shape[1]):
        logits, state = model.step(tokens[:, t], state)
        worst = max(worst, (logits - whole[:, t]).abs().max().item())
    return worst


@torch.no_grad()
def sample(model: Any, corpus: text.Corpus, prompt: str, length: int = 400) -> str:
    """Text drawn character by character through `step`, at temperature 0.8."""
    generator = torch.Generator().manual_seed(1)
    logits, state = model(corpus.encode(prompt)[None], return_state=True)
    logits = logits[:, -1]
    drawn: list[torch.Tensor] = []
    for _ in range(length):
        p = (logits / 0.8).softmax(-1)
        token = torch.multinomial(p, 1, generator=generator)[:, 0]
        drawn.append(token)
        logits, state = model.step(token, state)
    return prompt + corpus.decode(torch.cat(drawn))


def plot(losses: list[float], bigram: float, path: Path) -> None:
    """The loss curve against the bigram model, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    window = max(1, len(losses) // 40)
    smooth = [
        sum(losses[max(0, i - window) : i + 1]) / (i + 1 - max(0, i - window))
        for i in range(len(losses))
    ]
    axes.plot(losses, color="0.8", linewidth=0.8, label="each batch")
    axes.plot(smooth, color="tab:blue", label="running mean")
    axes.axhline(bigram, color="tab:red", linestyle="--", label="bigram, held out")
    axes.set_xlabel("step")
    axes.set_ylabel("bits per character")
    axes.set_ylim(top=bigram + 2)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def compile_model(vocab: int) -> tuple[Any, str]:
    """The model as a module in memory, and the same as a file that needs torch alone."""
    model = seqdsl.load(SPEC).CharLM(vocab=vocab)
    program, _ = driver.load(str(SPEC))
    elaborated = driver.elaborate(program, "CharLM", {"vocab": vocab})
    (standalone,) = driver.artifact(elaborated, "torch", "auto").files.values()
    return model, standalone


def write(out: Path, files: dict[str, str]) -> list[Path]:
    """Write each text below `out`; where they went."""
    for name, content in files.items():
        (out / name).write_text(content, encoding="utf-8")
    return [out / name for name in files]


def main() -> None:
    """Run the whole demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False)
    torch.manual_seed(0)
    # operations of the loop are too small to be shared between cores
    torch.set_num_threads(1)

    corpus = text.load()
    model, standalone = compile_model(len(corpus.alphabet))
    count = sum(p.numel() for p in model.parameters())
    console.print(
        f"{SPEC.name}: {count:,} parameters; {len(corpus.train):,} characters"
    )
    for verdict in model.verdicts:
        console.print(f"  {one_line(verdict)}", markup=False, soft_wrap=True)

    bigram = text.bigram_bits(corpus)
    losses = train(model, corpus, options.steps, console)
    model.eval()
    bits = held_out_bits(model, corpus)
    console.print(f"held out: {bits:.3f} bits/char; a bigram model: {bigram:.3f}")
    error = step_error(model, corpus.held_out[None, :200])
    console.print(f"forward and step differ by at most {error:.1e} in a logit")
    drawn = sample(model, corpus, "The statement ")
    console.rule("sampled through step")
    console.print(drawn, markup=False)
    console.rule()

    verdicts = [verdict.to_json() for verdict in model.verdicts]
    files = {
        "char_lm.py": standalone,
        "verdicts.json": json.dumps(verdicts, indent=2) + "\n",
        "sample.txt": drawn + "\n",
    }
    plot(losses, bigram, options.out / "loss.png")
    for path in (*write(options.out, files), options.out / "loss.png"):
        console.print(f"wrote {path}", soft_wrap=True)


if __name__ == "__main__":
    main()

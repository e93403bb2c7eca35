"""English text that every Python ships, and what a bigram model makes of it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pydoc_data.topics import topics

import torch


@dataclass(frozen=True)
class Corpus:
    """Characters as numbers: `train` and `held_out` are int64 vectors."""

    alphabet: str
    train: torch.Tensor
    held_out: torch.Tensor

    def decode(self, tokens: torch.Tensor) -> str:
        """The text of a vector of numbers."""
        return "".join(self.alphabet[i] for i in tokens.tolist())

    def encode(self, text: str) -> torch.Tensor:
        """The numbers of a text; characters outside the alphabet become spaces."""
        number = {char: i for i, char in enumerate(self.alphabet)}
        space = number[" "]
        return torch.tensor([number.get(char, space) for char in text])


def load(held_out: float = 0.1) -> Corpus:
    """The topics of Python's own help; every tenth topic or so is held out."""
    names = sorted(topics)
    every = round(1 / held_out)
    parts = {
        False: "\n".join(topics[n] for i, n in enumerate(names) if i % every),
        True: "\n".join(topics[n] for i, n in enumerate(names) if i % every == 0),
    }
    common = Counter(parts[False]).most_common()
    alphabet = "".join(sorted(char for char, n in common if n >= 20))
    corpus = Corpus(alphabet, torch.empty(0), torch.empty(0))
    return Corpus(alphabet, corpus.encode(parts[False]), corpus.encode(parts[True]))


def bigram_bits(corpus: Corpus) -> float:
    """Held-out bits per character of counted pairs with add-one smoothing."""
    n = len(corpus.alphabet)
    counts = torch.ones(n, n, dtype=torch.float64)
    ones = torch.ones(len(corpus.train) - 1, dtype=torch.float64)
    counts.index_put_((corpus.train[:-1], corpus.train[1:]), ones, accumulate=True)
    log_p = (counts / counts.sum(1, keepdim=True)).log()
    found = log_p[corpus.held_out[:-1], corpus.held_out[1:]]
    return -found.mean().item() / math.log(2)

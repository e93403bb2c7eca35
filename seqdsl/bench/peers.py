"""What a user would run instead: layers of other libraries that compute the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from seqdsl.ir.sizes import Scalar

Call = Callable[..., object]


class _FirstOutput(nn.Module):
    """A recurrent layer of torch with its outputs alone, as ours return them."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[0]


def _recurrent(
    kind: Callable[..., nn.Module],
) -> Callable[[Mapping[str, Scalar]], nn.Module]:
    def make(options: Mapping[str, Scalar]) -> nn.Module:
        inputs, hidden = options["D"], options["H"]
        return _FirstOutput(kind(inputs, hidden, batch_first=True))

    return make


PEERS: Mapping[str, tuple[str, Callable[[Mapping[str, Scalar]], nn.Module]]] = {
    "std.elman:Elman": ("torch.nn.RNN", _recurrent(nn.RNN)),
    "std.gru:GRU": ("torch.nn.GRU", _recurrent(nn.GRU)),
    "std.lstm:LSTM": ("torch.nn.LSTM", _recurrent(nn.LSTM)),
}
"""By the name of a library layer: the peer's name, and the peer for the layer's options."""

"""What `benchmarks.cpu` measured, as tables and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def table(result: dict[str, Any]) -> str:
    """Markdown: milliseconds, and how many times faster than each peer."""
    lines = [
        "| recurrence | shape | pass | kernel, ms | faster than |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        for key, label in (
            ("forward_ms", "forward"),
            ("with_backward_ms", "+ backward"),
        ):
            times = row.get(key)
            if times is None:
                continue
            if row.get("peak_mb") is not None and key == "with_backward_ms":
                label += (
                    f" ({row['peak_mb']:.0f} MB; all states {row['all_states_mb']:.0f})"
                )
            own = times["kernel"]
            peers = [f"{n} {t / own:.1f}" for n, t in times.items() if n != "kernel"]
            shown = f"| {row['name']} | {row['shape']} | {label} | {own:.2f} | "
            lines.append(shown + f"{', '.join(peers)} |")
    for row in result.get("growth", ()):
        beside = row["mb_beside"]
        more = "" if beside is None else f", {beside:.1f} MB beside"
        lines.append(
            f"| minGRU | B 1, T {row['T']} | forward | {row['ns_per_step']:.0f} ns a step | {more} |"
        )
    return "\n".join(lines) + "\n"


def plot(result: dict[str, Any], path: Path) -> None:
    """Speed-ups over each peer as bars."""
    from matplotlib.figure import Figure

    bars = [
        (f"{row['name']}: {peer}", t / row["forward_ms"]["kernel"])
        for row in result["rows"]
        for peer, t in row["forward_ms"].items()
        if peer != "kernel"
    ]
    figure = Figure((9, 0.32 * len(bars) + 1))
    axes = figure.subplots()
    axes.barh([b[0] for b in bars], [b[1] for b in bars])
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("times faster, forward")
    axes.invert_yaxis()
    figure.tight_layout()
    figure.savefig(path)


# ---- The page about native kernels

BEGIN, END = "<!-- benchmarks.cpu begins -->", "<!-- benchmarks.cpu ends -->"


def write_docs(result: dict[str, Any], page: Path) -> None:
    """Put the table between the two marks of a page; raises `ValueError` without them."""
    text = page.read_text("utf-8")
    if BEGIN not in text or END not in text:
        raise ValueError(f"{page} has no place for the table: {BEGIN} … {END}")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    page.write_text(f"{head}{BEGIN}\n{docs_table(result)}{END}{tail}", "utf-8")


def docs_table(result: dict[str, Any]) -> str:
    """One row for each recurrence: both passes, each beside its peers and its limit."""
    rates, clock = result["machine"], result["clock"]
    measured = (
        f"{result['host']}, {result['threads']} threads, float32, {clock} time; products of "
        f"matrices run at {rates['gemm_gflops']:.0f} GFLOP/s, a stream at "
        f"{rates['stream_gbytes']:.0f} GB/s; milliseconds, medians of {result['rounds']} turns."
    )
    lines = [
        measured,
        "",
        "| recurrence | shape | forward | against | of the limit | and backward | against |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        forward, backward = row["forward_ms"], row.get("with_backward_ms")
        cells = [
            row["name"],
            row["shape"],
            f"{forward['kernel']:.3g}",
            _against(forward),
            _share(row, rates),
            "" if backward is None else f"{backward['kernel']:.3g}",
            "" if backward is None else _against(backward),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for row in result.get("growth", ()):
        cells = f"{row['ns_per_step']:.0f} ns a step"
        lines.append(f"| minGRU | B 1, T {row['T']} | {cells} | | | | |")
    return "\n".join(lines) + "\n"


def _against(times: dict[str, float]) -> str:
    own = times["kernel"]
    return ", ".join(f"{n} {t / own:.1f}" for n, t in times.items() if n != "kernel")


def _share(row: dict[str, Any], rates: dict[str, float]) -> str:
    """Of the rate of matrix products where a state is one, else of a stream's."""
    seconds = row["forward_ms"]["kernel"] / 1e3
    if "weights_mb" in row:
        return (
            f"{row['weights_mb'] / 1e3 / seconds / rates['read_gbytes']:.0%} of reading"
        )
    if "gflops" not in row:
        return ""
    products = row["gflops"] / seconds / rates["gemm_gflops"]
    stream = row["gbytes"] / seconds / rates["stream_gbytes"]
    what = "of products" if products >= stream else "of a stream"
    return f"{max(products, stream):.0%} {what}"

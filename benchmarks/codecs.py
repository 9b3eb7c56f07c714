"""Chains on an update of ten million values: seconds each way, bytes, and memory, one core, each chain in a process."""

import multiprocessing
import resource
from statistics import median
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table

from onebasin.codecs.context import CodingContext
from onebasin.codecs.named_codecs import make_codec
from onebasin.core.layout import Layout

VALUES = 10_000_000
CHAINS = (
    "fp32",
    "int8",
    "top-k 0.01 | sign",
    "error-feedback | top-k 0.0025 | sign",
    "random-k 0.01 | fp16",
    "ternary",
    "uniform 4",
    "qsgd 8",
    "hadamard | eden 1",
)


def main() -> None:
    table = Table(title=f"an update of {VALUES:,} values; median of 3")
    for heading in ("chain", "to bytes, s", "back, s", "bytes", "peak, in updates"):
        table.add_column(heading, justify="left" if heading == "chain" else "right")
    for text in CHAINS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            sent, received, size, peak = pool.apply(_measured, (text,))
        table.add_row(text, f"{sent:.2f}", f"{received:.2f}", f"{size:,}", f"{peak:.1f}")
    Console().print(table)


def _measured(text: str) -> tuple[float, float, int, float]:
    torch.set_num_threads(1)
    small = {"w": torch.randn(1000)}
    make_codec(text, Layout.of(small)).send(small, CodingContext())  # imports and tables are not counted
    update = {"w": torch.randn(VALUES, generator=torch.Generator().manual_seed(0))}
    coding = make_codec(text, Layout.of(update))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    there, back, body = [], [], b""
    for _ in range(3):
        began = perf_counter()
        body, _ = coding.send(update, CodingContext())
        between = perf_counter()
        coding.receive(body, CodingContext())
        there.append(between - began)
        back.append(perf_counter() - between)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / (4 * VALUES)
    return median(there), median(back), len(body), peak

"""A data-parallel training loop: DistributedDataParallel, gradients in buckets, AdamW.

The comm hook notes the bytes of each bucket before NCCL sums it. With ``--profiler`` the PyTorch profiler
writes ``rank<r>_trace.json.gz``; leave nsys off then, since only one of them can hold CUPTI.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from benchmarks.workloads.journal import Journal
from benchmarks.workloads.ranks import MIB, Ranks, folder, launch
from benchmarks.workloads.shapes import SHAPES, Shape
from ingest.record import marker

if TYPE_CHECKING:
    from collections.abc import Iterator


class Block(nn.Module):
    """One decoder layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.kv, self.dim = shape.heads, shape.kv_heads, shape.head_dim
        self.norm1, self.norm2 = nn.RMSNorm(shape.hidden), nn.RMSNorm(shape.hidden)
        self.qkv = nn.Linear(shape.hidden, (self.heads + 2 * self.kv) * self.dim, bias=False)
        self.out = nn.Linear(self.heads * self.dim, shape.hidden, bias=False)
        self.up = nn.Linear(shape.hidden, 2 * shape.ffn, bias=False)
        self.down = nn.Linear(shape.ffn, shape.hidden, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` after attention and feed-forward; positions are left out."""
        batch, tokens, _ = x.shape
        h = self.qkv(self.norm1(x)).view(batch, tokens, -1, self.dim).transpose(1, 2)
        q, k, v = h.split((self.heads, self.kv, self.kv), 1)
        found = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.out(found.transpose(1, 2).flatten(2))
        gate, inner = self.up(self.norm2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * inner)


class Decoder(nn.Module):
    """``layers`` layers of a shape, from tokens to the loss."""

    def __init__(self, shape: Shape, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocab, shape.hidden)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(layers))
        self.norm = nn.RMSNorm(shape.hidden)
        self.head = nn.Linear(shape.hidden, shape.vocab, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the mean cross entropy of each next token."""
        x = self.embedding(tokens[:, :-1])
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), tokens[:, 1:].flatten())


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", choices=sorted(SHAPES), default="llama3.1-8b")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=2, help="sequences of each rank")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--profiler", action="store_true", help="run under the PyTorch profiler")
    parser.add_argument("--reference-mib", type=int, default=256)
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """Start the ranks, or be one of them."""
    options = _arguments(words)
    if "RANK" not in os.environ:
        return launch("benchmarks.workloads.train", options.ranks, words)
    _rank(options)
    return 0


def _rank(options: argparse.Namespace) -> None:
    ranks, shape = Ranks(), SHAPES[options.model]
    journal = Journal(ranks.rank, ranks.size, workload="train", options=vars(options))
    torch.manual_seed(0)
    with torch.device(ranks.device):
        model: nn.Module = Decoder(shape, options.layers).bfloat16()
    model = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)

    def hook(_, bucket):  # type: ignore[no-untyped-def]  # DDP refuses annotations that are strings
        ranks.note("all_reduce", bucket.buffer().numel() * bucket.buffer().element_size())
        work = dist.all_reduce(bucket.buffer().div_(ranks.size), async_op=True)
        return work.get_future().then(lambda done: done.value()[0])

    model.register_comm_hook(None, hook)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=ranks.on_gpu)
    torch.manual_seed(ranks.rank)
    tokens = torch.randint(shape.vocab, (options.batch, options.tokens + 1), device=ranks.device)
    for _ in range(2):  # DDP settles its buckets after the first
        with ranks.range("warmup"):
            _step(ranks, model, optimizer, tokens, "warmup ")
    journal.content["reference"].append(ranks.reference(size=options.reference_mib * MIB))
    ranks.barrier()
    ranks.journal = journal
    window: dict[str, int] = {}
    with _profiler(options, ranks) as profiler:
        ranks.barrier()
        if ranks.rank == 0:
            marker("profile_start")
        window["start_wall"], window["start_monotonic"] = time.time_ns(), time.monotonic_ns()
        for number in range(options.steps):
            if profiler is not None and number:
                profiler.step()
            with journal.step("step", step=number) as row, ranks.range(f"step {number}"):
                row["parts"] = _step(ranks, model, optimizer, tokens)
        window["end_wall"], window["end_monotonic"] = time.time_ns(), time.monotonic_ns()
        if ranks.rank == 0:
            marker("profile_end")
        if profiler is not None:
            profiler.step()  # the last: it writes the trace, which must not stretch the window
    ranks.journal = None
    journal.content["window"] = window
    ranks.barrier()
    journal.content["reference"].append(ranks.reference(size=options.reference_mib * MIB))
    journal.write(folder())
    dist.destroy_process_group()


def _step(
    ranks: Ranks, model: nn.Module, optimizer: Any, tokens: torch.Tensor, prefix: str = ""
) -> list[Any]:
    """Make one step; return [part, start, end] on the monotonic clock."""
    parts = []
    loss = torch.zeros(())

    def forward() -> None:
        nonlocal loss
        loss = model(tokens)

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    # The ranges wait for the GPU, so that their windows hold the kernels and not only the launches.
    for name, work in (("forward", forward), ("backward", lambda: loss.backward()), ("optimizer", update)):
        begun = time.monotonic_ns()
        with ranks.range(prefix + name), torch.profiler.record_function(prefix + name):
            work()
            ranks.wait()
        parts.append([name, begun, time.monotonic_ns()])
    return parts


@contextlib.contextmanager
def _profiler(options: argparse.Namespace, ranks: Ranks) -> Iterator[Any]:
    if not options.profiler:
        yield None
        return
    path = str(folder() / f"rank{ranks.rank}_trace.json.gz")
    with torch.profiler.profile(
        schedule=torch.profiler.schedule(wait=0, warmup=0, active=options.steps, repeat=1),
        on_trace_ready=lambda p: p.export_chrome_trace(path),
    ) as profiler:
        yield profiler


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

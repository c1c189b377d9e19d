"""A mixture-of-experts decoder: attention on each rank's own requests, experts spread over the ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from benchmarks.workloads.attention import EPS, Attention, Rotary, ones, weight

if TYPE_CHECKING:
    from benchmarks.workloads.ranks import Ranks
    from benchmarks.workloads.shapes import Shape


class Experts:
    """One rank's experts of one layer, behind an all-to-all there and one back."""

    def __init__(self, shape: Shape, ranks: Ranks) -> None:
        self._ranks, self._top_k, self._all = ranks, shape.top_k, shape.experts
        self._mine = shape.experts // ranks.size
        device = ranks.device
        self._router = weight(shape.experts, shape.hidden, device=device)
        self._up = weight(self._mine, shape.hidden, 2 * shape.ffn, device=device)
        self._down = weight(self._mine, shape.ffn, shape.hidden, device=device)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the experts' weighted sum for ``x`` (tokens, hidden)."""
        r, n = self._ranks, len(x)
        share, expert = F.linear(x, self._router).softmax(-1).topk(self._top_k, -1)
        expert, order = expert.flatten().sort(stable=True)
        ones_ = torch.ones_like(expert)
        counts = torch.zeros(self._all, dtype=torch.int64, device=x.device).scatter_add(0, expert, ones_)
        theirs = r.all_to_all(counts, [self._mine] * r.size, [self._mine] * r.size).view(r.size, -1)
        sizes = torch.cat((counts.view(r.size, -1).sum(1), theirs.sum(1), theirs.sum(0).max()[None])).tolist()
        sent, received, most = sizes[: r.size], sizes[r.size : -1], max(sizes[-1], 1)
        rows = r.all_to_all(x[order // self._top_k], sent, received)
        back = r.all_to_all(self._work(rows, theirs, most), received, sent)
        out = torch.empty_like(back)
        out[order] = back
        return (out.view(n, self._top_k, -1) * share[..., None]).sum(1)

    def _work(self, rows: torch.Tensor, theirs: torch.Tensor, most: int) -> torch.Tensor:
        """Run each row through its expert: rows stand by rank, then by expert."""
        label = torch.arange(self._mine, device=rows.device).repeat(len(theirs))
        expert = label.repeat_interleave(theirs.flatten(), output_size=len(rows))
        expert, order = expert.sort(stable=True)
        first = theirs.sum(0).cumsum(0) - theirs.sum(0)
        place = expert * most + torch.arange(len(rows), device=rows.device) - first[expert]
        padded = rows.new_zeros((self._mine * most, rows.shape[1]))
        padded[place] = rows[order]
        gate, inner = torch.bmm(padded.view(self._mine, most, -1), self._up).chunk(2, -1)
        done = torch.bmm(F.silu(gate) * inner, self._down).flatten(0, 1)
        out = torch.empty_like(rows)
        out[order] = done[place]
        return out


class Moe:
    """One rank's attention and experts; every rank serves its own batch."""

    def __init__(self, shape: Shape, ranks: Ranks, batch: int, length: int) -> None:
        device = ranks.device
        self._rotary = Rotary(shape.head_dim, length, device)
        self._embedding = weight(shape.vocab, shape.hidden, device=device)
        self._layers = [
            (
                Attention(shape, 1, batch, length, device),
                ones(shape.hidden, device=device),
                Experts(shape, ranks),
            )
            for _ in range(shape.layers)
        ]
        self._norm = ones(shape.hidden, device=device)
        self._head = weight(shape.vocab, shape.hidden, device=device)

    def __call__(self, tokens: torch.Tensor, at: int) -> torch.Tensor:
        """Return the next token of each sequence. ``tokens``: (batch, tokens), the first at place ``at``."""
        x = F.embedding(tokens, self._embedding)
        for attention, norm, experts in self._layers:
            x = x + attention(x, at, self._rotary)
            h = F.rms_norm(x, x.shape[-1:], norm, EPS)
            x = x + experts(h.flatten(0, 1)).view_as(x)
        last = F.rms_norm(x[:, -1], x.shape[-1:], self._norm, EPS)
        return F.linear(last, self._head).argmax(-1, keepdim=True)

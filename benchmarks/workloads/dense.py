"""A dense decoder under tensor parallelism: two all-reduces a layer, as in vLLM and SGLang."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from benchmarks.workloads.attention import EPS, Attention, Rotary, ones, weight

if TYPE_CHECKING:
    from benchmarks.workloads.ranks import Ranks
    from benchmarks.workloads.shapes import Shape


class Dense:
    """One rank's part; embedding and output are split over the vocabulary."""

    def __init__(self, shape: Shape, ranks: Ranks, batch: int, length: int) -> None:
        device, tp = ranks.device, ranks.size
        self._ranks, self._part = ranks, shape.vocab // tp
        self._rotary = Rotary(shape.head_dim, length, device)
        self._embedding = weight(self._part, shape.hidden, device=device)
        self._layers = [
            (
                Attention(shape, tp, batch, length, device),
                ones(shape.hidden, device=device),
                weight(2 * shape.ffn // tp, shape.hidden, device=device),
                weight(shape.hidden, shape.ffn // tp, device=device),
            )
            for _ in range(shape.layers)
        ]
        self._norm = ones(shape.hidden, device=device)
        self._head = weight(self._part, shape.hidden, device=device)

    def __call__(self, tokens: torch.Tensor, at: int) -> torch.Tensor:
        """Return the next token of each sequence. ``tokens``: (batch, tokens), the first at place ``at``."""
        r = self._ranks
        mine = tokens - r.rank * self._part
        ours = (mine >= 0) & (mine < self._part)
        x = F.embedding(mine * ours, self._embedding) * ours[..., None]
        x = r.all_reduce(x)
        for attention, norm, up, down in self._layers:
            x = x + r.all_reduce(attention(x, at, self._rotary))
            gate, inner = F.linear(F.rms_norm(x, x.shape[-1:], norm, EPS), up).chunk(2, -1)
            x = x + r.all_reduce(F.linear(F.silu(gate) * inner, down))
        last = F.rms_norm(x[:, -1], x.shape[-1:], self._norm, EPS)
        logits = r.all_gather(F.linear(last, self._head))
        return logits.transpose(0, 1).flatten(1).argmax(-1, keepdim=True)

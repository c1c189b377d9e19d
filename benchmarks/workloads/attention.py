"""What the decoders share: norms, rotary embedding, attention with a key-value cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from benchmarks.workloads.shapes import Shape

EPS = 1e-6


def weight(*size: int, device: torch.device) -> torch.Tensor:
    """Return a random bf16 matrix."""
    return torch.empty(size, dtype=torch.bfloat16, device=device).normal_(std=0.02)


def ones(*size: int, device: torch.device) -> torch.Tensor:
    """Return the weights of a norm."""
    return torch.ones(size, dtype=torch.bfloat16, device=device)


class Rotary:
    """Tables of the rotary embedding for ``length`` positions."""

    def __init__(self, dim: int, length: int, device: torch.device) -> None:
        rates = 1e6 ** (-torch.arange(0, dim, 2, device=device) / dim)
        angles = torch.outer(torch.arange(length, device=device), rates)
        angles = torch.cat((angles, angles), -1)[:, None]
        self.cos, self.sin = angles.cos().bfloat16(), angles.sin().bfloat16()  # length, 1, dim

    def __call__(self, x: torch.Tensor, at: int) -> torch.Tensor:
        """Turn ``x`` (batch, tokens, heads, dim), whose first token stands at ``at``."""
        cos, sin = self.cos[at : at + x.shape[1]], self.sin[at : at + x.shape[1]]
        a, b = x.chunk(2, -1)
        return torch.addcmul(x * cos, torch.cat((-b, a), -1), sin)


class Attention:
    """Attention of ``1 / parts`` of a shape's heads, with norms of queries and keys, and its cache."""

    def __init__(self, shape: Shape, parts: int, batch: int, length: int, device: torch.device) -> None:
        self.q, self.kv, self.dim = shape.heads // parts, shape.kv_heads // parts, shape.head_dim
        self.norm = ones(shape.hidden, device=device)
        self.qkv = weight((self.q + 2 * self.kv) * self.dim, shape.hidden, device=device)
        self.qk_norm = ones(self.q + self.kv, self.dim, device=device)
        self.out = weight(shape.hidden, self.q * self.dim, device=device)
        self.cache = torch.zeros(2, batch, length, self.kv, self.dim, dtype=torch.bfloat16, device=device)

    def __call__(self, x: torch.Tensor, at: int, rotary: Rotary) -> torch.Tensor:
        """Return this part's sum of the output projection: (batch, tokens, hidden)."""
        batch, tokens, _ = x.shape
        h = F.linear(F.rms_norm(x, x.shape[-1:], self.norm, EPS), self.qkv)
        qk, v = h.view(batch, tokens, -1, self.dim).split((self.q + self.kv, self.kv), 2)
        qk = rotary(F.rms_norm(qk, (self.dim,), None, EPS) * self.qk_norm, at)
        q, k = qk.split((self.q, self.kv), 2)
        self.cache[0, :, at : at + tokens] = k
        self.cache[1, :, at : at + tokens] = v
        keys, values = self.cache[:, :, : at + tokens].transpose(2, 3)
        found = F.scaled_dot_product_attention(
            q.transpose(1, 2), keys, values, is_causal=tokens > 1, enable_gqa=True
        )
        return F.linear(found.transpose(1, 2).flatten(2), self.out)

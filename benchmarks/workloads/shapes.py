"""Shapes of the models, and what one step of each sends between GPUs. No PyTorch here."""

from __future__ import annotations

from dataclasses import dataclass

BF16 = 2  # bytes


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder. ``experts`` is 0 for a dense model, whose ``ffn`` is the whole inner width."""

    name: str
    hf: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    experts: int = 0
    top_k: int = 0

    @property
    def parameters(self) -> int:
        """Weights of the matrices; norms are left out."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        inner = 3 * self.hidden * self.ffn * max(self.experts, 1) + self.hidden * self.experts
        return self.layers * (attention + inner) + 2 * self.vocab * self.hidden


SHAPES = {
    s.name: s
    for s in (
        Shape("qwen3-32b", "Qwen/Qwen3-32B", 64, 5120, 64, 8, 128, 25600, 151936),
        Shape("qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B", 48, 2048, 32, 4, 128, 768, 151936, 128, 8),
        Shape("llama3.1-8b", "meta-llama/Llama-3.1-8B", 32, 4096, 32, 8, 128, 14336, 128256),
        Shape("tiny", "", 2, 64, 4, 2, 16, 128, 256),
        Shape("tiny-moe", "", 2, 64, 4, 2, 16, 32, 256, 8, 2),
    )
}


def tp_step_payloads(shape: Shape, tokens: int, sequences: int, tp: int) -> list[tuple[str, int, int]]:
    """Return (collective, payload bytes of one rank, how often) of one tensor-parallel forward pass.

    One all-reduce for the embedding and two a layer, each of every token's hidden vector; one all-gather of
    the last token's logits.
    """
    hidden = tokens * shape.hidden * BF16
    return [
        ("all_reduce", hidden, 1 + 2 * shape.layers),
        ("all_gather", sequences * shape.vocab // tp * BF16, 1),
    ]


def sent_by_ring(collective: str, payload: int, ranks: int) -> float:
    """Return the bytes that one rank sends over NVLink when a ring moves ``payload`` bytes.

    An all-reduce of n bytes sends 2 × (ranks − 1) / ranks × n a rank: n for two ranks. An all-gather of n
    bytes a rank passes each part on: (ranks − 1) × n. In an all-to-all the payload given is what leaves the
    rank.
    """
    if collective == "all_reduce":
        return 2 * (ranks - 1) / ranks * payload
    if collective == "all_gather":
        return float((ranks - 1) * payload)
    return float(payload)

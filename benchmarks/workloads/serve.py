"""Static batches through a decoder with random weights, one process a GPU.

Example, two GPUs, each batch after half a second of silence:
  tracelake record --out runs/qwen3-32b-tp_2-batch_4-burst --nsys --tp 2 -- \
      python -m benchmarks.workloads.serve --model qwen3-32b --batch 4 --batches 3 --gap 0.5
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any

from benchmarks.workloads.shapes import SHAPES


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", choices=sorted(SHAPES), default="qwen3-32b")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4, help="requests at once (of each rank, with experts)")
    parser.add_argument("--batches", type=int, default=2)
    parser.add_argument("--input", type=int, default=1024, help="tokens in")
    parser.add_argument("--output", type=int, default=32, help="tokens out")
    parser.add_argument("--gap", type=float, default=0.0, help="seconds of silence before each batch")
    parser.add_argument("--reference-mib", type=int, default=256)
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """Start the ranks, then merge their requests into one benchmark result."""
    from benchmarks.workloads.journal import benchmark_result
    from benchmarks.workloads.ranks import folder, launch

    options = _arguments(words)
    if "RANK" in os.environ:
        _rank(options)
        return 0
    code = launch("benchmarks.workloads.serve", options.ranks, words)
    if code:
        return code
    shape = SHAPES[options.model]
    # Tensor-parallel ranks serve the same requests.
    journals = [
        json.loads((folder() / f"workload_rank{r}.json").read_text(encoding="utf-8"))
        for r in range(options.ranks if shape.experts else 1)
    ]
    requests = sorted((r for j in journals for r in j["requests"]), key=lambda r: r["start_time"])
    window = journals[0]["window"]
    result = benchmark_result(
        requests,
        model=shape.hf or shape.name,
        backend="pytorch",
        duration=(window["end_monotonic"] - window["start_monotonic"]) / 1e9,
        concurrency=options.batch * len(journals),
    )
    name = f"pytorch-infqps-concurrency{options.batch * len(journals)}-{shape.name}-{result['date']}.json"
    (folder() / name).write_text(json.dumps(result) + "\n", encoding="utf-8")
    return 0


def _rank(options: argparse.Namespace) -> None:
    import torch
    import torch.distributed as dist

    from benchmarks.workloads.dense import Dense
    from benchmarks.workloads.journal import Journal
    from benchmarks.workloads.moe import Moe
    from benchmarks.workloads.ranks import MIB, Ranks, folder
    from ingest.record import marker

    ranks = Ranks()
    shape = SHAPES[options.model]
    journal = Journal(ranks.rank, ranks.size, workload="serve", options=vars(options))
    length = options.input + options.output
    with torch.inference_mode():
        model = (Moe if shape.experts else Dense)(shape, ranks, options.batch, length)
        # Tensor-parallel ranks see the same prompts, others their own.
        seed = torch.Generator().manual_seed(ranks.rank if shape.experts else 0)
        prompts = torch.randint(
            shape.vocab, (1 + options.batches, options.batch, options.input), generator=seed
        ).to(ranks.device)
        with ranks.range("warmup"):
            token = model(prompts[0], 0)
            for i in range(2):
                token = model(token, options.input + i)
        journal.content["reference"].append(ranks.reference(size=options.reference_mib * MIB))
        ranks.barrier()
        ranks.journal = journal
        window: dict[str, int] = {}
        if ranks.rank == 0:
            marker("profile_start")
        window["start_wall"], window["start_monotonic"] = time.time_ns(), time.monotonic_ns()
        for i in range(options.batches):
            time.sleep(options.gap)
            _batch(ranks, model, prompts[1 + i], i, options, journal)
        window["end_wall"], window["end_monotonic"] = time.time_ns(), time.monotonic_ns()
        if ranks.rank == 0:
            marker("profile_end")
        ranks.journal = None
        ranks.barrier()
        journal.content["window"] = window
        journal.content["reference"].append(ranks.reference(size=options.reference_mib * MIB))
    journal.write(folder())
    dist.destroy_process_group()


def _batch(
    ranks: Any, model: Any, prompts: Any, number: int, options: argparse.Namespace, journal: Any
) -> None:
    """Serve one batch whose requests all come at once."""
    from benchmarks.workloads.journal import request

    begun, times = time.perf_counter(), []
    token = prompts
    for step in range(options.output):
        phase = "decode" if step else "prefill"
        at = options.input + step - 1 if step else 0
        facts = {"batch": number, "step": step, "sequences": options.batch, "tokens": token.shape[1]}
        with journal.step(phase, **facts), ranks.range(phase):
            token = model(token, at)
            token.tolist()  # as a server must, to send it out
        times.append(time.perf_counter())
    journal.content["requests"] += [request(begun, times, options.input) for _ in range(options.batch)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

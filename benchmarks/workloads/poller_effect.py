"""What the poller of `tracelake record` costs a running all-reduce: rounds without and with it, in turn.

Example: python -m benchmarks.workloads.poller_effect --out poller_effect.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS = ("none", "total", "all")


def main(words: list[str]) -> int:
    """Start the ranks, be one of them, or poll (``--poll``)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("poller_effect.json"))
    parser.add_argument("--poll", nargs=2, metavar=("LINKS", "DIR"), help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.poll:
        from ingest.record.experiment import Options, record

        record(Options(out=Path(options.poll[1]), links=options.poll[0]))
        return 0
    if "RANK" not in os.environ:
        from benchmarks.workloads.ranks import launch

        return launch("benchmarks.workloads.poller_effect", options.ranks, words)
    _rank(options)
    return 0


def _rank(options: argparse.Namespace) -> None:
    import torch

    from benchmarks.workloads.nccl_reference import _call, _timed
    from benchmarks.workloads.ranks import MIB, Ranks

    ranks = Ranks()
    calls = {
        "256 MiB": (_call(ranks, "all_reduce", 256 * MIB), 600),
        "40 KiB": (_call(ranks, "all_reduce", 40960), 6000),
    }
    found: dict[str, dict[str, list[float]]] = {name: {k: [] for k in _KINDS} for name in calls}
    pollers: dict[str, Any] = {}
    for call, times in calls.values():
        _timed(ranks, call, times)
    for number in range(options.rounds):
        for kind in _KINDS[number % 3 :] + _KINDS[: number % 3]:
            with _poller(kind, pollers) if ranks.rank == 0 else contextlib.nullcontext():
                ranks.barrier()
                for name, (call, times) in calls.items():
                    found[name][kind].append(_timed(ranks, call, times) * 1e6)
                ranks.barrier()
    if ranks.rank == 0:
        rows = []
        for name, by_kind in found.items():
            base = statistics.median(by_kind["none"])
            for kind, us in by_kind.items():
                middle = statistics.median(us)
                rows.append(
                    {
                        "all_reduce": name, "poller": kind, "median_us": middle, "least_us": min(us),
                        "most_us": max(us), "against_none_pct": 100 * (middle / base - 1), "rounds_us": us,
                    }
                )  # fmt: skip
        options.out.write_text(
            json.dumps({"rows": rows, "pollers": pollers}, indent=1) + "\n", encoding="utf-8"
        )
    torch.distributed.destroy_process_group()


@contextlib.contextmanager
def _poller(kind: str, summaries: dict[str, Any]) -> Iterator[None]:
    """Run the recorder's poller of all GPUs in another process; keeps what it says of itself."""
    if kind == "none":
        yield
        return
    with tempfile.TemporaryDirectory(prefix="poller-") as parent:
        folder = Path(parent) / "trace"
        environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
        words = [sys.executable, "-m", "benchmarks.workloads.poller_effect", "--poll", kind, str(folder)]
        child = subprocess.Popen(words, env=environment)
        while not (files := list(folder.glob("*.bin"))) or any(f.stat().st_size <= 12 for f in files):
            if child.poll() is not None:
                raise SystemExit("the poller did not start")
            time.sleep(0.01)
        yield
        child.send_signal(signal.SIGTERM)
        child.wait()
        summary = json.loads((folder / "record_summary.json").read_text(encoding="utf-8"))
        summaries.setdefault(kind, []).append(summary["pollers"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

#!/bin/bash
# Record every trace of docs/accuracy.md on a machine with RANKS (2) GPUs joined by NVLink.
#   RANKS=2 bash benchmarks/workloads/record.sh OUT [STAGE…]
# nsys, python3 with PyTorch and tracelake's needs must be on the PATH. Each stage has its own time limit;
# what a stage left is packed into OUT at once, so that a later failure costs nothing.
set -u
out=$1; shift
ranks=${RANKS:-2}
work=${WORK:-$(mktemp -d)}
deadline=$((SECONDS + ${LIMIT:-100000}))
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 NCCL_NVLS_ENABLE=0 OMP_NUM_THREADS=4
tracelake() { timeout -k 25 "${STAGE_LIMIT:-110}" python3 -c 'from ingest.cli import main; main()' "$@"; }

with_card() { # NAME: the prepared card, where there is one for this number of GPUs
    local file="benchmarks/workloads/cards/$1.yaml"
    [ -f "$file" ] && echo --card && echo "$file"
}

pack() { # DIR: one archive, cut into parts that travel
    python3 - "$1" "$out" <<'PY'
import sys, tarfile, tempfile, zstandard
from pathlib import Path
source, out = Path(sys.argv[1]), Path(sys.argv[2])
name = source.name.replace("[", "-").replace("]", "")
target = Path(tempfile.gettempdir(), f"{name}.tar.zst")
with target.open("wb") as raw:
    level = zstandard.ZstdCompressionParameters.from_level(15, threads=16, enable_ldm=True, window_log=27)
    with zstandard.ZstdCompressor(compression_params=level).stream_writer(raw) as packed:
        with tarfile.open(fileobj=packed, mode="w|") as tar:
            for file in sorted(source.rglob("*")):
                if file.is_file() and file.suffix != ".nsys-rep":
                    tar.add(file, f"{source.name}/{file.relative_to(source)}")
size, part = target.stat().st_size, 15 << 20
with target.open("rb") as raw:
    for n in range(-(-size // part)):
        (out / f"{name}.tar.zst.{n}").write_bytes(raw.read(part))
print(f"packed {name}: {size / 1e6:.1f} MB")
PY
}

stats() { # DIR: what nsys itself counts beside the export: of the whole capture, and of the profile window
    [ -f "$1/profile.sqlite" ] || return 0
    local window
    window=$(python3 - "$1" <<'PY'
import json, sqlite3, sys
con = sqlite3.connect(f"{sys.argv[1]}/profile.sqlite")
zero = con.execute("select utcEpochNs from TARGET_INFO_SESSION_START_TIME").fetchone()[0]
at = [json.load(open(f"{sys.argv[1]}/timing_profile_{n}.json"))["wall_clock_ns"] - zero for n in ("start", "end")]
print(f"{at[0]}ns/{at[1]}ns")
PY
)
    local report=(nsys stats --report cuda_gpu_kern_sum --format csv)
    timeout 60 "${report[@]}" "$1/profile.sqlite" > "$1/nsys_stats.csv" || echo "nsys stats failed"
    timeout 60 "${report[@]}" --filter-time "$window" "$1/profile.sqlite" > "$1/nsys_stats_window.csv" ||
        echo "nsys stats of the window failed"
}

serve() { # NAME LINKS BATCH CARD-OPTIONS… -- WORKLOAD-OPTIONS…
    local name=$1 links=$2 batch=$3; shift 3
    local card; mapfile -t card < <(with_card "$name"); while [ "$1" != -- ]; do card+=("$1"); shift; done; shift
    tracelake record --out "$work/$name" --links "$links" --nsys --phase inference --framework pytorch \
        --precision bf16 --dataset random --batch-size "$batch" --input-len 1024 --contributor tracelake \
        "${card[@]}" -- python3 -m benchmarks.workloads.serve --ranks "$ranks" --batch "$batch" "$@"
    echo "exit $?"; stats "$work/$name"; pack "$work/$name"
}

train() { # NAME RECORD-OPTIONS… -- WORKLOAD-OPTIONS…
    local name=$1; shift
    local how; mapfile -t how < <(with_card "$name"); while [ "$1" != -- ]; do how+=("$1"); shift; done; shift
    tracelake record --out "$work/$name" --links total --phase training --framework pytorch --precision bf16 \
        --dataset random --batch-size 2 --model-family llama3.1-8b --contributor tracelake "${how[@]}" \
        -- python3 -m benchmarks.workloads.train --ranks "$ranks" "$@"
    echo "exit $?"; stats "$work/$name"; pack "$work/$name"
}
dense=(--model-family qwen3-32b --tp "$ranks")

stage() {
    case $1 in
    reference)
        NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=INIT,TUNING,GRAPH NCCL_DEBUG_FILE="$work/nccl.%p.log" \
            timeout 100 python3 -m benchmarks.workloads.nccl_reference --ranks "$ranks" --out "$out/nccl_reference.json"
        for f in "$work"/nccl.*.log; do sort "$f" | uniq -c | sort -rn | head -300 > "$out/$(basename "$f")"; done ;;
    burst) serve qwen3-32b-tp_$ranks-batch_4-burst total 4 "${dense[@]}" --output-len 16 \
        -- --batches 3 --output 16 --gap 0.4 ;;
    batch_4) serve qwen3-32b-tp_$ranks-batch_4 total 4 "${dense[@]}" --output-len 32 -- --batches 2 --output 32 ;;
    batch_1) serve qwen3-32b-tp_$ranks-batch_1 total 1 "${dense[@]}" --output-len 24 -- --batches 3 --output 24 ;;
    per_link) serve "qwen3-32b-tp_$ranks-batch_4[per_link]" all 4 "${dense[@]}" --output-len 16 \
        -- --batches 2 --output 16 ;;
    moe) serve qwen3-30b-a3b-ep_$ranks-batch_4 total 4 --model-family qwen3-30b-a3b --ep "$ranks" --output-len 12 \
        -- --model qwen3-30b-a3b --batches 2 --output 12 ;;
    train)
        train "llama3.1-8b-dp_$ranks" --nsys -- ;;
    kineto)
        train "llama3.1-8b-dp_$ranks-kineto" -- --profiler ;;
    poller) timeout 120 python3 -m benchmarks.workloads.poller_effect --ranks "$ranks" --out "$out/poller_effect.json" ;;
    *) echo "no stage $1" ;;
    esac
}

for name in "${@:-reference}"; do
    if [ "$SECONDS" -gt "$deadline" ]; then echo "=== $name: no time left"; continue; fi
    begun=$SECONDS
    echo "=== $name at ${SECONDS} s"
    stage "$name" > "$out/$name.log" 2>&1
    echo "=== $name took $((SECONDS - begun)) s"; tail -n "${TAIL:-12}" "$out/$name.log"
done

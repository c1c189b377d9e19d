"""The patterns in the seeds catch what they must and nothing else."""

from __future__ import annotations

import duckdb
import pytest

from ingest.resources import resource


def first_match(seed: str, text: str, column: str, pattern: str = "pattern") -> str | None:
    found = duckdb.execute(
        f"select {column} from read_csv(?, header = true, quote = '\"') where regexp_matches(?, {pattern}) "
        "order by priority limit 1",
        [str(resource("dbt_project") / "seeds" / f"{seed}.csv"), text],
    ).fetchone()
    return found[0] if found else None


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "nccl"),
        ("ncclKernel_AllGather_RING_LL_Sum_int8_t(ncclDevComm*, unsigned long, ncclWork*)", "nccl"),
        ("ncclSymkDevKernel_AllReduce_AGxLL_R_sum(ncclSymDevArgs)", "nccl"),
        ("void vllm::cross_device_reduce_1stage<__nv_bfloat16, 2>(vllm::RankData*)", "custom_all_reduce"),
        ("void two_shot_all_reduce_kernel<float, 16>(float**)", "symm_mem"),
        ("void multimem_one_shot_all_reduce_kernel<c10::BFloat16, 16>(c10::BFloat16*)", "symm_mem"),
        ("void flashinfer::allreduce_fusion_kernel_oneshot_lamport<1>(int)", "flashinfer"),
        ("void deep_ep::internode::dispatch<true>(int4*)", "deep_ep"),
    ],
)
def test_communication_kernels_are_known_by_their_demangled_name(name: str, library: str) -> None:
    assert first_match("comm_kernel_patterns", name, "library") == library


@pytest.mark.parametrize(
    "name",
    [
        "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float>>(at::native::ReduceOp<float>)",
        "broadcast_kernel",
        "send",
        "recv",
        "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm>(Params)",
        "void dispatch<int>(int*)",
        "void cub::DeviceReduceKernel<Policy>(float*)",
    ],
)
def test_false_friends_are_compute(name: str) -> None:
    assert first_match("comm_kernel_patterns", name, "library") is None


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("nvidia h200", 900),
        ("nvidia h100 80gb hbm3", 900),
        ("nvidia h100 pcie", 600),
        ("nvidia a100-sxm4-80gb", 600),
        ("tesla v100-sxm2-32gb", 300),
        ("nvidia b200", 1800),
        ("nvidia gb200", 1800),
        ("nvidia l40s", None),
    ],
)
def test_a_gpu_name_gives_its_nvlink_peak(name: str, peak: int | None) -> None:
    assert first_match("gpu_link_specs", name, "peak_gb_s", "name_pattern") == peak


@pytest.mark.parametrize(
    ("text", "phase"),
    [
        ("prefill", "prefill"),
        ("Prefill: batch 4", "prefill"),
        ("decode_step 3", "decode"),
        ("ProfilerStep#2", "step"),
        ("Optimizer.step#AdamW.step", "optimizer"),
        ("backward", "backward"),
        ("ncclAllReduce", None),
        ("decoder_layer", None),
        ("chunkedprefilling", None),
    ],
)
def test_a_range_text_gives_its_phase(text: str, phase: str | None) -> None:
    assert first_match("phase_patterns", text, "phase") == phase

"""Timing markers and experiment metadata."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.errors import FormatError
from ingest.formats import FORMATS, Reading, Source, guess_format
from ingest.formats.metadata import parse_metadata

if TYPE_CHECKING:
    from pathlib import Path

MARKER = {
    "name": "profile_start", "wall_clock_ns": 1795487491817909424, "wall_clock_us": 1795487491817909,
    "monotonic_ns": 38178021084,
}  # fmt: skip


def write(folder: Path, document: Any, name: str) -> Path:
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    source = Source(path, path.name)
    fmt = guess_format(source)
    assert fmt.name == "markers"
    return [row for batch in fmt.read(Reading(source, path.parent)) for row in batch.rows.to_pylist()]


def test_a_marker_is_one_exact_row(tmp_path: Path) -> None:
    path = write(tmp_path, MARKER, "timing_profile_start.json")
    assert read(path) == [
        {
            "path": path.name,
            "name": "profile_start",
            "wall_ns": 1795487491817909424,
            "monotonic_ns": 38178021084,
        }
    ]


def test_microseconds_alone_suffice_and_monotonic_may_be_missing(tmp_path: Path) -> None:
    (row,) = read(write(tmp_path, {"name": "a", "wall_clock_us": 1795487491817909}, "m.json"))
    assert (row["wall_ns"], row["monotonic_ns"]) == (1795487491817909000, None)


def test_the_file_name_names_a_nameless_marker(tmp_path: Path) -> None:
    assert read(write(tmp_path, {"wall_clock_ns": 5}, "timing_nsys_start.json"))[0]["name"] == "nsys_start"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"name": "a"}, "timing_a.json: wall_clock_ns: the marker is without its number"),
        ({"name": "a", "wall_clock_ns": None}, "without its number"),
        ({"name": "a", "wall_clock_ns": "soon"}, "wall_clock_ns: 'soon' is not a whole number"),
        ({"name": "a", "wall_clock_ns": True}, "wall_clock_ns: True is not"),
        ({"name": "a", "wall_clock_ns": -1}, "no time since 1970"),
        ({"name": "a", "wall_clock_us": 2**62}, "no time since 1970"),
        ({"name": "a", "wall_clock_ns": 2**64}, "not a whole number"),
        ({**MARKER, "wall_clock_us": 5}, "two instants"),
        ({**MARKER, "monotonic_ns": -5}, "monotonic_ns: -5 is negative"),
        ({**MARKER, "name": 5}, "name: the marker has none"),
        ("", "holds no JSON"),
        ("[" * 100_000, "nested too deep"),
        ('{"name": "a", "name": "b"}', "'name' is there twice"),
        ("{} {}", "2 JSON objects"),
    ],
)
def test_a_broken_marker_names_its_field(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read(write(tmp_path, document, "timing_a.json"))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cut_and_flipped_markers_end_well(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(json.dumps(MARKER).encode())
    del content[data.draw(st.integers(0, len(content))) :]
    if content:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / "timing_x.json"
    path.write_bytes(content)
    for name in ("markers", "metadata"):
        try:
            list(FORMATS[name].read(Reading(Source(path, path.name), tmp_path)))
        except FormatError as exc:
            assert "timing_x.json" in str(exc)  # noqa: PT017


def test_metadata_is_plain_json_without_private_fields(tmp_path: Path) -> None:
    document = {
        "backend": "vllm", "tensor_parallel_size": 4, "batch_size": 8, "duration": 1.5, "max_tokens": 16,
        "env": {"AWS_SECRET": "x"}, "command": "run",
        "nested": {"hostname": "h", "api_key": "k", "layers": 36},
    }  # fmt: skip
    path = write(tmp_path, document, "experiment_metadata.json")
    assert guess_format(Source(path, path.name)).name == "metadata"
    found = parse_metadata(path)
    assert found == {
        "backend": "vllm", "tensor_parallel_size": 4, "batch_size": 8, "duration": 1.5, "max_tokens": 16,
        "nested": {"layers": 36},
    }  # fmt: skip
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"tensor_parallel_size": "many"}, "tensor_parallel_size: 'many' is not a whole number"),
        ({"batch_size": 0}, "batch_size: 0 is below 1"),
        ({"backend": 5}, "backend: 5 is not a text"),
    ],
)
def test_broken_metadata_names_its_field(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse_metadata(write(tmp_path, document, "experiment_metadata.json"))

"""What several test files need: small traces, an empty lake, the command line."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ingest.lake import Lake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DATA = Path(__file__).parent / "data"
TX, RX, ALL_LINKS = 138, 139, 0xFFFFFFFF
T0 = 1_700_000_000_000_000  # µs


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of the tests' data."""
    return DATA


@pytest.fixture(scope="session")
def sample_traces() -> list[Path]:
    """The traces that come with tracelake."""
    return sorted(DATA.joinpath("traces").iterdir())


@pytest.fixture(scope="session")
def card_text() -> str:
    return (DATA / "traces" / "cuda-graph-tp_1" / "cuda-graph-tp_1.yaml").read_text()


@pytest.fixture(scope="session")
def nvf1_bytes() -> Callable[..., bytes]:
    """Build a counter file from (field, scope, time in µs, value, return code) records."""

    def build(
        records: Sequence[tuple[int, int, int, int, int]], *,
        magic: bytes = b"NVF1", version: int = 1, struct_bytes: int = 40,
    ) -> bytes:  # fmt: skip
        rows = [
            struct.pack("<QIIqqIIQ", us * 1000 + 7, field, scope, us, 3, 3, ret, value)
            for field, scope, us, value, ret in records
        ]
        return struct.pack("<4sHHi", magic, version, struct_bytes, 8) + b"".join(rows)

    return build


@pytest.fixture(scope="session")
def make_trace(card_text: str, nvf1_bytes: Callable[..., bytes]) -> Callable[..., Path]:
    """Write a small trace directory: a card, a counter file of one GPU, two markers."""

    def build(folder: Path, *, samples: int = 40, gpu: int = 0, slope: int = 1000) -> Path:
        folder.mkdir(parents=True)
        (folder / "card.yml").write_text(card_text)
        records = [
            (f, ALL_LINKS, T0 + i * 1000, i * slope * (1 + f - TX), 0)
            for i in range(samples)
            for f in (TX, RX)
        ]
        (folder / f"nvlink_trace_gpu{gpu}.bin").write_bytes(nvf1_bytes(records))
        for name, us in (("start", T0), ("end", T0 + samples * 1000)):
            (folder / f"timing_profile_{name}.json").write_text(
                f'{{"name": "profile_{name}", "wall_clock_ns": {us * 1000}, "monotonic_ns": {us * 1000 - 10**15}}}'
            )
        return folder

    return build


@pytest.fixture(scope="session")
def _empty_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template") / "lake"
    Lake.create(root).close()
    return root


@pytest.fixture
def lake_root(_empty_lake: Path, tmp_path: Path) -> Path:
    """The folder of a fresh, empty lake."""
    return Path(shutil.copytree(_empty_lake, tmp_path / "lake"))


@pytest.fixture
def lake(lake_root: Path) -> Iterator[Lake]:
    """A fresh, empty lake, open."""
    with Lake(lake_root) as lake:
        yield lake


@pytest.fixture
def cli_run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process; returns exit code, stdout and stderr."""
    from ingest.cli import main

    def run(*arguments: Any) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        code = exit_.value.code
        assert isinstance(code, int)
        return code, out, err

    return run


@pytest.fixture(scope="session")
def lake_state() -> Callable[[Lake], dict[str, dict[str, int]]]:
    """Rows of every raw table by trace."""

    def state(lake: Lake) -> dict[str, dict[str, int]]:
        from ingest.contracts import contracts

        return {
            table: dict(lake.sql(f"select trace_id, count(*) from lake.raw.{table} group by all"))
            for table in contracts()
        }

    return state

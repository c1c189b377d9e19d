"""Secrets in an upload: they are told without being shown, never enter the lake, and scrub leaves them out."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.credentials import find, is_secret, is_secret_name, redact
from ingest.errors import CardError, FormatError, TraceError
from ingest.formats.public import error_kind, public_name
from ingest.load import ingest
from ingest.scrub.copy import scrub
from ingest.scrub.detect import find_secrets
from ingest.trace import open_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ingest.lake import Lake

DATA = Path(__file__).parent / "data"
MARK = "Zq7MARKER"  # in every value that must not enter the lake
# A value of a known shape, put together here so that no scanner of repositories takes it for a real one.
HF = "hf" + "_" + MARK + "a1" * 15


def _sqlite_with_secrets(path: Path) -> None:
    shutil.copyfile(DATA / "traces" / "cuda-graph-tp_1" / "profile.sqlite", path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("create table TARGET_INFO_SYSTEM_ENV (globalVid integer, name text, value text)")
        db.executemany(
            "insert into TARGET_INFO_SYSTEM_ENV values (1, ?, ?)",
            [
                ("HF_TOKEN", f"{MARK}-token-1"),
                ("HOSTNAME", f"{MARK}-host"),
                ("HOME", f"/home/{MARK}"),
                ("LANG", "C"),
            ],
        )
        db.execute("create table META_DATA_CAPTURE (name text, value text)")
        db.execute(
            "insert into META_DATA_CAPTURE values ('COMMON_LAUNCH:0:ARGS', ?)",
            (f"python serve.py --api-key {MARK}-key-22 --port 8000",),
        )
        db.execute("create table PROCESSES (globalPid integer, pid integer, name text)")
        db.execute("insert into PROCESSES values (1, 2, ?)", (f"/usr/bin/{MARK} --password={MARK}pw",))
        db.execute(
            "insert into META_DATA_EXPORT values ('EXPORT_COMMAND', ?)",
            (f"nsys export {MARK}",),
        )  # fmt: skip
        db.execute(
            "update META_DATA_EXPORT set value = ? where name = 'EXPORT_PRODUCT_VERSION'", (f"1 {MARK}",)
        )
        db.execute("insert into StringIds values (900001, ?)", (f"WANDB_API_KEY={MARK}0123",))
        db.execute("insert into StringIds values (900002, ?)", (f"{MARK} a thread's name",))
        columns = [r[1] for r in db.execute("pragma table_info(NVTX_EVENTS)")]
        row = dict(zip(columns, db.execute("select * from NVTX_EVENTS limit 1").fetchone(), strict=True))
        for text, kind in ((f"load {HF}", 59), (f"mark {MARK}", 34)):
            row.update(text=text, textId=None, eventType=kind)
            db.execute(f"insert into NVTX_EVENTS values ({', '.join('?' * len(row))})", list(row.values()))
        db.commit()


def _benchmark(extra: dict[str, Any] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (DATA / "benchmark" / "openai-infqps-concurrency4-mock-20261124-024003.json").read_text()
    )
    return found | {
        "generated_texts": [f"{MARK} said"] * 24, "prompts": [MARK] * 24,
        "errors": [f"Cannot connect to host {MARK}:8000 [Connection refused] for {HF}"] + [""] * 23,
        "model_id": f"/home/{MARK}/models/Qwen3-8B", "tokenizer_id": f"/home/{MARK}/tok", "label": MARK,
        "date": f"{MARK} at noon, 3 o'clock", "api_key": f"{MARK}12345", "env": {"HF_TOKEN": HF, "X": MARK},
        "command": f"vllm bench --token {MARK}", MARK: MARK,
    } | (extra or {})  # fmt: skip


def _kineto() -> dict[str, Any]:
    with gzip.open(DATA / "traces" / "kineto-encoder-train" / "rank0.pt.trace.json.gz") as file:
        found: dict[str, Any] = json.load(file)
    found["traceEvents"] = found["traceEvents"][:3000]
    at = found["traceEvents"][0]["ts"]
    found["traceEvents"] += [
        {"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "ts": at, "args": {"name": f"python {MARK}"}},
        {"ph": "X", "cat": "python_function", "name": f"/home/{MARK}/train.py(3): f", "pid": 1, "tid": 1, "ts": at, "dur": 5},
        {"ph": "X", "cat": "user_annotation", "name": f"step {HF}", "pid": 1, "tid": 1, "ts": at, "dur": 5},
        {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 1, "ts": at, "dur": 5, "args": {"Concrete Inputs": [MARK], "x": MARK}},
    ]  # fmt: skip
    return found | {
        "host": MARK,
        "hostname": MARK,
        "env": {"HF_TOKEN": HF},
        "traceName": f"/home/{MARK}/t.json",
    }


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, make_trace: Callable[..., Path]) -> Path:
    """A trace with a marker in every place where an upload may hold a secret."""
    folder = make_trace(tmp_path_factory.mktemp("planted") / "planted")
    _sqlite_with_secrets(folder / "profile.sqlite")
    (folder / "vllm.json").write_text(json.dumps(_benchmark()))
    sglang = json.loads((DATA / "benchmark" / "sglang_results.jsonl").read_text().splitlines()[0])
    sglang |= {
        "generated_texts": [MARK],
        "server_info": {"model_path": f"~/{MARK}/m", "api_key": MARK},
        "tag": MARK,
    }
    (folder / "runs.jsonl").write_text(json.dumps(sglang) + "\n")
    log = (DATA / "benchmark" / "vllm_console.log").read_text()
    (folder / "client.log").write_text(
        f"Namespace(backend='vllm', model='/home/{MARK}/m', api_key='{MARK}aaa', dataset_name='sharegpt')\n"
        f"export HF_TOKEN={HF}\nprompt: {MARK} Mean TTFT\n{log}\nuser {MARK} on {MARK}\n"
    )
    (folder / "rank0.pt.trace.json").write_text(json.dumps(_kineto()))
    (folder / "experiment_metadata.json").write_text(
        json.dumps({
            "backend": "vllm", "tensor_parallel_size": 1, "batch_size": 4, "layers": 36, "notes": MARK,
            "env": {"HF_TOKEN": HF}, "command": MARK, "user": MARK, "nested": {"hostname": MARK, "text": [MARK]},
            "model": f"/home/{MARK}/.cache/huggingface/hub/models--Qwen--Qwen3-8B/snapshots/1", MARK + " x/": 5,
            "cuda_version": "12.8", "api_token": f"{MARK}123",
        })
    )  # fmt: skip
    card = (folder / "card.yml").read_text()
    assert "Fifty replays" in card
    (folder / "card.yml").write_text(
        card.replace("Fifty replays", f"Fifty {HF} replays") + f"# password: {MARK}pass\n"
    )
    (folder / ".env").write_text(f"OPENAI_API_KEY={MARK}-abc\n")
    (folder / "notes.txt").write_text(f"login https://ann:{MARK}@example.org\n")
    return folder


def _everything(lake: Lake) -> Iterator[tuple[str, str]]:
    """Every text in every raw table, and every byte of every file of the lake."""
    for schema, table in lake.tables():
        for row in lake.sql(f"select * from lake.{schema}.{table}"):
            yield f"{schema}.{table}", repr(row)
    for path in Path(lake.place.root).rglob("*"):
        if path.is_file():
            yield path.name, path.read_bytes().decode("latin-1")
            if path.suffix == ".parquet":
                with pq.ParquetFile(path) as file:
                    yield path.name, repr(file.read().to_pylist()) + repr(file.metadata.metadata)
                    for group in range(file.metadata.num_row_groups):
                        yield path.name, repr(file.metadata.row_group(group).to_dict())
    with closing(sqlite3.connect(Path(lake.place.root) / "catalog.sqlite")) as db:
        yield "catalog", "\n".join(db.iterdump())


def test_nothing_private_of_an_upload_enters_the_lake(planted: Path, lake: Lake) -> None:
    result = ingest(planted, lake)
    assert result.rows["nvtx_ranges"]
    assert result.rows["requests"]
    assert lake.sql("select text from lake.raw.nvtx_ranges where text like 'load %'") == [
        ("load [redacted]",)
    ]
    assert lake.sql("select distinct model_id from lake.raw.benchmark_runs where engine = 'openai'") == [
        ("Qwen3-8B",)
    ]
    assert lake.sql("select error from lake.raw.requests where error like 'Cannot%'") == [
        ("Cannot connect to host; Connection refused",)
    ]
    metadata = json.loads(lake.sql("select metadata from lake.raw.traces")[0][0])
    assert metadata == {
        "backend": "vllm", "tensor_parallel_size": 1, "batch_size": 4, "layers": 36, "nested": {"text": []},
        "model": "Qwen/Qwen3-8B", "cuda_version": "12.8",
    }  # fmt: skip
    looked_at = 0
    for where, content in _everything(lake):
        looked_at += 1
        assert MARK not in content, where
        assert MARK.encode().hex() not in content.lower(), where
    assert looked_at > 200


def test_validation_names_files_and_keys_but_no_value(planted: Path) -> None:
    with open_trace(planted) as trace:
        found = find_secrets(trace)
    places = {(f.path, f.place, f.key): f.count for f in found}
    assert places[("profile.sqlite", "TARGET_INFO_SYSTEM_ENV", "HF_TOKEN")] == 1
    assert places[("profile.sqlite", "META_DATA_CAPTURE", "api-key")] == 1
    assert places[("profile.sqlite", "PROCESSES", "password")] == 1
    assert places[("profile.sqlite", "StringIds", "WANDB_API_KEY")] == 1
    assert places[("profile.sqlite", "NVTX_EVENTS", "Hugging Face token")] == 1
    assert ("vllm.json", None, "api_key") in places
    assert ("client.log", None, "HF_TOKEN") in places
    assert ("rank0.pt.trace.json", None, "HF_TOKEN") in places
    assert ("experiment_metadata.json", None, "HF_TOKEN") in places
    assert ("card.yml", None, "Hugging Face token") in places
    assert ("card.yml", None, "password") in places
    assert (".env", None, "OPENAI_API_KEY") in places
    assert ("notes.txt", None, "password in an address") in places
    assert not any("HOSTNAME" in f.key or "LANG" in f.key for f in found)
    assert MARK not in "".join(map(str, found))


def test_validate_tells_of_secrets_and_they_block_nothing(
    cli_run: Callable[..., tuple[int, str, str]], make_trace: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_trace(tmp_path / "t")
    code, clean, _ = cli_run("validate", folder, "--json")
    (folder / ".env").write_text(f"HF_TOKEN={HF}\nDB_PASSWORD={MARK}\n")
    again, out, err = cli_run("validate", folder, "--json")
    assert again == code
    (before,), (after,) = json.loads(clean), json.loads(out)
    notes = [n for n in after.pop("notes") if n["kind"] == "secret"]
    before.pop("notes")
    assert after == before
    assert [(n["file"], n["problem"]) for n in notes] == [
        (".env", "DB_PASSWORD: 1 value that looks like a credential."),
        (".env", "HF_TOKEN: 1 value that looks like a credential."),
    ]
    assert "tracelake scrub" in notes[0]["remedy"]
    assert "secret: .env: HF_TOKEN" in err
    assert MARK not in out + err


def test_the_sample_traces_hold_no_secret(sample_traces: list[Path]) -> None:
    for path in sample_traces:
        with open_trace(path) as trace:
            assert find_secrets(trace) == []


def test_an_error_shows_what_is_wrong_but_no_credential(
    make_trace: Callable[..., Path], lake: Lake, tmp_path: Path
) -> None:
    folder = make_trace(tmp_path / "t")
    (folder / "vllm.json").write_text(json.dumps(_benchmark({"completed": HF})))
    with pytest.raises(FormatError, match=r"completed: '\[redacted\]' is not a whole number") as error:
        ingest(folder, lake)
    assert MARK not in str(error.value)
    (folder / "vllm.json").unlink()
    (folder / "card.yml").write_text(
        (folder / "card.yml").read_text().replace("phase: inference", f"phase: {HF}")
    )
    with pytest.raises(CardError, match=r"phase.*\[redacted\]") as refused:
        ingest(folder, lake)
    assert MARK not in str(refused.value) + str(refused.value.problems)


def test_a_secret_across_the_chunks_of_a_stream_is_found_once(tmp_path: Path) -> None:
    for shift in range(0, 60, 7):
        text = (
            "x " * ((1 << 19) - 8_192 // 2 - 30) + " " * shift + "MY_SECRET_TOKEN=abcdefgh1 " + "y " * 700_000
        )
        (tmp_path / "a.log").write_text(text)
        from ingest.scrub.detect import find_in_folder

        assert [(f.key, f.count) for f in find_in_folder(tmp_path)] == [("MY_SECRET_TOKEN", 1)]


def _raw(lake: Lake, path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Ingest a trace and return its raw rows without what names the files' bytes."""
    ingest(path, lake, trace_id="t")
    without = {
        "traces": "ingested_at_ns, content_sha256, source",
        "artifacts": "bytes, sha256",
    }
    rows: dict[str, list[tuple[Any, ...]]] = {}
    for table in [t for s, t in lake.tables() if s == "raw"]:
        where = " where format <> 'ignored'" if table == "artifacts" else ""
        exclude = f"exclude ({without[table]})" if table in without else ""
        rows[table] = lake.sql(
            f"select count(*), sum(hash(t)::hugeint) from (select * {exclude} from lake.raw.{table}{where}) as t"
        )
    lake.remove("t")
    return rows


@pytest.mark.parametrize("ending", ["", ".tar.zst", ".zip"])
def test_a_scrubbed_sample_gives_the_same_rows(
    ending: str, sample_traces: list[Path], lake: Lake, tmp_path: Path
) -> None:
    for path in sample_traces if not ending else sample_traces[:1]:
        out = tmp_path / f"copy-{path.name.split('.')[0]}{ending}"
        result = scrub(path, out)
        assert result.files
        assert _raw(lake, out) == _raw(lake, path)


def test_benchmark_files_give_the_same_rows_after_a_scrub(
    make_trace: Callable[..., Path], lake: Lake, tmp_path: Path
) -> None:
    folder = make_trace(tmp_path / "bench")
    for path in (DATA / "benchmark").iterdir():
        shutil.copy(path, folder / path.name)
    shutil.copy(DATA / "kineto" / "rank1_trace.json", folder)
    scrub(folder, tmp_path / "clean")
    assert _raw(lake, tmp_path / "clean") == _raw(lake, folder)
    text = "".join(p.read_text() for p in (tmp_path / "clean").glob("*.json*"))
    assert "generated_texts" not in text
    assert " hi hi" not in text


def test_a_parquet_export_is_scrubbed_like_the_sqlite_one(
    planted: Path, make_trace: Callable[..., Path], lake: Lake, tmp_path: Path
) -> None:
    folder = make_trace(tmp_path / "t")
    (folder / "run_pqtdir").mkdir()
    with closing(sqlite3.connect(planted / "profile.sqlite")) as db:
        for (table,) in db.execute("select name from sqlite_master where type = 'table'").fetchall():
            rows = db.execute(f"select * from {table}")
            names = [d[0] for d in rows.description]
            content = rows.fetchall()
            columns = (
                dict(zip(names, map(list, zip(*content, strict=True)), strict=True))
                if content
                else {n: [] for n in names}
            )
            pq.write_table(pa.table(columns), folder / "run_pqtdir" / f"{table}.parquet")
    with open_trace(folder) as trace:
        found = {(f.path, f.place, f.key) for f in find_secrets(trace)}
    assert ("run_pqtdir/TARGET_INFO_SYSTEM_ENV.parquet", "TARGET_INFO_SYSTEM_ENV", "HF_TOKEN") in found
    assert ("run_pqtdir/StringIds.parquet", "StringIds", "WANDB_API_KEY") in found
    scrub(folder, tmp_path / "clean")
    assert (
        sorted(p.name for p in (tmp_path / "clean" / "run_pqtdir").iterdir())[0] == "ANALYSIS_DETAILS.parquet"
    )
    for path in (tmp_path / "clean" / "run_pqtdir").iterdir():
        with pq.ParquetFile(path) as file:
            assert MARK not in repr(file.read().to_pylist()) + repr(file.metadata.to_dict())
        assert MARK.encode() not in path.read_bytes()
    before, after = _raw(lake, folder), _raw(lake, tmp_path / "clean")
    before.pop("ingest_skips"), after.pop("ingest_skips")  # the redacted text is told of once only
    assert after == before


@pytest.mark.parametrize("ending", ["", ".tar.gz", ".tar.zst", ".zip"])
def test_a_scrubbed_copy_holds_no_marker_in_any_byte(
    ending: str, planted: Path, lake: Lake, tmp_path: Path
) -> None:
    out = tmp_path / f"clean{ending}"
    result = scrub(planted, out)
    assert {i.name for i in result.left} == {"notes.txt", ".env"}
    with open_trace(out) as trace:
        assert find_secrets(trace) == []
        files = [p for p in trace.root.rglob("*") if p.is_file()]
        assert len(files) == len(result.files) == 10
        for path in files:
            content = path.read_bytes()
            assert MARK.encode() not in content, path.name
        with closing(sqlite3.connect(trace.root / "profile.sqlite")) as db:
            assert db.execute("pragma freelist_count").fetchone() == (0,)
            assert MARK not in "\n".join(db.iterdump())
            assert db.execute("select count(*) from StringIds").fetchone()[0] > 5
    if ending == ".tar.gz":
        with tarfile.open(out) as tar:
            assert {(m.uname, m.gname, m.uid, m.mtime) for m in tar} == {("", "", 0, 0)}
    if ending == ".zip":
        with zipfile.ZipFile(out) as bundle:
            assert all(n.startswith("planted/") for n in bundle.namelist())
    before, after = _raw(lake, planted), _raw(lake, out)
    before.pop("ingest_skips"), after.pop("ingest_skips")  # the redacted texts are told of once only
    assert after == before


def test_a_report_is_refused_unless_its_export_is_there(
    planted: Path, make_trace: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_trace(tmp_path / "t")
    (folder / "run.nsys-rep").write_bytes(b"binary")
    with pytest.raises(FormatError, match=r"run\.nsys-rep: .*cannot be scrubbed.*\nHint: export it"):
        scrub(folder, tmp_path / "clean")
    assert not (tmp_path / "clean").exists()
    shutil.copy(planted / "profile.sqlite", folder / "run.sqlite")
    assert [i.name for i in scrub(folder, tmp_path / "clean").left] == ["run.nsys-rep"]
    with open_trace(folder) as trace:
        assert "run.nsys-rep" in {f.path for f in find_secrets(trace)}


def test_scrub_overwrites_nothing(make_trace: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_trace(tmp_path / "t")
    (tmp_path / "there").mkdir()
    (tmp_path / "there.zip").write_text("mine")
    for out in ("there", "there.zip"):
        with pytest.raises(TraceError, match="it exists already"):
            scrub(folder, tmp_path / out)
    for out, message in (
        ("t/inside", "inside of the trace"),
        ("no/where", "no such folder"),
        ("x.tar.bz2", "no such archive"),
    ):
        with pytest.raises(TraceError, match=message):
            scrub(folder, tmp_path / out)
    assert (tmp_path / "there.zip").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t", "there", "there.zip"]


def test_a_broken_trace_leaves_no_half_copy(make_trace: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_trace(tmp_path / "t")
    data = (DATA / "traces" / "cuda-graph-tp_1" / "profile.sqlite").read_bytes()
    (folder / "profile.sqlite").write_bytes(data[: len(data) // 2])
    with pytest.raises(FormatError, match=r"profile\.sqlite: (cannot be copied|not a readable)"):
        scrub(folder, tmp_path / "clean")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t"]


def test_the_command_scrubs(
    cli_run: Callable[..., tuple[int, str, str]], planted: Path, tmp_path: Path
) -> None:
    code, out, err = cli_run("scrub", planted, "-o", tmp_path / "clean.tar.zst", "--json")
    assert code == 0
    assert {r["file"] for r in json.loads(out)} >= {"profile.sqlite", "vllm.json"}
    assert "notes.txt: stays behind" in err
    assert MARK not in out + err
    code, _, err = cli_run("scrub", planted, "-o", tmp_path / "clean.tar.zst")
    assert code == 1
    assert "nothing is overwritten" in err


@given(st.text(max_size=200))
def test_redaction_and_naming_are_idempotent_on_any_text(text: str) -> None:
    for rule in (redact, error_kind, public_name):
        once = rule(text)
        assert rule(once) == once


@given(
    st.sampled_from(["HF_TOKEN", "api-key", "awsSecretAccessKey", "db.password"]),
    st.sampled_from(["=", ": ", '": "', "='"]),
)
def test_a_named_secret_is_redacted_in_any_spelling(name: str, between: str) -> None:
    text = f"before {name}{between}abcdefgh12 after"
    assert [text[f.start : f.end] for f in find(text)] == ["abcdefgh12"]
    assert "abcdefgh12" not in redact(text)


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_tokens", "128"), ("eos_token", "<|end|>"), ("tokenizer_id", "Qwen/Qwen3"), ("HF_TOKEN", "***"),
     ("HF_TOKEN", "${HF_TOKEN}"), ("token", "12345678"), ("password", "None"), ("key", "abcdefgh"), ("PWD", "/home/x")],
)  # fmt: skip
def test_what_only_sounds_like_a_secret_is_left_alone(name: str, value: str) -> None:
    assert not is_secret(name, value)
    assert redact(f"{name}={value} ") == f"{name}={value} "


def test_names_of_secrets() -> None:
    assert all(
        map(is_secret_name, ("AWS_ACCESS_KEY_ID", "privateKey", "WANDB_API_KEY", "DB_PWD", "githubToken"))
    )
    assert not any(map(is_secret_name, ("OLD_PWD", "monkey", "tokens", "cache_key", "", "NCCL_DEBUG")))

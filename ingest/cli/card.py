"""``tracelake card``: write a workload card, check those of a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

# field, type, what to ask; in the order of the questions
_FIELDS: tuple[tuple[str, Any, str], ...] = (
    ("phase", str, "inference or training"),
    ("model_family", str, "model family, such as qwen3-32b"),
    ("description", str, "what ran, in a sentence"),
    ("moe", bool, "mixture of experts"),
    ("precision", str, "precision, such as bf16"),
    ("granularity", str, "model_fwd, model_fwd_bwd_pass, layer, kernel or request"),
    ("batch_size", int, "batch size"),
    ("seq_len", int, "sequence length, tokens"),
    ("input_len", int, "prompt length, tokens"),
    ("output_len", int, "generated length, tokens"),
    ("dataset", str, "dataset"),
    ("xpu_type", str, "accelerator type: GPU, TPU, NPU or CPU"),
    ("gpu_model", str, "accelerator model, such as h200"),
    ("gpu_count", int, "accelerators in total"),
    ("gpus_per_node", int, "accelerators a node"),
    ("driver_version", str, "driver version"),
    ("topology", str, "network topology, such as nvswitch"),
    ("framework", str, "framework, such as vllm"),
    ("compiler", str, "compiler or tool, such as plain_pytorch"),
    ("tp", int, "tensor-parallel size"),
    ("pp", int, "pipeline-parallel size"),
    ("dp_replicate", int, "replicated data-parallel size"),
    ("dp_shard", int, "sharded data-parallel size"),
    ("cp", int, "context-parallel size"),
    ("ep", int, "expert-parallel size"),
    ("pp_mb", int, "pipeline microbatches"),
    ("comm_library", str, "communication library, such as nccl"),
    ("comm_library_version", str, "version of the communication library"),
    ("contributor", str, "who contributes the trace"),
    ("contact", str, "how to reach the contributor"),
    ("hf_url", str, "model page"),
    ("trace_url", str, "where the raw trace can be had"),
)
_REQUIRED = ("phase", "model_family")


@click.group()
def card() -> None:
    """Write a workload card, or check cards.

    \b
    Example:
      tracelake card check cards/
    """


def _field_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for name, kind, text in reversed(_FIELDS):
        flag = f"--{name.replace('_', '-')}"
        if kind is bool:
            command = click.option(f"{flag}/--no-{name}", name, default=None, help=text.capitalize() + ".")(
                command
            )
        else:
            command = click.option(flag, name, type=kind, help=text.capitalize() + ".")(command)
    return command


@card.command("new")
@_field_options
@click.option(
    "--trace", "traces", multiple=True, help="Kind of trace: nsys, nvml, torch_et, kineto_trace … (repeat)."
)
@click.option("--protocol", "protocols", multiple=True, help="Protocol, scale-out first (repeat).")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write; else stdout."
)
@click.option("--force", is_flag=True, help="Overwrite the file.")
def new(
    output: Path | None, force: bool, traces: tuple[str, ...], protocols: tuple[str, ...], **fields: Any
) -> None:
    """Write a valid card from flags; in a terminal, ask for the fields that no flag gives.

    \b
    Example:
      tracelake card new --phase inference --model-family qwen3-32b --tp 4 -o card.yml
    """
    from ingest.cards import new_card
    from ingest.errors import UsageError

    if output is not None and output.exists() and not force:
        raise UsageError(output, "the file exists.", "--force overwrites it.")
    missing = [name for name in _REQUIRED if fields.get(name) is None]
    if missing and sys.stdin.isatty():
        _ask(fields)
    elif missing:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise UsageError("card new", f"missing: {flags}.", "a card needs at least these.")
    text = new_card(**fields, traces=list(traces), protocols=list(protocols))
    if output is None:
        click.echo(text, nl=False)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    click.echo(f"wrote {output}", err=True)


def _ask(fields: dict[str, Any]) -> None:
    """Ask on stderr for what no flag gave; an empty answer leaves a field empty."""
    click.echo("Enter leaves a field empty.", err=True)
    for name, kind, text in _FIELDS:
        while fields.get(name) is None:
            answer = click.prompt(text, default="", show_default=False, err=True).strip()
            if not answer and name not in _REQUIRED:
                break
            # Booleans and numbers are read by the same rules as in a card.
            if answer and (kind is not int or answer.isdigit()):
                fields[name] = int(answer) if kind is int else answer
            elif answer:
                click.echo("a whole number, or Enter.", err=True)


@card.command("check")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…", type=click.Path(path_type=Path))
@click.option("-q", "--quiet", is_flag=True, help="Print only what is refused.")
def check(paths: tuple[Path, ...], quiet: bool) -> None:
    """Check cards, files or folders: what was normalised, what is refused and why. Exit 1 if any is.

    \b
    Example:
      tracelake card check cards/
    """
    from ingest.cards import check_folder
    from ingest.errors import UsageError

    checked = refused = 0
    for path in paths:
        if not path.exists():
            raise UsageError(path, "no such file or directory.")
        for one in check_folder(path):
            checked += 1
            if one.error is not None:
                refused += 1
                click.echo(str(one.error))
            elif one.card is not None and not quiet:
                changes = one.card.normalisations
                click.echo(f"{one.path}: fine" + (f", {len(changes)} normalised" if changes else ""))
                for change in changes:
                    click.echo(f"  {change}")
    if not checked:
        raise UsageError(paths[0], "there is no card (*.yml, *.yaml) here.")
    click.echo(f"{checked} cards, {refused} refused", err=True)
    if refused:
        click.get_current_context().exit(1)

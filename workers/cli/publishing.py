"""The command `publish`: files to IPFS, schemas around them, models to the registry."""

from __future__ import annotations

import re
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from workers.cli.errors import CommandError, bad_input
from workers.cli.exits import ExitCode
from workers.cli.options import AccountOption, AsJson, MetricOption

if TYPE_CHECKING:
    from storage import IPFS, DataSchema, ModelSchema

_FORMAT_BY_SUFFIX = {
    ".h5": "h5",
    ".hdf5": "h5",
    ".keras": "keras",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_INTEGER = re.compile(r"-?\d+", re.ASCII)
_MODEL_PANEL = "Model schema"
_DATA_PANEL = "Data schema"


@dataclass
class Published:
    """What was stored: its CID; for a schema also the JSON and the CID of the file that it describes."""

    kind: Literal["file", "folder", "model", "data"]
    path: str
    cid: str
    asset_cid: str | None = None
    schema: dict[str, Any] | None = None
    model_id: int | None = None
    transaction: str | None = None


def publish(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", exists=True, help="Files and folders to store as they are."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", exists=True, dir_okay=False, help="Store a model file and its schema."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", exists=True, dir_okay=False, help="Store a data file and its schema."),
    ] = None,
    signature: Annotated[
        str | None,
        typer.Option("--signature", help="The input_signature that model and data share: any text. Default: made up."),
    ] = None,
    file_format: Annotated[
        str | None, typer.Option("--format", help="Format of the one file given. Default: by its name.")
    ] = None,
    identifier: Annotated[str | None, typer.Option("--uuid", help="The schema's uuid. Default: a new one.")] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="classification or regression.", rich_help_panel=_DATA_PANEL)
    ] = None,
    label: Annotated[
        str | None,
        typer.Option("--label", help="The label's column: its name, or its position.", rich_help_panel=_DATA_PANEL),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option("--classes", min=2, help="How many classes there are.", rich_help_panel=_DATA_PANEL),
    ] = None,
    label_encoding: Annotated[
        str | None,
        typer.Option("--label-encoding", help="index, one_hot, binary or value.", rich_help_panel=_DATA_PANEL),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option("--columns", help="Feature columns, comma separated.", rich_help_panel=_DATA_PANEL),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option("--encoding", help="Features: numeric or multi_hot.", rich_help_panel=_DATA_PANEL),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", min=1, help="Width of a multi-hot vector.", rich_help_panel=_DATA_PANEL),
    ] = None,
    scale: Annotated[
        float | None, typer.Option("--scale", help="Divide every feature by it.", rich_help_panel=_DATA_PANEL)
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option("--shape", help="Shape of one row for the model, for example 8,8,1.", rich_help_panel=_DATA_PANEL),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Evaluate the pair right here first; an invalid one is not registered."),
    ] = False,
    metric: MetricOption = "accuracy",
    register: Annotated[
        bool,
        typer.Option(
            "--register",
            help="Publish the model on chain, so that it can be challenged.",
            rich_help_panel=_MODEL_PANEL,
        ),
    ] = False,
    account: AccountOption = None,
    as_json: AsJson = False,
) -> None:
    """Store files on IPFS and print their CIDs; make schemas for a model and its data; register the model on
    chain.
    """
    from storage import IPFS, StorageSettings
    from workers.cli.output import stages

    _check_options(paths, model, data, register=register, check=check, file_format=file_format)
    shared = signature or f"inputs-{uuid.uuid4().hex[:12]}"
    ipfs = IPFS(settings=StorageSettings())
    done = [_store(ipfs, path) for path in paths or []]
    if model is not None:
        made = _model_schema(ipfs, model, shared, file_format, identifier)
        done.append(_store_schema(ipfs, "model", model, made))
    if data is not None:
        described = {
            "task": task,
            "label": _part(column=_column(label), classes=classes, encoding=label_encoding),
            "features": _part(
                columns=_columns(columns), encoding=encoding, size=size, scale=scale, shape=_shape(shape)
            ),
        }
        made_data = _data_schema(ipfs, data, shared, file_format, identifier, described)
        done.append(_store_schema(ipfs, "data", data, made_data))
    if check:
        _check_pair(done, metric)
    if register:
        with stages("Registering the model"):
            _register(done, account)
    _show(done, as_json=as_json)


def _check_options(
    paths: list[Path] | None,
    model: Path | None,
    data: Path | None,
    *,
    register: bool,
    check: bool,
    file_format: str | None,
) -> None:
    if not paths and model is None and data is None:
        raise typer.BadParameter("give files to store, or --model FILE, or --data FILE")
    if register and model is None:
        raise typer.BadParameter("what is registered is a model: give --model FILE", param_hint="--register")
    if check and (model is None or data is None):
        raise typer.BadParameter("a pair is checked: give --model FILE and --data FILE", param_hint="--check")
    if file_format is not None and (model is None) == (data is None):
        raise typer.BadParameter("it is for one file: give --model or --data, not both", param_hint="--format")


def _store(ipfs: IPFS, path: Path) -> Published:
    from workers.cli.output import byte_progress

    total = path.stat().st_size if path.is_file() else None
    with byte_progress(path.name, total) as progress:
        cid = ipfs.store_file(path, progress=progress)
    return Published("folder" if path.is_dir() else "file", str(path), cid)


def _model_schema(
    ipfs: IPFS, path: Path, signature: str, file_format: str | None, identifier: str | None
) -> ModelSchema:
    from storage import ModelSchema

    return ModelSchema.parse({**_asset(ipfs, path, signature, file_format, identifier), "type": "keras"})


def _data_schema(
    ipfs: IPFS,
    path: Path,
    signature: str,
    file_format: str | None,
    identifier: str | None,
    described: dict[str, Any],
) -> DataSchema:
    from storage import DataSchema

    given = {name: value for name, value in described.items() if value is not None}
    return DataSchema.parse({**_asset(ipfs, path, signature, file_format, identifier), "type": "collection", **given})


def _asset(ipfs: IPFS, path: Path, signature: str, file_format: str | None, identifier: str | None) -> dict[str, Any]:
    """What both schemas say: identifier, signature, format, location."""
    chosen = file_format or _FORMAT_BY_SUFFIX.get(path.suffix.lower())
    if chosen is None:
        known = ", ".join(sorted(set(_FORMAT_BY_SUFFIX.values())))
        raise bad_input(f"The name of {path} does not say its format.", f"Give it by --format: one of {known}.")
    return {
        "uuid": identifier or str(uuid.uuid4()),
        "input_signature": signature,
        "stored_as": "file",
        "format": chosen,
        "location": [{"provider": "ipfs", "endpoint": _store(ipfs, path).cid}],
    }


def _store_schema(
    ipfs: IPFS, kind: Literal["model", "data"], path: Path, schema: ModelSchema | DataSchema
) -> Published:
    document = schema.model_dump(mode="json", exclude_none=True)
    return Published(kind, str(path), ipfs.store_object(document), asset_cid=schema.cid, schema=document)


def _check_pair(done: list[Published], metric: str) -> None:
    """Evaluate what was just published, as a verifier would.

    Raises:
        CommandError: it is not valid.
    """
    import json

    from chain import Verdict
    from storage import Content, StorageSettings
    from tasks.settings import TasksSettings
    from workers.cli.output import note, stages
    from workers.cli.schemas import local_job, scoring
    from workers.cli.values import format_score

    texts = {one.kind: json.dumps(one.schema) for one in done if one.schema is not None}
    job = local_job(texts["model"], texts["data"], scoring(metric, None, None))
    with stages("Loading") as live:
        from workers.verification import verify_here

        evaluated = verify_here(job, Content.from_settings(StorageSettings()), TasksSettings(), stage=live.begin)
    if evaluated.verdict is not Verdict.VALID or evaluated.score is None:
        raise CommandError(
            f"A verifier would find this pair {evaluated.verdict.name.lower()}: {evaluated.reason}",
            code=ExitCode.NEGATIVE,
            hint="The files are stored; nothing was registered.",
        )
    note(f"The pair is valid: {metric} {format_score(evaluated.score)}.")


def _register(done: list[Published], account: str | None) -> None:
    from workers.cli.parts import ChainParts

    parts = ChainParts.load()
    signer = parts.signer(account)
    published = next(one for one in done if one.kind == "model")
    receipt = parts.send(signer, parts.registry.create_model_call(published.cid))
    published.transaction = receipt.transaction
    published.model_id = parts.registry.created_model(receipt.transaction)


def _show(done: list[Published], *, as_json: bool) -> None:
    from workers.cli.output import emit, note, out

    if as_json:
        emit([{name: value for name, value in asdict(one).items() if value is not None} for one in done])
        return
    for one in done:
        what = f"{one.kind} schema of {one.path}" if one.schema is not None else one.path
        out().print(f"{one.cid}  {what}", markup=False)
        if one.asset_cid is not None:
            note(f"  of {one.asset_cid}, input_signature {(one.schema or {}).get('input_signature')}")
        if one.model_id is not None:
            out().print(f"model {one.model_id}", markup=False)
            note(f"  registered by transaction {one.transaction}")


def _part(**values: Any) -> dict[str, Any] | None:
    """The values that are given, or None if none is."""
    given = {name: value for name, value in values.items() if value is not None}
    return given or None


def _column(text: str | None) -> str | int | None:
    """A column by name, or by position where it is a number."""
    return int(text) if text is not None and _INTEGER.fullmatch(text) else text


def _columns(text: str | None) -> list[str | int] | None:
    if text is None:
        return None
    found = (_column(part.strip()) for part in text.split(","))
    return [column for column in found if column is not None and column != ""]


def _shape(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.replace("x", ",").split(",")]
    except ValueError:
        raise typer.BadParameter("write it like 8,8,1", param_hint="--shape") from None

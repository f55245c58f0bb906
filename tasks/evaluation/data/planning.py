"""How the columns of a data set become inputs and labels of a model: declared, else inferred, always said.

Here live the decisions, as pure functions of the schema, the columns, the shapes of the model and the first
labels. Whatever the schema does not say and is inferred becomes a sentence in the plan; where nothing can be
inferred safely, or schema, data and model contradict each other, the content is invalid. Turning cells into
arrays is the work of `tasks.evaluation.data.encodings`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from storage import DataSchema
from tasks.errors import InvalidContent
from tasks.evaluation.data.tables import PLACE, Column
from tasks.evaluation.network.architecture import gives_probabilities

if TYPE_CHECKING:
    from tasks.evaluation.data.tables import Matrix

Task = Literal["classification", "regression"]
LabelEncoding = Literal["index", "one_hot", "binary", "value"]
_INDEX_COLUMN_NAMES = frozenset({"", "Unnamed: 0", "index"})


@dataclass(frozen=True)
class ModelShape:
    """What a plan must know of a model: the shape of one input (None where it may vary), how many numbers it
    gives for a row, and its last activation."""

    inputs: tuple[int | None, ...]
    outputs: int
    head: str

    @property
    def width(self) -> int | None:
        """Numbers in one input, or None if that may vary."""
        known = [size for size in self.inputs if size is not None]
        return math.prod(known) if len(known) == len(self.inputs) else None


@dataclass(frozen=True)
class Plan:
    """Which columns are features and labels, and how each is written.

    `task`, `label_encoding` and `classes` may be open until the first labels are seen (`settle_labels`).
    """

    features: tuple[int, ...]
    labels: tuple[int, ...]
    feature_encoding: Literal["numeric", "multi_hot"]
    shape: tuple[int, ...]
    scale: float | None
    task: Task | None
    label_encoding: LabelEncoding | None
    classes: int | None
    inferred: tuple[str, ...] = field(default=())


def plan_columns(schema: DataSchema, columns: Sequence[Column], model: ModelShape, *, named: bool) -> Plan:
    """Divide the columns into features and labels. Raises InvalidContent where they do not fit the model."""
    said: list[str] = []
    labels = _label_columns(schema, columns, model, said)
    features = _feature_columns(schema, columns, labels, model, said, named=named)
    width = sum(columns[position].width for position in features)
    encoding, shape = _feature_encoding(schema, width, model, said)
    declared = schema.features.scale if schema.features else None
    label = schema.label
    plan = Plan(
        features=features,
        labels=labels,
        feature_encoding=encoding,
        shape=shape,
        scale=declared,
        task=schema.task,
        label_encoding=label.encoding if label else None,
        classes=label.classes if label else None,
        inferred=tuple(said),
    )
    return _check_declared(plan, model)


def settle_labels(plan: Plan, labels: Matrix, model: ModelShape) -> Plan:
    """Decide task and label encoding, where the schema is silent, by the first labels (one row for each)."""
    said = list(plan.inferred)
    encoding = plan.label_encoding
    if encoding is None:
        encoding, why = _label_encoding(plan, labels, model)
        said.append(why)
    task: Task = "regression" if encoding == "value" else "classification"
    if plan.task is None:
        said.append(f"The task is {task}, as the labels are of the kind {encoding!r}.")
    classes = None
    if task == "classification":
        classes = plan.classes or max(2, model.outputs)
        if plan.classes is None:
            said.append(f"There are {classes} classes, as the model has {model.outputs} output(s).")
        if not gives_probabilities(model.head):
            squash = "the logistic function" if model.outputs == 1 else "softmax"
            said.append(
                f"The model's last activation ({model.head}) gives no probabilities; "
                f"{squash} makes them from its output."
            )
    return _check_declared(
        replace(plan, task=task, label_encoding=encoding, classes=classes, inferred=tuple(said)), model
    )


def _label_columns(
    schema: DataSchema, columns: Sequence[Column], model: ModelShape, said: list[str]
) -> tuple[int, ...]:
    label = schema.label
    count = _label_count(schema, columns, model)
    if label is not None and label.column is not None:
        first = _position(label.column, columns)
        if first + count > len(columns):
            raise InvalidContent(
                "missing-column",
                PLACE,
                f"the labels take {count} columns from {columns[first].name[:80]!r} on; "
                f"there are {len(columns) - first}",
            )
        return tuple(range(first, first + count))
    if count >= len(columns):
        raise InvalidContent(
            "input-misfit",
            PLACE,
            f"{len(columns)} column(s) cannot hold features and {count} column(s) of labels",
        )
    which = "The last column holds" if count == 1 else f"The last {count} columns hold"
    said.append(f"{which} the label, as the schema names no label column.")
    return tuple(range(len(columns) - count, len(columns)))


def _label_count(schema: DataSchema, columns: Sequence[Column], model: ModelShape) -> int:
    """How many columns the labels take."""
    label = schema.label
    encoding = label.encoding if label else None
    if encoding == "one_hot":
        return (label.classes if label else None) or model.outputs
    if encoding in ("index", "binary"):
        return 1
    if encoding == "value" or (encoding is None and schema.task == "regression"):
        return model.outputs
    total = sum(column.width for column in columns)
    declared = schema.features is not None and schema.features.columns is not None
    fits_as_many = model.width is not None and total - model.outputs == model.width
    if not declared and model.outputs > 1 and fits_as_many and total - 1 != model.width:
        return model.outputs
    return 1


def _feature_columns(
    schema: DataSchema,
    columns: Sequence[Column],
    labels: Sequence[int],
    model: ModelShape,
    said: list[str],
    *,
    named: bool,
) -> tuple[int, ...]:
    declared = schema.features.columns if schema.features else None
    if declared is not None:
        chosen = tuple(_position(name, columns) for name in declared)
        if len(set(chosen)) < len(chosen):
            raise InvalidContent("input-misfit", PLACE, "the schema names a column twice among the features")
        if set(chosen) & set(labels):
            raise InvalidContent("input-misfit", PLACE, "a label column is among the features")
        return chosen
    rest = tuple(position for position in range(len(columns)) if position not in set(labels))
    encoding = schema.features.encoding if schema.features else None
    wide = sum(columns[position].width for position in rest)
    counted = named and rest[:1] == (0,) and columns[0].name in _INDEX_COLUMN_NAMES
    if counted and encoding != "multi_hot" and model.width is not None and wide == model.width + 1:
        said.append("The first column is the index of the table, not a feature.")
        return rest[1:]
    said.append(f"All other {len(rest)} columns are features, as the schema names none.")
    return rest


def _feature_encoding(
    schema: DataSchema, width: int, model: ModelShape, said: list[str]
) -> tuple[Literal["numeric", "multi_hot"], tuple[int, ...]]:
    declared = schema.features
    encoding = declared.encoding if declared else None
    if encoding is None and declared is not None and declared.size is not None:
        encoding = "multi_hot"
    if encoding is None:
        numeric = model.width is None or model.width == width
        encoding = "numeric" if numeric else "multi_hot"
        if not numeric and (len(model.inputs) != 1 or width == 0):
            raise _misfit(width, model)
        said.append(
            "The features are plain numbers."
            if numeric
            else f"The features are word indices that become a binary vector of length {model.width} "
            f"(an index of 0 counts as a word), as the model takes {model.width} inputs and the data have "
            f"{width} columns of features."
        )
    if encoding == "multi_hot":
        size = (declared.size if declared else None) or model.width
        if size is None:
            raise InvalidContent("input-misfit", PLACE, "multi-hot features need their size in the schema")
        return encoding, _fit((size,), model, declared.shape if declared else None, said)
    return encoding, _fit((width,), model, declared.shape if declared else None, said)


def _fit(given: tuple[int, ...], model: ModelShape, declared: Sequence[int] | None, said: list[str]) -> tuple[int, ...]:
    """The shape of one input, filled from the number of values that a row has."""
    count = math.prod(given)
    shape = tuple(declared) if declared is not None else _filled(count, model)
    fits = len(shape) == len(model.inputs) and all(
        size in (None, own) for size, own in zip(model.inputs, shape, strict=True)
    )
    if math.prod(shape) != count or not fits:
        raise _misfit(count, model, declared)
    if declared is None and len(shape) > 1:
        said.append(f"The {count} features of a row take the shape {_text(shape)} of the model's input.")
    return shape


def _filled(count: int, model: ModelShape) -> tuple[int, ...]:
    known = math.prod(size for size in model.inputs if size is not None)
    open_places = sum(size is None for size in model.inputs)
    if open_places > 1:
        raise InvalidContent(
            "input-misfit",
            PLACE,
            f"the model's input {_text(model.inputs)} is open in {open_places} places; "
            "the schema must give features.shape",
        )
    if count == 0 or count % known:
        raise _misfit(count, model)
    return tuple(count // known if size is None else size for size in model.inputs)


def _label_encoding(plan: Plan, labels: Matrix, model: ModelShape) -> tuple[LabelEncoding, str]:
    whole = bool((labels == labels.round()).all())
    truth = whole and bool(((labels == 0) | (labels == 1)).all())
    if plan.task == "regression":
        return "value", "The labels are values, as the task is regression."
    if len(plan.labels) > 1:
        if truth and (plan.task == "classification" or bool((labels.sum(axis=1) == 1).all())):
            return "one_hot", "The labels are one-hot: each row has a single 1."
        if plan.task == "classification":
            raise InvalidContent("label-encoding", PLACE, "several label columns that are not one-hot")
        return "value", f"The labels are {len(plan.labels)} values, as many as the model has outputs."
    if model.outputs > 1:
        return "index", f"The label is the index of a class, as the model has {model.outputs} outputs."
    declared = plan.task == "classification" or plan.classes is not None
    if declared or (gives_probabilities(model.head) and truth):
        return "binary", "The label is 0 or 1, as the model gives one probability."
    return "value", f"The label is a value, as the model gives one number (last activation {model.head})."


def _check_declared(plan: Plan, model: ModelShape) -> Plan:
    """Refuse what schema and model cannot both mean; returns the plan."""
    outputs, encoding = model.outputs, plan.label_encoding
    if plan.task == "regression" and encoding not in (None, "value"):
        raise InvalidContent("label-encoding", PLACE, f"labels of the kind {encoding!r} in a regression")
    if plan.task == "classification" and encoding == "value":
        raise InvalidContent("label-encoding", PLACE, "labels of the kind 'value' in a classification")
    if encoding == "binary" and outputs > 2:
        raise InvalidContent("classes-misfit", PLACE, f"binary labels, but the model has {outputs} outputs")
    if plan.classes is not None and encoding != "value" and plan.classes != max(2, outputs):
        raise InvalidContent(
            "classes-misfit",
            PLACE,
            f"{plan.classes} classes in the schema, but the model has {outputs} output(s)",
        )
    return plan


def _position(column: str | int, columns: Sequence[Column]) -> int:
    if isinstance(column, str):
        found = [position for position, one in enumerate(columns) if one.name == column]
        if len(found) != 1:
            many = "no column is" if not found else f"{len(found)} columns are"
            raise InvalidContent("missing-column", PLACE, f"{many} called {column[:80]!r}")
        return found[0]
    position = column + len(columns) if column < 0 else column
    if not 0 <= position < len(columns):
        raise InvalidContent(
            "missing-column", PLACE, f"there is no column {column}; there are {len(columns)}, counted from 0"
        )
    return position


def _misfit(count: int, model: ModelShape, declared: Sequence[int] | None = None) -> InvalidContent:
    shaped = f", shaped {_text(declared)} by the schema" if declared is not None else ""
    return InvalidContent(
        "input-misfit",
        PLACE,
        f"the data have {count} features for a row{shaped}; the model takes {_text(model.inputs)}",
    )


def _text(shape: Sequence[int | None]) -> str:
    return " × ".join("any" if size is None else str(size) for size in shape) or "a single number"

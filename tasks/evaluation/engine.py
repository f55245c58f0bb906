"""One evaluation from request to result.

Here lives the order of the work: load the model, open the data, plan the columns, then batch by batch encode,
predict and count. Content that is wrong ends in the verdict *invalid* with its rule, place and reason;
everything else that goes wrong is an EvaluationError. This runs inside the sandbox, in a process of its own.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import EvaluationUnavailable, InvalidContent
from tasks.evaluation import runtime
from tasks.evaluation.data.encodings import Encoder
from tasks.evaluation.data.planning import ModelShape, Plan, plan_columns, settle_labels
from tasks.evaluation.data.tables import PLACE as DATA
from tasks.evaluation.data.tables import Table, open_table
from tasks.evaluation.metrics import CLASSIFICATION_METRICS, METRICS, REGRESSION_METRICS, canonical_name
from tasks.evaluation.metrics.classification import ClassificationMetrics
from tasks.evaluation.metrics.regression import RegressionMetrics
from tasks.evaluation.models import MAX_TEXT, EvaluationRequest, EvaluationResult, ModelSummary
from tasks.evaluation.network.architecture import gives_probabilities
from tasks.evaluation.network.loading import PLACE as MODEL
from tasks.evaluation.network.loading import LoadedModel, load
from tasks.evaluation.network.specs import InputSpec, LayerSpec, ModelSpec, TensorRef
from tasks.evaluation.prediction import Predictor, choose_batch_size, to_probabilities

if TYPE_CHECKING:
    from tasks.evaluation.data.tables import Matrix

SCORES_IN_ONE = 1_000_000
MAX_SCORE_VALUE = 1e30
_HASH_BYTES = 2**20


def evaluate(request: EvaluationRequest) -> EvaluationResult:
    """Evaluate a model on a data set and give the verdict.

    Content that is wrong for every verifier is the verdict ``invalid``, never an exception. Raises
    EvaluationUnavailable for what may pass (memory, files that cannot be opened) and EvaluationError for what
    this host cannot do.
    """
    work = _Evaluation(request)
    try:
        return work.run()
    except InvalidContent as invalid:
        return work.refused(invalid)
    except MemoryError as error:
        raise EvaluationUnavailable("not enough memory for this evaluation") from error
    except OSError as error:
        raise EvaluationUnavailable(f"a file cannot be read or written: {error}") from error


def score_of(value: float) -> int:
    """A figure in units of 1e-6, rounded half to even on its exact binary value."""
    return round(Fraction(value) * SCORES_IN_ONE)


class _Evaluation:
    """The state of one evaluation; what is known when it ends early goes into its result."""

    def __init__(self, request: EvaluationRequest) -> None:
        self._request = request
        self._metric = canonical_name(request.metric)
        self._timings: dict[str, float] = {}
        self._started = self._last = time.perf_counter()
        self._hashes: dict[str, str] = {}
        self._inferred: list[str] = []
        self._summary: ModelSummary | None = None
        self._task: Any = None
        self._batch_size: int | None = None
        self._rows = 0

    def run(self) -> EvaluationResult:
        request = self._request
        if self._metric not in METRICS:
            raise InvalidContent(
                "unknown-metric", "challenge", f"{request.metric!r:.80} is none of {', '.join(METRICS)}"
            )
        for name, path in (("model", request.model_path), ("data", request.data_path)):
            self._hashes[name] = _sha256(Path(path))
        self._phase("hash")
        runtime.configure(request.threads)
        runtime.start()
        self._phase("start_runtime")
        loaded = load(request, self._phase)
        shape = self._shape_of(loaded)
        table = self._table(loaded, shape)
        plan = plan_columns(request.data, table.columns, shape, named=table.named)
        return self._measure(loaded, shape, table, plan)

    def refused(self, invalid: InvalidContent) -> EvaluationResult:
        """The result that says why the content is invalid."""
        return self._result(
            verdict="invalid",
            rule=invalid.rule,
            place=invalid.place[:MAX_TEXT],
            reason=str(invalid)[:MAX_TEXT],
        )

    def _shape_of(self, loaded: LoadedModel) -> ModelShape:
        if len(loaded.inputs) != 1 or len(loaded.outputs) != 1:
            raise InvalidContent(
                "several-inputs",
                MODEL,
                "a model with several inputs or outputs, for which a data schema has no words",
            )
        outputs = [None if size is None else int(size) for size in loaded.outputs[0].shape[1:]]
        inputs = tuple(None if size is None else int(size) for size in loaded.inputs[0].shape[1:])
        probabilities = gives_probabilities(loaded.built.head)
        self._summary = loaded.summary("probabilities" if probabilities else f"values ({loaded.built.head})")
        self._inferred += loaded.built.spec.notes
        known = [size for size in outputs if size is not None]
        if len(known) != len(outputs):
            raise InvalidContent("output-shape", MODEL, f"the output {outputs} has no fixed size")
        return ModelShape(inputs, math.prod(known), loaded.built.head)

    def _table(self, loaded: LoadedModel, shape: ModelShape) -> Table:
        request = self._request
        widest = max(loaded.built.widest, shape.width or 1)
        self._batch_size = request.batch_size or choose_batch_size(widest)
        label = request.data.label.column if request.data.label else None
        declared = request.data.file_format
        table = open_table(Path(request.data_path), max_columns=request.max_columns, declared=declared, label=label)
        self._inferred += table.notes
        self._phase("open_data")
        return table

    def _measure(self, loaded: LoadedModel, shape: ModelShape, table: Table, plan: Plan) -> EvaluationResult:
        """The loop over batches, and the figures at its end."""
        predictor = Predictor(loaded)
        metrics: ClassificationMetrics | RegressionMetrics | None = None
        encoder: Encoder | None = None
        features = sum(table.columns[position].width for position in plan.features)
        for cells in self._batches(table, plan):
            first_row = self._rows + 1
            if encoder is None or metrics is None:
                plan = settle_labels(plan, cells[:, features:], shape)
                self._task = plan.task
                self._check_metric(plan)
                encoder = Encoder(plan, table.columns, dtype=_input_dtype(loaded), tokens=_tokens(loaded.built.spec))
                metrics = _metrics_for(plan, shape)
            inputs = encoder.features(cells[:, :features], first_row)
            labels = encoder.labels(cells[:, features:], first_row)
            self._phase("encode")
            predictions = predictor.predict(inputs, first_row)
            self._phase("predict")
            if isinstance(metrics, ClassificationMetrics):
                are = gives_probabilities(shape.head)
                metrics.update(labels, to_probabilities(predictions, are_probabilities=are))
            else:
                metrics.update(labels, predictions)
            self._rows += len(cells)
            self._phase("count")
        if metrics is None:
            raise InvalidContent("empty-data", DATA, "the data file has no rows")
        self._inferred += plan.inferred
        return self._valid(metrics, plan)

    def _batches(self, table: Table, plan: Plan) -> Iterator[Matrix]:
        """The cells of features and labels, in batches of the same size whatever the blocks of the file."""
        import numpy as np

        size = self._batch_size or 1
        left: list[Matrix] = []
        waiting = seen = 0
        for block in table.blocks([*plan.features, *plan.labels]):
            self._phase("read_data")
            seen += len(block)
            if seen > self._request.max_rows:
                raise InvalidContent("too-many-rows", DATA, f"more than {self._request.max_rows:,} rows")
            left.append(block)
            waiting += len(block)
            if waiting < size:
                continue
            cells = left[0] if len(left) == 1 else np.concatenate(left)
            whole = waiting - waiting % size
            for start in range(0, whole, size):
                yield cells[start : start + size]
            left, waiting = [cells[whole:].copy()], waiting - whole
        self._phase("read_data")
        if waiting:
            yield left[0] if len(left) == 1 else np.concatenate(left)

    def _check_metric(self, plan: Plan) -> None:
        fitting = CLASSIFICATION_METRICS if plan.task == "classification" else REGRESSION_METRICS
        if self._metric not in fitting:
            raise InvalidContent(
                "metric-misfit",
                "challenge",
                f"{self._metric} is not defined for {plan.task}, which has {', '.join(fitting)}",
            )

    def _valid(self, metrics: ClassificationMetrics | RegressionMetrics, plan: Plan) -> EvaluationResult:
        figures = metrics.figures()
        value = figures[self._metric]
        if value is None:
            raise InvalidContent(
                "metric-undefined",
                "challenge",
                f"{self._metric} is undefined on these data ({self._rows} rows)",
            )
        if not math.isfinite(value) or abs(value) > MAX_SCORE_VALUE:
            raise InvalidContent("score-too-large", MODEL, f"{self._metric} is {value:g}, too large for a score")
        kept = {name: one if one is not None and math.isfinite(one) else None for name, one in figures.items()}
        counts: dict[str, Any] = {}
        if isinstance(metrics, ClassificationMetrics):
            self._inferred += metrics.notes()
            counts = {
                "correct": metrics.correct,
                "classes": metrics.classes,
                "confusion": metrics.confusion(),
                "per_class": metrics.per_class(),
            }
        self._phase("count")
        return self._result(verdict="valid", value=value, score=score_of(value), metrics=kept, **counts)

    def _result(self, **fields: Any) -> EvaluationResult:
        environment = runtime.describe(self._batch_size)
        self._phase("report")
        self._timings["total"] = time.perf_counter() - self._started
        return EvaluationResult(
            task=self._task,
            metric=self._metric if self._metric in METRICS else self._request.metric,
            rows=self._rows,
            inferred=[sentence[:MAX_TEXT] for sentence in self._inferred],
            model_summary=self._summary,
            timings={name: round(seconds, 6) for name, seconds in self._timings.items()},
            environment=environment,
            hashes=self._hashes,
            **fields,
        )

    def _phase(self, name: str) -> None:
        now = time.perf_counter()
        self._timings[name] = self._timings.get(name, 0.0) + now - self._last
        self._last = now


def _metrics_for(plan: Plan, shape: ModelShape) -> ClassificationMetrics | RegressionMetrics:
    if plan.task == "classification":
        return ClassificationMetrics(plan.classes or 2)
    return RegressionMetrics(shape.outputs)


def _input_dtype(loaded: LoadedModel) -> str:
    return str(loaded.inputs[0].dtype)


def _tokens(spec: ModelSpec) -> int | None:
    """The size of the embedding that the input feeds directly: what a GPU would not check."""
    layers = spec.layers[:1] if spec.sequential else spec.layers
    sizes = []
    for layer in layers:
        if isinstance(layer, ModelSpec):
            inner = _tokens(layer) if spec.sequential or _takes(layer, spec.inputs) else None
            sizes += [inner] if inner is not None else []
        elif layer.kind == "Embedding" and (spec.sequential or _takes(layer, spec.inputs)):
            size = layer.settings.get("input_dim")
            sizes += [size] if isinstance(size, int) else []
    return min(sizes, default=None)


def _takes(layer: LayerSpec | ModelSpec, inputs: tuple[InputSpec, ...]) -> bool:
    names = {one.name for one in inputs}
    return any(isinstance(arg, TensorRef) and arg.layer in names for call in layer.calls for arg in call.args)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_HASH_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise EvaluationUnavailable(f"cannot read {path.name}: {error.strerror}") from error
    return digest.hexdigest()

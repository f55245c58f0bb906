"""The reference example, exactly, and what every result says of itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from storage import DataSchema, ModelSchema
from tasks.evaluation import EvaluationRequest, EvaluationResult, evaluate, score_of


def _request(folder: Path, **more: object) -> EvaluationRequest:
    fields = {
        "model_path": str(folder / "model_params.h5"),
        "data_path": str(folder / "test.csv"),
        "model": ModelSchema.parse((folder / "model_schema.json").read_text()),
        "data": DataSchema.parse((folder / "data_schema.json").read_text()),
    }
    return EvaluationRequest.model_validate(fields | more)


@pytest.fixture(scope="module")
def result(seed_example: Path) -> EvaluationResult:
    return evaluate(_request(seed_example))


def test_the_reference_example_gives_its_figures(result: EvaluationResult) -> None:
    assert result.verdict == "valid"
    assert (result.correct, result.rows, result.classes) == (266, 394, 46)
    assert result.value == 266 / 394
    assert result.score == 675_127
    assert result.metrics["log_loss"] == pytest.approx(2.004036, abs=5e-7)


def test_the_report_says_what_was_inferred(result: EvaluationResult) -> None:
    said = " ".join(result.inferred)
    assert "binary vector of length 2000" in said
    assert "header" in said
    assert "46 classes" in said
    assert "last column" in said


def test_the_result_describes_model_files_and_runtime(result: EvaluationResult) -> None:
    summary = result.model_summary
    assert summary is not None
    assert (summary.parameters, summary.layers, summary.generation, summary.keras) == (267_982, 11, 2, "2.2.2")
    assert (summary.input_shape, summary.output_shape) == ([2000], [46])
    assert result.hashes["model"].startswith("1b7b8b1aa07033728b5fd3afe0b7d0e4")
    assert result.environment["tf32"] == "off"
    assert result.environment["dtype_policy"] == "float32"
    assert result.environment["instructions"]
    assert {"read_model", "build_model", "load_weights", "read_data", "predict", "total"} <= set(result.timings)


def test_confusion_and_classes_add_up(result: EvaluationResult) -> None:
    assert result.confusion is not None and result.per_class is not None
    assert sum(map(sum, result.confusion)) == 394
    assert sum(result.confusion[label][label] for label in range(46)) == 266
    assert sum(entry.support for entry in result.per_class) == 394
    assert sum(entry.correct for entry in result.per_class) == 266


@pytest.mark.parametrize("batch_size", [1, 32, 100, 394, 6000])
def test_the_batch_size_does_not_change_the_score(
    seed_example: Path, result: EvaluationResult, batch_size: int
) -> None:
    other = evaluate(_request(seed_example, batch_size=batch_size))
    assert other.score == 675_127
    assert other.confusion == result.confusion
    assert other.metrics["log_loss"] == pytest.approx(result.metrics["log_loss"], abs=1e-7)


def test_log_loss_as_the_metric(seed_example: Path) -> None:
    other = evaluate(_request(seed_example, metric="log_loss"))
    assert (other.metric, other.score) == ("log_loss", 2_004_036)


def test_importing_the_engine_is_cheap_and_warming_leaves_no_thread() -> None:
    """The fork server forks after `warm_imports`: a second thread or a started device would hang the child."""
    code = (
        "import os, sys\n"
        "import tasks.evaluation as e\n"
        "assert not {'numpy', 'tensorflow', 'pyarrow', 'h5py'} & set(sys.modules)\n"
        "e.warm_imports()\n"
        "assert {'tensorflow', 'pyarrow.csv'} <= set(sys.modules)\n"
        "assert len(os.listdir('/proc/self/task')) == 1, 'threads'\n"
        "from tensorflow.python.eager import context\n"
        "assert not context.context()._initialized\n"
    )
    from tasks.sandbox.launch import environment

    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment(Path("/nonexistent")), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("value", "score"),
    [
        (0.0, 0),
        (1.0, 1_000_000),
        (266 / 394, 675_127),
        (-0.25, -250_000),
        (2**-7, 7_812),  # 7812.5 exactly
        (3 * 2**-7, 23_438),  # 23437.5 exactly
        (-(2**-7), -7_812),
        (1e22, 10**28),
    ],
)
def test_scores_are_rounded_half_to_even(value: float, score: int) -> None:
    assert score_of(value) == score

"""Reports as the tests of the report need them: of every verdict, with figures that can be checked by hand."""

from __future__ import annotations

from typing import Any

from tasks.evaluation.models import EvaluationResult, ModelSummary, PerClass
from tasks.report import Report, ReportedChallenge, ReportedInput, ReportedScoring
from tasks.sandbox import Confinement, Layer, LayerState

VERIFIER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
POOL = "0x5FbDB2315678afecb367f032d93F642f64180aa3"


def evaluation(size: int = 3, **changes: Any) -> EvaluationResult:
    """Every class has four rows, of which one was taken for the next class."""
    confusion = [[0] * size for _ in range(size)]
    for label in range(size):
        confusion[label][label] = 3
        confusion[label][(label + 1) % size] = 1
    rows = [
        PerClass(label=label, support=4, predicted=4, correct=3, precision=0.75, recall=0.75, f1=0.75)
        for label in range(size)
    ]
    facts: dict[str, Any] = {
        "verdict": "valid",
        "task": "classification",
        "metric": "accuracy",
        "value": 0.75,
        "score": 750_000,
        "metrics": {"accuracy": 0.75, "log_loss": 0.5, "f1": 0.75, "f1_macro": 0.75, "auc": None},
        "rows": 4 * size,
        "correct": 3 * size,
        "classes": size,
        "confusion": confusion,
        "per_class": rows,
        "inferred": ["The last column holds the label."],
        "model_summary": ModelSummary(
            format="h5",
            architecture="Sequential",
            keras="2.2.2",
            generation=2,
            layers=3,
            parameters=1234,
            input_shape=[64],
            output_shape=[size],
            output="probabilities",
        ),
        "timings": {"read_data": 0.1, "predict": 0.3, "total": 0.4},
        "environment": {"tensorflow": "2.21.0", "device": "CPU"},
        "hashes": {"model": "aa" * 32, "data": "bb" * 32},
    }
    return EvaluationResult(**(facts | changes))


def report(found: EvaluationResult | None = None, **changes: Any) -> Report:
    """A report for a challenge whose mark of 0.7 was reached."""
    found = found or evaluation()
    facts: dict[str, Any] = {
        "job_id": "job-1",
        "created_at": "2026-11-25T10:15:00Z",
        "software": "fitchain-verifier 0.1.0",
        "challenge": ReportedChallenge(chain_id=31337, pool=POOL, challenge_id=12, model_id=3, verifier=VERIFIER),
        "model_schema": {"uuid": "model", "type": "keras"},
        "data_schema": {"uuid": "data"},
        "model": ReportedInput(cid="QmModel", size_bytes=3_254_552, tier="ipfs"),
        "data": ReportedInput(cid="QmData", size_bytes=1_686_028, tier="disk"),
        "scoring": ReportedScoring(metric="accuracy", pass_mark=700_000, higher_passes=True, tolerance=100),
        "verdict": found.verdict,
        "score": found.score,
        "passed": True,
        "evaluation": found,
        "sandbox": Confinement.of(
            LayerState(layer=layer, on=layer is not Layer.NAMESPACES, detail="not permitted") for layer in Layer
        ),
        "timings": {"fetch": 0.5},
    }
    return Report(**(facts | changes))

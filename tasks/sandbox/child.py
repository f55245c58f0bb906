"""What runs inside the sandbox by default: one evaluation, from the request's JSON to the result's.

`warm` is what the fork server calls once, before it forks anything.
"""

from __future__ import annotations

from tasks.sandbox.server import Progress


def warm() -> None:
    """Import the evaluation engine and its runtime, and touch no device."""
    from tasks.evaluation import warm_imports

    warm_imports()


def main(request: bytes, progress: Progress) -> bytes:
    """Evaluate one model on one data set.

    Raises:
        EvaluationError: it cannot be done here or now.
        pydantic.ValidationError: the request is not one.
    """
    from tasks.evaluation import EvaluationRequest, evaluate

    progress("evaluate", 0.0)
    return evaluate(EvaluationRequest.model_validate_json(request)).model_dump_json().encode()

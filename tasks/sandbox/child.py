"""What runs inside the sandbox by default: one evaluation, from the request's JSON to the result's.

`warm` is what the fork server calls once, before it forks anything; `prepare` what each of its children calls before
it has a request.
"""

from __future__ import annotations

from tasks.sandbox.seat import Progress


def warm() -> None:
    """Import the evaluation engine and its runtime, and touch no device."""
    from tasks.evaluation import warm_imports

    warm_imports()


def prepare(threads: int) -> None:
    """Start TensorFlow's runtime and its threads, and go through the motions once: it is slowest the first time.

    Nothing of an evaluation is known here, and nothing that is computed here goes into one.
    """
    from tasks.evaluation.runtime import configure

    configure(threads)
    import keras
    import numpy as np

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.predict_on_batch(np.zeros((1, 2), dtype="float32"))


def main(request: bytes, progress: Progress) -> bytes:
    """Evaluate one model on one data set.

    Raises:
        EvaluationError: it cannot be done here or now.
        pydantic.ValidationError: the request is not one.
    """
    from tasks.evaluation import EvaluationRequest, evaluate

    progress("evaluate", 0.0)
    return evaluate(EvaluationRequest.model_validate_json(request)).model_dump_json().encode()

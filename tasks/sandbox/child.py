"""What runs inside the sandbox by default: one evaluation, from the request's JSON to the result's.

`warm` is what the fork server calls once, before it forks anything; `prepare` what each of its children calls before
it has a request.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final

from storage import DataSchema, ModelSchema
from tasks.errors import TasksError
from tasks.sandbox.seat import Progress

if TYPE_CHECKING:
    from tasks.evaluation import EvaluationResult

_TOY_CID: Final = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"


def warm() -> None:
    """Import the evaluation engine and its runtime, and touch no device."""
    from tasks.evaluation import warm_imports

    warm_imports()


def prepare(threads: int) -> None:
    """Start TensorFlow's runtime and its threads, and evaluate a toy: everything is slowest the first time.

    Nothing of an evaluation is known here, and nothing that is computed here goes into one.
    """
    import keras

    try:
        rehearse(threads)
    except TasksError as error:  # then the first time is the real one: slower, and with the real error
        sys.stderr.write(f"the rehearsal failed: {error}\n")
    keras.backend.clear_session()


def rehearse(threads: int) -> EvaluationResult:
    """Evaluate a network of two layers on two rows, written here and now, through all that a real one goes through."""
    import keras

    from tasks.evaluation import EvaluationRequest, evaluate
    from tasks.evaluation.runtime import configure

    configure(threads)
    with tempfile.TemporaryDirectory() as folder:
        model, data = Path(folder, "toy.h5"), Path(folder, "toy.csv")
        layers = [keras.Input((2,)), keras.layers.Dense(2, activation="relu"), keras.layers.Dropout(0.1)]
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            keras.Sequential([*layers, keras.layers.Dense(2, activation="softmax")]).save(model)
        data.write_text("a,b,label\n0.5,1.5,0\n1.5,0.5,1\n", encoding="ascii")
        schema = {"uuid": "toy", "input_signature": "toy", "location": {"provider": "ipfs", "endpoint": _TOY_CID}}
        request = EvaluationRequest(
            model_path=str(model),
            data_path=str(data),
            model=ModelSchema.parse(schema | {"type": "keras", "format": "h5"}),
            data=DataSchema.parse(schema | {"type": "csv", "format": "csv", "label": {"column": "label"}}),
            threads=threads,
        )
        return evaluate(request)


def main(request: bytes, progress: Progress) -> bytes:
    """Evaluate one model on one data set.

    Raises:
        EvaluationError: it cannot be done here or now.
        pydantic.ValidationError: the request is not one.
    """
    from tasks.evaluation import EvaluationRequest, evaluate

    progress("evaluate", 0.0)
    return evaluate(EvaluationRequest.model_validate_json(request)).model_dump_json().encode()

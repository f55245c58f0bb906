"""Predictions: a model called on one batch after another, in float32.

Here live the call, the size of a batch, and the switch from eager execution (nothing to compile, best for a
few batches) to a compiled function (best for many, and for recurrent layers). Numbers that are not finite are
found here, and errors of the runtime become a verdict or a retry, by their kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.errors import EvaluationError, EvaluationUnavailable, InvalidContent
from tasks.evaluation.network.loading import PLACE, LoadedModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BATCH_BYTES = 32 * 2**20
_MIN_BATCH = 16
_MAX_BATCH = 2_048
_EAGER_BATCHES = 4


def choose_batch_size(widest: int) -> int:
    """Rows in a batch so that the widest activation of it stays within a few megabytes."""
    return max(_MIN_BATCH, min(_MAX_BATCH, _BATCH_BYTES // (4 * max(1, widest))))


class Predictor:
    """Calls one model on batches of any number of rows."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._model = loaded.built.model
        self._compile_at = 0 if loaded.built.recurrent else _EAGER_BATCHES
        self._calls = 0
        self._compiled: Any = None

    def predict(self, batch: NDArray[Any], first_row: int) -> NDArray[np.float64]:
        """Predictions of shape (rows, outputs) as float64.

        Raises InvalidContent for predictions that are not finite and for inputs that the model cannot take,
        EvaluationUnavailable for lack of memory, EvaluationError for anything else the runtime cannot do.
        """
        import numpy as np
        import tensorflow as tf

        try:
            output = np.asarray(self._call(tf.convert_to_tensor(batch)))
        except (tf.errors.ResourceExhaustedError, MemoryError) as error:
            raise EvaluationUnavailable(f"not enough memory to predict {len(batch)} rows: {error!s:.200}") from error
        except (tf.errors.InvalidArgumentError, ValueError) as error:
            raise InvalidContent(
                "prediction-failed",
                PLACE,
                f"cannot predict row {first_row} and those after it: {error!s:.300}",
            ) from error
        except tf.errors.OpError as error:
            raise EvaluationError(f"the runtime failed to predict: {error!s:.300}") from error
        predictions = output.astype(np.float64).reshape(len(batch), -1)
        if not np.isfinite(predictions).all():
            bad = int((~np.isfinite(predictions)).any(axis=1).argmax())
            raise InvalidContent(
                "not-finite-prediction",
                PLACE,
                f"the prediction for row {first_row + bad} is not a finite number",
            )
        return predictions

    def _call(self, batch: Any) -> Any:
        self._calls += 1
        if self._calls <= self._compile_at:
            return self._model(batch, training=False)
        if self._compiled is None:
            self._compiled = self._compile(batch)
        return self._compiled(batch)

    def _compile(self, batch: Any) -> Any:
        """One function for batches of any size, so that the last one needs no second compilation."""
        import tensorflow as tf

        signature = tf.TensorSpec((None, *batch.shape[1:]), batch.dtype)
        return tf.function(lambda rows: self._model(rows, training=False), input_signature=[signature])


def to_probabilities(predictions: NDArray[np.float64], *, are_probabilities: bool) -> NDArray[np.float64]:
    """Probabilities of shape (rows, classes) from the output of a model.

    One output is the probability of class 1, or its logit; several are probabilities, or logits.
    """
    import numpy as np

    if predictions.shape[1] == 1:
        one = predictions if are_probabilities else 0.5 * (1 + np.tanh(0.5 * predictions))
        return np.concatenate([1 - one, one], axis=1)
    if are_probabilities:
        return predictions
    powers = np.exp(predictions - predictions.max(axis=1, keepdims=True))
    scaled: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return scaled

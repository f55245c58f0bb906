"""What goes into an evaluation and what comes out: the two values that cross the border of the sandbox.

Here live the request, the result and their parts as pydantic models; no work is done here. Both are strict
JSON: sizes are capped where a stranger's file could blow them up, and every number is finite.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from storage import DataSchema, ModelSchema

MAX_CONFUSION_CLASSES = 200
MAX_PER_CLASS_ROWS = 1_000
MAX_TEXT = 2_000

_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Text = Annotated[str, Field(max_length=MAX_TEXT)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EvaluationRequest(_Value):
    """One model, one data set and the limits to judge them within.

    Every limit that leads to a verdict is a part of the request, so that all verifiers of a challenge can
    use the same ones; the defaults are those of the protocol.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_path: str = Field(description="file of the model")
    data_path: str = Field(description="file of the data set")
    model: ModelSchema
    data: DataSchema
    metric: str = Field(default="accuracy", max_length=64, description="the figure that becomes the score")
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="rows in one prediction; None: chosen by the size of the activations"
    )
    threads: int = Field(default=1, ge=1, le=256, description="threads inside one operation")
    scratch: str | None = Field(default=None, description="folder for temporary files; None: the system's")
    max_parameters: int = Field(default=500_000_000, ge=1)
    max_layers: int = Field(default=2_000, ge=1)
    max_activation: int = Field(default=100_000_000, ge=1, description="values that one layer may give for one row")
    max_rows: int = Field(default=100_000_000, ge=1)
    max_columns: int = Field(default=100_000, ge=1)


class ModelSummary(_Value):
    """What was found in the model file."""

    format: str = Field(description="h5 or keras")
    architecture: _Text = Field(description="Sequential or Functional")
    keras: _Text = Field(description="version that wrote the file, as the file says")
    generation: int = Field(description="generation of Keras whose rules the file was read by: 1, 2 or 3")
    layers: int
    parameters: int
    input_shape: list[int | None]
    output_shape: list[int | None]
    output: _Text = Field(description="what the last layer gives: probabilities or values")


class PerClass(_Value):
    """One class of the test data: how often it is there, how often it was said, and how well."""

    label: int
    support: int = Field(description="rows of this class")
    predicted: int = Field(description="rows that the model put into this class")
    correct: int
    precision: _Finite | None = Field(description="None where the class was never predicted")
    recall: _Finite | None = Field(description="None where no row is of this class")
    f1: _Finite | None


class EvaluationResult(_Value):
    """Verdict, figures and everything needed to recompute them.

    ``score`` is ``value`` in units of 1e-6, rounded half to even. ``metrics`` holds every figure that can be
    computed for the task; None marks one that is undefined on these data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    verdict: Literal["valid", "invalid"]
    rule: _Text | None = Field(default=None, description="short name of the rule that was broken")
    place: _Text | None = Field(default=None, description="where in which file")
    reason: _Text | None = Field(default=None, description="what is wrong, as a sentence")
    task: Literal["classification", "regression"] | None = None
    metric: str
    value: _Finite | None = None
    score: int | None = None
    metrics: dict[str, _Finite | None] = {}
    rows: int = 0
    correct: int | None = None
    classes: int | None = None
    confusion: list[list[int]] | None = Field(
        default=None, description="rows by true class, columns by predicted class; only up to 200 classes"
    )
    per_class: list[PerClass] | None = None
    inferred: list[_Text] = Field(default=[], description="what the schemas do not say and was inferred")
    model_summary: ModelSummary | None = None
    timings: dict[str, _Finite] = Field(default={}, description="seconds by phase")
    environment: dict[str, str] = Field(default={}, description="versions, device, flags, threads")
    hashes: dict[str, str] = Field(default={}, description="sha256 of the model file and the data file")

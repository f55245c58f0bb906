"""From a model file to a model that predicts: recognise, inspect, read, build, fill.

Here lives the order of these steps for each file format; the steps themselves are modules of their own.
Formats are recognised by their first bytes, never by a name. `keras.models.load_model` is not used: nothing
of a file reaches Keras but checked specs and, for ``.keras``, an inspected file of weights.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from storage.canonical import refuse_deep_json
from tasks.errors import InvalidContent
from tasks.evaluation.files import archives, hdf5
from tasks.evaluation.models import EvaluationRequest, ModelSummary
from tasks.evaluation.network.architecture import BuiltModel, Limits, build
from tasks.evaluation.network.configs import MAX_CONFIG_BYTES, parse_config, read_model
from tasks.evaluation.network.weights import load_legacy_weights, load_object_weights

PLACE = "model"
_WEIGHTS_BYTES_FOR_EACH_PARAMETER = 4 * 4  # float32 weights and up to three slots of an optimizer
_WEIGHTS_BYTES_MORE = 64 * 2**20
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

Phase = Callable[[str], None]


@dataclass(frozen=True)
class LoadedModel:
    """A model with its weights, and what was found in its file."""

    built: BuiltModel
    format: Literal["h5", "keras"]
    keras_version: str
    generation: int

    @property
    def inputs(self) -> list[Any]:
        """The symbolic inputs of the model."""
        return list(self.built.model.inputs)

    @property
    def outputs(self) -> list[Any]:
        """The symbolic outputs of the model."""
        return list(self.built.model.outputs)

    def summary(self, output: str) -> ModelSummary:
        """What the report says of the model; `output` says what its last layer gives."""
        return ModelSummary(
            format=self.format,
            architecture="Sequential" if self.built.spec.sequential else "Functional",
            keras=self.keras_version,
            generation=self.generation,
            layers=len(self.built.layers),
            parameters=self.built.parameters,
            input_shape=_shape(self.inputs[0]),
            output_shape=_shape(self.outputs[0]),
            output=output,
        )


def load(request: EvaluationRequest, phase: Phase) -> LoadedModel:
    """Load the model of a request; `phase` is told when a phase of the work is over.

    Raises InvalidContent for a file that is no model, breaks a rule or asks for more than the limits.
    """
    path = Path(request.model_path)
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(hdf5.SIGNATURE):
        return _load_h5(path, request, phase)
    if head.startswith(archives.SIGNATURES):
        return _load_keras(path, request, phase)
    raise InvalidContent("unknown-model-format", PLACE, _what_instead(head))


def _what_instead(head: bytes) -> str:
    wanted = "expected is an HDF5 file (.h5) or a .keras file"
    if not head:
        return f"the file is empty; {wanted}"
    if head.startswith(_PICKLES):
        return f"the file is a pickle, which runs code when it is read; {wanted}"
    return f"the file begins with {head[:8]!r}; {wanted}"


def _load_h5(path: Path, request: EvaluationRequest, phase: Phase) -> LoadedModel:
    with hdf5.open_hdf5(path, place=PLACE, max_bytes=_max_weight_bytes(request)) as file:
        text = file.text("", "model_config")
        if text is None:
            raise InvalidContent(
                "model-config",
                f"{PLACE}:/@model_config",
                "the file holds weights without an architecture; save the whole model",
            )
        weights = "model_weights" if "model_weights" in file.root else ""
        version = file.text("", "keras_version") or file.text(weights, "keras_version") or ""
        generation = _generation(version)
        place = f"{PLACE}:/@model_config"
        document = parse_config(text, place)
        spec = read_model(document, generation=generation, place=place, max_layers=request.max_layers)
        phase("read_model")
        built = build(spec, _limits(request))
        phase("build_model")
        load_legacy_weights(file, built, generation=generation)
        phase("load_weights")
    return LoadedModel(built, "h5", version or "1", generation)


def _load_keras(path: Path, request: EvaluationRequest, phase: Phase) -> LoadedModel:
    allowed = {_CONFIG, _METADATA, _WEIGHTS}
    with archives.open_archive(path, place=PLACE, allowed=allowed) as archive:
        place = f"{PLACE}:{_CONFIG}"
        text = _text(archive.read(_CONFIG, max_bytes=MAX_CONFIG_BYTES), place)
        version = _version(archive)
        generation = max(2, _generation(version))
        spec = read_model(parse_config(text, place), generation=generation, place=place, max_layers=request.max_layers)
        phase("read_model")
        built = build(spec, _limits(request))
        phase("build_model")
        with tempfile.TemporaryDirectory(dir=request.scratch) as folder:
            weights = Path(folder) / "model.weights.h5"
            limit = _max_weight_bytes(request)
            archive.extract(_WEIGHTS, weights, max_bytes=limit)
            with hdf5.open_hdf5(weights, place=f"{PLACE}:{_WEIGHTS}", max_bytes=limit) as file:
                inspected = file
            load_object_weights(inspected, weights, built)
        phase("load_weights")
    return LoadedModel(built, "keras", version or "3", generation)


def _text(content: bytes, place: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidContent("model-config", place, f"not UTF-8 ({error.reason})") from error


def _version(archive: archives.Archive) -> str:
    if _METADATA not in archive.names:
        return "3"
    try:
        text = archive.read(_METADATA, max_bytes=2**20).decode("utf-8")
        refuse_deep_json(text)
        metadata = json.loads(text)
    except ValueError as error:
        raise InvalidContent("model-config", f"{PLACE}:{_METADATA}", f"not JSON: {error!s:.200}") from error
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    return version if isinstance(version, str) else "3"


def _generation(version: str) -> int:
    """Generation of Keras from its version; files without one are of Keras 1."""
    found = re.match(r"\d+", version)
    return min(3, max(1, int(found.group()))) if found and len(found.group()) < 4 else 1


def _limits(request: EvaluationRequest) -> Limits:
    return Limits(request.max_parameters, request.max_activation)


def _max_weight_bytes(request: EvaluationRequest) -> int:
    return _WEIGHTS_BYTES_FOR_EACH_PARAMETER * request.max_parameters + _WEIGHTS_BYTES_MORE


def _shape(tensor: Any) -> list[int | None]:
    return [None if size is None else int(size) for size in tensor.shape[1:]]

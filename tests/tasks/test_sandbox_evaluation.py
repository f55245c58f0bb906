"""The real engine in the real sandbox: the reference example, to the last bit, whatever layers are on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import DataSchema, ModelSchema
from tasks.errors import SandboxRefused
from tasks.evaluation import EvaluationRequest, EvaluationResult
from tasks.sandbox import Sandbox
from tasks.settings import TasksSettings


@pytest.fixture(scope="module")
def request_json(seed_example: Path) -> bytes:
    return (
        EvaluationRequest(
            model_path=str(seed_example / "model_params.h5"),
            data_path=str(seed_example / "test.csv"),
            model=ModelSchema.parse((seed_example / "model_schema.json").read_text()),
            data=DataSchema.parse((seed_example / "data_schema.json").read_text()),
        )
        .model_dump_json()
        .encode()
    )


@pytest.fixture(scope="module")
def whole() -> Iterator[Sandbox]:
    """All layers that the host gives."""
    with Sandbox(TasksSettings()) as sandbox:
        yield sandbox


def evaluate(sandbox: Sandbox, request_json: bytes, seed_example: Path) -> EvaluationResult:
    readable = [seed_example / "model_params.h5", seed_example / "test.csv"]
    return EvaluationResult.model_validate_json(sandbox.run(request_json, readable=readable))


def figures(result: EvaluationResult) -> dict[str, object]:
    return result.model_dump(exclude={"timings"})


def test_reference_example(whole: Sandbox, request_json: bytes, seed_example: Path) -> None:
    results = [evaluate(whole, request_json, seed_example) for _ in range(3)]
    assert (results[0].score, results[0].correct, results[0].rows) == (675_127, 266, 394)
    assert results[0].metrics["log_loss"] == pytest.approx(2.004036, abs=1e-6)
    assert figures(results[0]) == figures(results[1]) == figures(results[2])


def test_neither_layers_nor_preparation_change_a_bit(whole: Sandbox, request_json: bytes, seed_example: Path) -> None:
    with Sandbox(TasksSettings(sandbox_disable="namespaces,landlock,seccomp"), prepare=None) as bare:
        assert figures(evaluate(bare, request_json, seed_example)) == figures(
            evaluate(whole, request_json, seed_example)
        )


def test_server_stays_single_threaded(whole: Sandbox, request_json: bytes, seed_example: Path) -> None:
    evaluate(whole, request_json, seed_example)
    assert whole._server is not None
    assert whole._server.ready is not None
    assert len(whole._server.ready.threads) == 1
    evaluate(whole, request_json, seed_example)  # a server with threads would have refused


def test_an_input_that_is_gone_is_refused_and_the_server_lives(whole: Sandbox, request_json: bytes) -> None:
    whole.start()
    assert whole._server is not None
    process = whole._server.process.pid
    with pytest.raises(SandboxRefused, match="no-such-file"):
        whole.run(request_json, readable=["/no-such-file"])
    assert whole._server.process.pid == process


_REHEARSAL = """
def main(request, progress):
    from tasks.sandbox.child import rehearse, warm
    warm()
    return rehearse(1).model_dump_json().encode()
"""


def test_rehearsal_goes_the_whole_way(tmp_path: Path) -> None:
    (tmp_path / "rehearsing.py").write_text(_REHEARSAL)
    with Sandbox(TasksSettings(), target="rehearsing:main", warm=None, import_paths=[tmp_path]) as sandbox:
        result = EvaluationResult.model_validate_json(sandbox.run(b""))
    assert (result.verdict, result.rows) == ("valid", 2)

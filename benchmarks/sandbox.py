"""What isolation costs: empty runs by layers, and the reference example inside and out.

An *empty run* is everything but the work: hand over, fork (ahead of the run), layers, result, death of the child, on a
server that has imported TensorFlow. The goal is 20 ms. *At rest* leaves a second between runs, in which the next child
gets ready; *at once* leaves none, so that its fork is waited for. Beside them the reference example through the whole
sandbox, and what the engine inside says that it took: the difference is isolation. *Unprepared* is without the
rehearsal that each child goes through while it waits.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks.errors import WrongAnswer
from benchmarks.findings import Findings, Options, Table, seconds, spread
from benchmarks.measure import Sample, interleaved
from benchmarks.settings import BenchmarkSettings
from storage import DataSchema, ModelSchema
from tasks.evaluation import EvaluationRequest
from tasks.sandbox import Sandbox
from tasks.settings import TasksSettings

ROUNDS: Final = 15
REST_SECONDS: Final = 1.0
SCORE: Final = 675_127
_ECHO = "def main(request, progress):\n    return request\n"
_LAYERS: Final = {
    "no layers": "limits,privileges,seccomp,landlock,namespaces,identity",
    "limits": "seccomp,landlock,namespaces,identity",
    "limits, seccomp, Landlock": "namespaces,identity",
    "all layers": "",
}


def run(options: Options) -> Findings:
    """Measure all of them in turns."""
    (options.folder / "bench_echo.py").write_text(_ECHO, encoding="ascii")
    example = BenchmarkSettings().example()
    with ExitStack() as stack:
        empty = {name: stack.enter_context(_echo(off, options.folder)) for name, off in _LAYERS.items()}
        prepared = stack.enter_context(Sandbox(TasksSettings()))
        unprepared = stack.enter_context(Sandbox(TasksSettings(), prepare=None))
        reached = {name: sandbox.start().level.value for name, sandbox in empty.items()}
        for sandbox in (prepared, unprepared):
            sandbox.start()
        inside: list[float] = []
        subjects: dict[str, Callable[[], float | None]] = {
            f"empty run, {name}, {rest}": _empty(sandbox, pause)
            for name, sandbox in empty.items()
            for rest, pause in (("at rest", REST_SECONDS), ("at once", 0.0))
        }
        subjects["reference example, at rest"] = _reference(prepared, example, inside)
        subjects["reference example, at rest, unprepared"] = _reference(unprepared, example, [])
        samples = interleaved(options.rounds(ROUNDS), subjects)
    samples["— of it, the engine"] = Sample(tuple(inside))
    rows = tuple((name, seconds(sample.median), spread(sample)) for name, sample in samples.items())
    note = "levels reached: " + "; ".join(f"{name}: {level}" for name, level in reached.items())
    return Findings(
        tables=(Table("The sandbox", ("", "median", "lowest … highest"), rows, note),),
        figures={
            "empty_run_seconds": samples["empty run, all layers, at rest"].median,
            "empty_run_at_once_seconds": samples["empty run, all layers, at once"].median,
            "reference_seconds": samples["reference example, at rest"].median,
            "reference_engine_seconds": samples["— of it, the engine"].median,
        },
    )


def _echo(off: str, folder: Path) -> Sandbox:
    settings = TasksSettings(sandbox_disable=off, sandbox_minimum="none")
    return Sandbox(settings, target="bench_echo:main", prepare=None, import_paths=[folder])


def _empty(sandbox: Sandbox, pause: float) -> Callable[[], float]:
    def once() -> float:
        if not pause:
            sandbox.run(b"1")
        time.sleep(pause)
        started = time.perf_counter()
        sandbox.run(b"1")
        return time.perf_counter() - started

    return once


def _reference(sandbox: Sandbox, example: Path, inside: list[float]) -> Callable[[], float]:
    files = [example / "model_params.h5", example / "test.csv"]
    request = EvaluationRequest(
        model_path=str(files[0]),
        data_path=str(files[1]),
        model=ModelSchema.parse((example / "model_schema.json").read_text(encoding="utf-8")),
        data=DataSchema.parse((example / "data_schema.json").read_text(encoding="utf-8")),
    )
    payload = request.model_dump_json().encode()

    def once() -> float:
        time.sleep(REST_SECONDS)
        started = time.perf_counter()
        result = json.loads(sandbox.run(payload, readable=files))
        taken = time.perf_counter() - started
        if result["score"] != SCORE:
            raise WrongAnswer(f"the score in the sandbox is {result['score']}, not {SCORE}")
        inside.append(float(result["timings"]["total"]))
        return taken

    return once

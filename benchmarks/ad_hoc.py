"""An ad-hoc verification of the reference example on a warm cluster, against doing it by hand.

Alone: seconds from `tasks.verify(…)` to its result at the caller, through the queue, the fetch worker, an evaluate
worker and its sandbox; workers and caches warm, one job at a time. In turns with it, in the same run:

- *cold script*: a fresh `python` process that does the same by hand (`cold_script.py`): what somebody without a
  cluster waits for. "N× faster" is its time divided by ours; the goal is 8 or more.
- *bare Keras, warm*: the same function in a process that has imported everything and has run before, timed from inside:
  no queue, no isolation, no report. "N× of it" is our time divided by its; the goal is 1.5 or less.

Both floors have the files on their disk and check no hash; both must find the same accuracy as ours, or nothing counts.
The second table says where our time goes, from the report's timings and the tasks' events.

In a row: many jobs enqueued at once, two evaluate workers, seconds until the last result. Beside it two processes of
bare Keras, warm, that share as many runs. A worker that is alone prepares the next sandbox while it waits for a job; in
a row that preparation is waited for, so this ratio is the one for a busy cluster.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.cluster import ACCURACY, PATIENCE_SECONDS, SCORE, Cluster, running_cluster
from benchmarks.errors import SubjectEnded, WrongAnswer
from benchmarks.findings import Findings, Options, Table, seconds, spread, times
from benchmarks.measure import Sample, interleaved, ratio
from benchmarks.settings import BenchmarkSettings
from benchmarks.task_events import TaskEvents, TaskLife, listening
from tasks.messages import Evaluated
from workers.demo.world import EVALUATE_WORKERS

ROUNDS: Final = 15
IN_A_ROW: Final = 40
_ROUNDS_IN_A_ROW = 3
_OURS = "cluster, warm"
_COLD = "cold script"
_WARM = "bare Keras, warm"


@dataclass
class Journeys:
    """Our runs: start and end at the caller (Unix seconds), and the result that came back."""

    cluster: Cluster
    runs: list[tuple[float, float, Evaluated]] = field(default_factory=list)

    def run(self) -> None:
        """One verification."""
        started = time.time()
        evaluated = self.cluster.verify()
        self.runs.append((started, time.time(), evaluated))
        if evaluated.score != SCORE:
            raise WrongAnswer(f"the cluster's score is {evaluated.score}, not {SCORE}")


def run(options: Options) -> Findings:
    """Measure all of them in turns."""
    example = BenchmarkSettings().example()
    files = [str(example / "model_params.h5"), str(example / "test.csv")]
    with (
        running_cluster(options.folder / "cluster", example) as cluster,
        warm_keras(files, options.folder) as warm,
        warm_keras(files, options.folder) as second,
        listening(cluster.app) as events,
    ):
        cluster.warm()
        journeys = Journeys(cluster)
        alone = interleaved(
            options.rounds(ROUNDS),
            {_OURS: journeys.run, _WARM: warm, _COLD: lambda: cold_script(files, options.folder)},
        )
        count = 8 if options.quick else IN_A_ROW
        row = interleaved(
            options.rounds(_ROUNDS_IN_A_ROW),
            {_OURS: lambda: in_a_row(cluster, count), _WARM: lambda: shared([warm, second], count)},
        )
        stages = where_it_goes(journeys, events)
    return Findings(
        tables=(_comparison(alone), _stages(stages, alone[_OURS]), _row(row, count)),
        figures={
            "cluster_seconds": alone[_OURS].median,
            "cold_script_seconds": alone[_COLD].median,
            "bare_keras_seconds": alone[_WARM].median,
            "times_faster_than_cold": ratio(alone[_COLD], alone[_OURS]),
            "times_of_bare_keras": ratio(alone[_OURS], alone[_WARM]),
            "in_a_row_per_second": count / row[_OURS].median,
            "in_a_row_bare_keras_per_second": count / row[_WARM].median,
            "in_a_row_times_of_bare_keras": ratio(row[_OURS], row[_WARM]),
            **{f"stage_{name.replace(' ', '_')}_seconds": sample.median for name, sample in stages.items()},
        },
    )


def in_a_row(cluster: Cluster, count: int) -> None:
    """Enqueue that many verifications at once and wait for all."""
    for verification in [cluster.enqueue() for _ in range(count)]:
        score = verification.wait(timeout=PATIENCE_SECONDS).score
        if score != SCORE:
            raise WrongAnswer(f"the cluster's score is {score}, not {SCORE}")


def shared(processes: list[Callable[[], float]], count: int) -> None:
    """Let processes of bare Keras share that many runs; they only wait for their own pipe, so threads will do."""
    share = count // len(processes)
    with ThreadPoolExecutor(len(processes)) as pool:
        for done in [pool.submit(_repeat, process, share) for process in processes]:
            done.result()


def _repeat(work: Callable[[], float], count: int) -> None:
    for _ in range(count):
        work()


def cold_script(files: list[str], folder: Path) -> None:
    """A fresh process that does it by hand."""
    with (folder / "cold.log").open("ab") as log:
        script = Path(__file__).with_name("cold_script.py")
        done = subprocess.run(
            [sys.executable, str(script), *files], stdout=subprocess.PIPE, stderr=log, text=True, check=True
        )
    _same(done.stdout.split()[0], _COLD)


@contextmanager
def warm_keras(files: list[str], folder: Path) -> Iterator[Callable[[], float]]:
    """A process with everything imported; yields a function that runs it once and returns its seconds."""
    command = [sys.executable, "-m", "benchmarks.warm_keras", *files]
    with (folder / "warm.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1
        )
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        raise SubjectEnded("the process with bare Keras has no pipes")

    def once() -> float:
        stdin.write("\n")
        answer = stdout.readline().split()
        if not answer:
            raise SubjectEnded(f"the process with bare Keras ended with status {process.wait()}")
        _same(answer[1], _WARM)
        return float(answer[0])

    try:
        stdout.readline()
        for _ in range(3):  # the first runs after the first are slower still
            once()
        yield once
    finally:
        stdin.close()
        process.wait(20)


def where_it_goes(journeys: Journeys, events: TaskEvents) -> dict[str, Sample]:
    """Our time cut into consecutive stages, and what of it the engine used, run by run."""
    cut: dict[str, list[float]] = {}
    for started, ended, evaluated in journeys.runs:
        about = f"ad hoc {evaluated.job.job_id}"
        fetch = _first(events, "fetch", about)
        evaluate = _first(events, "evaluate", about)
        if fetch is None or evaluate is None:
            continue
        for name, value in _cut(started, ended, evaluated, fetch, evaluate).items():
            cut.setdefault(name, []).append(value)
    return {name: Sample(tuple(values)) for name, values in cut.items()}


def _cut(started: float, ended: float, evaluated: Evaluated, fetch: TaskLife, evaluate: TaskLife) -> dict[str, float]:
    report = evaluated.report
    engine: dict[str, float] = dict(report["evaluation"]["timings"])
    inside = engine.pop("total")
    sandboxed = float(report["timings"]["sandboxed"])
    return {
        "queue to fetch": fetch.started - started,
        "fetch": evaluate.queued - fetch.started,
        "queue to evaluate": evaluate.started - evaluate.queued,
        "evaluate: open blobs, make report": evaluated.seconds - sandboxed,
        "sandbox: fork, confine, collect": sandboxed - inside,
        **{f"engine: {name.replace('_', ' ')}": value for name, value in engine.items()},
        "result to caller": ended - evaluate.started - evaluated.seconds,
    }


def _first(events: TaskEvents, name: str, about: str) -> TaskLife | None:
    return next((life for life in events.lives(name=name, about=about) if life.started and life.done), None)


def _same(accuracy: str, subject: str) -> None:
    if abs(float(accuracy) - ACCURACY) > 1e-6:
        raise WrongAnswer(f"{subject} finds an accuracy of {accuracy}, not {ACCURACY}")


def _comparison(samples: dict[str, Sample]) -> Table:
    ours = samples[_OURS]
    rows = [(_OURS, seconds(ours.median), spread(ours), "")]
    rows.append(
        (
            _COLD,
            seconds(samples[_COLD].median),
            spread(samples[_COLD]),
            f"ours is {times(ratio(samples[_COLD], ours))} faster",
        )
    )
    rows.append(
        (
            _WARM,
            seconds(samples[_WARM].median),
            spread(samples[_WARM]),
            f"ours takes {times(ratio(ours, samples[_WARM]))} of it",
        )
    )
    return Table(
        "Ad-hoc verification of the reference example (394 rows)",
        ("", "median", "lowest … highest", "ratio"),
        tuple(rows),
        f"{len(ours.values)} rounds, in turns",
    )


def _stages(stages: dict[str, Sample], ours: Sample) -> Table:
    rows = tuple(
        (name, seconds(sample.median), spread(sample), f"{100 * sample.median / ours.median:.0f} %")
        for name, sample in stages.items()
    )
    return Table("Where the cluster's time goes", ("stage", "median", "lowest … highest", "share"), rows)


def _row(row: dict[str, Sample], count: int) -> Table:
    rows = []
    for name, sample in row.items():
        note = f"takes {times(ratio(sample, row[_WARM]))} of bare Keras" if name == _OURS else ""
        rows.append((name, seconds(sample.median), spread(sample), f"{count / sample.median:.1f}", note))
    return Table(
        f"{count} verifications in a row, {EVALUATE_WORKERS} workers",
        ("", "median", "lowest … highest", "a second", "ratio"),
        tuple(rows),
        f"{len(row[_OURS].values)} rounds, in turns",
    )

"""What became of a run, read with suspicion: everything that a child returned may have been made up by an
attacker.

Decisions only, no waiting: `tasks.sandbox.watch` collects the facts, here they become a result or a named
cause.
"""

from __future__ import annotations

import json
import os
import re
import signal
from dataclasses import dataclass, field
from typing import Final, NoReturn

from storage.canonical import refuse_deep_json
from tasks.errors import (
    EvaluationError,
    EvaluationUnavailable,
    SandboxCrash,
    SandboxError,
    SandboxFlood,
    SandboxOutOfMemory,
    SandboxOutOfScratch,
    SandboxRefused,
    SandboxTimeout,
)
from tasks.sandbox.wire import ERROR, EXIT_NOT_CONFINED, RESULT

# A child may claim an error of its own, but only one of these.
_ERRORS_OF_A_CHILD: Final = {error.__name__: error for error in (EvaluationError, EvaluationUnavailable)}
_MAX_MESSAGE = 2000
_NEARLY = 0.9
_WORDS_OF_MEMORY = re.compile(
    r"std::bad_alloc|MemoryError|out of memory|OOM when allocating|Cannot allocate memory", re.I
)
_SHOWN_LINES = 12


@dataclass(slots=True)
class Facts:
    """What was seen of one run. `killed_for` is the cause for which the worker ended it."""

    wall_seconds: float
    memory_bytes: int
    scratch_bytes: int
    result_bytes: int
    cpu_seconds: int
    killed_for: type[SandboxError] | None = None
    status: int | None = None
    used_cpu_seconds: float = 0.0
    peak_bytes: int = 0
    confined: bool = False
    result: bytearray = field(default_factory=bytearray)
    output: str = ""


def judge(facts: Facts) -> bytes:
    """The JSON that the target returned.

    Raises:
        SandboxTimeout, SandboxOutOfMemory, SandboxOutOfScratch, SandboxFlood, SandboxCrash: what ended the
            run.
        SandboxRefused: the child could not be confined, and ended before it looked at the request.
        EvaluationError, EvaluationUnavailable: what the target itself raised.
    """
    if facts.killed_for is not None:
        raise facts.killed_for(_killed(facts))
    if facts.status is None:
        raise SandboxCrash("the sandbox's fork server died during the evaluation", output=facts.output)
    code = os.waitstatus_to_exitcode(facts.status)
    if code != 0:
        _raise_death(code, facts)
    if len(facts.result) > facts.result_bytes:
        raise SandboxFlood(f"the evaluation returned more than {_size(facts.result_bytes)}")
    kind, payload = bytes(facts.result[:1]), bytes(facts.result[1:])
    if kind == ERROR:
        _raise_error_of_child(payload)
    if kind != RESULT:
        raise SandboxFlood("the evaluation ended without a result")
    check_json(payload)
    return payload


def check_json(payload: bytes) -> object:
    """Parse strict JSON: UTF-8, no duplicate names, no NaN or infinity, no absurd depth.

    Raises:
        SandboxFlood: it is not that.
    """
    try:
        text = payload.decode("utf-8")
        refuse_deep_json(text)
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except ValueError as error:
        raise SandboxFlood(f"the evaluation returned something that is not strict JSON: {error}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return found


def _killed(facts: Facts) -> str:
    texts: dict[object, str] = {
        SandboxTimeout: f"after {facts.wall_seconds:g} s, the time that it may take",
        SandboxOutOfMemory: f"when it used {_size(facts.peak_bytes)} of memory beyond the idle runtime;"
        f" it may have {_size(facts.memory_bytes)}",
        SandboxOutOfScratch: f"when its scratch folder held more than {_size(facts.scratch_bytes)} or too many files",
        SandboxFlood: f"when it returned more than {_size(facts.result_bytes)}",
    }
    return f"the evaluation was killed {texts[facts.killed_for]}"


def _raise_death(code: int, facts: Facts) -> NoReturn:
    last = "\n".join(facts.output.splitlines()[-_SHOWN_LINES:])
    said = f"; it said last: {last}" if last else ""
    if code == EXIT_NOT_CONFINED and not facts.confined:
        raise SandboxRefused(f"the sandbox could not be set up for this evaluation{said}")
    if facts.used_cpu_seconds >= facts.cpu_seconds * _NEARLY:
        raise SandboxTimeout(f"the evaluation was stopped after {facts.used_cpu_seconds:.0f} s of processor time")
    if facts.peak_bytes >= facts.memory_bytes * _NEARLY or _WORDS_OF_MEMORY.search(last):
        raise SandboxOutOfMemory(
            f"the evaluation ended for want of memory (it used {_size(facts.peak_bytes)} and may have"
            f" {_size(facts.memory_bytes)}){said}"
        )
    if code < 0:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
        raise SandboxCrash(f"the evaluation was ended by {name}{said}", signal=-code, output=facts.output)
    raise SandboxCrash(f"the evaluation ended with exit code {code}{said}", exit_code=code, output=facts.output)


def _raise_error_of_child(payload: bytes) -> NoReturn:
    claim = check_json(payload)
    name, text = "", ""
    if isinstance(claim, dict):
        name, text = str(claim.get("type", "")), str(claim.get("message", ""))[:_MAX_MESSAGE]
    if name == MemoryError.__name__:
        raise SandboxOutOfMemory(f"the evaluation ended for want of memory: {text or 'MemoryError'}")
    raise _ERRORS_OF_A_CHILD.get(name, EvaluationError)(text or "the evaluation failed and did not say why")


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"

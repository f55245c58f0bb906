"""The work of a verifier: fetch, evaluate, submit; and the evaluation engine with its sandbox and report.

`fetching`, `evaluating`, `submitting` and `verifying` hold the Celery tasks, `chains` links them, `wire` says what
producers and workers agree on, `messages` what they exchange. `evaluation`, `sandbox` and `report` know no Celery.
Processes and their roles are in `workers`.

    >>> from tasks import verify
    >>> verify("model_schema.json", "data_schema.json").wait(timeout=60).score
    675127
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.verifying import Verification, verify

__all__ = ["Verification", "verify"]


def __getattr__(name: str) -> Any:
    # Loaded at first use: the evaluation engine is imported by processes that must stay free of Celery.
    if name in __all__:
        from tasks import verifying

        return getattr(verifying, name)
    raise AttributeError(f"module 'tasks' has no attribute {name!r}")

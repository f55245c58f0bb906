"""Verifying right here: the functions of the tasks `fetch` and `evaluate` in this process, without chain or
Redis.

What is fetched, evaluated and reported is the same as on the cluster, since it is the same code; only the
broker is left out. The evaluation still runs in its sandbox.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from storage import Content, StorageError
from tasks.evaluating import evaluate_job
from tasks.fetching import fetch_inputs, refusal_for
from tasks.messages import Evaluated, Fetched, Job
from tasks.sandbox import Sandbox
from tasks.settings import TasksSettings


def verify_here(
    job: Job, content: Content, settings: TasksSettings, *, stage: Callable[[str], None] = lambda _: None
) -> Evaluated:
    """Fetch and evaluate in this process. `stage` is told what is being done.

    Raises: StorageError: a file could not be had (schemas and content that are wrong become the verdict
    *invalid*). TasksError: the evaluation did not come back.
    """
    stage("Fetching schemas and files")
    fetched = fetch_here(job, content)
    if fetched.refusal is None:
        stage("Starting the sandbox")
    with Sandbox.from_settings(settings) as sandbox:
        if fetched.refusal is None:
            stage("Evaluating the model")
        return evaluate_job(fetched, content, sandbox, settings)


def fetch_here(job: Job, content: Content) -> Fetched:
    """What the task `fetch` does, without its retries.

    Raises:
        StorageError: what may pass, and what says nothing about the content.
    """
    try:
        return fetch_inputs(job, content)
    except StorageError as error:
        refusal = refusal_for(error, job, retries=0, now=time.time())
        if refusal is None:
            raise
        return Fetched(job=job, refusal=refusal)

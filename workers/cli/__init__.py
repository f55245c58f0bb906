"""The command `fitchain-verifier`: what people and scripts type to run, use and watch the cluster.

One module per group of commands; `application` puts them together, `failures` turns every known error into a
sentence and an exit code (`exits`), `output` says what goes to which stream. The work itself is not here: it
is in `tasks`, `chain`, `storage` and in the other modules of `workers`. What costs time to import
(TensorFlow, web3, Celery) is imported inside the commands that need it, so that help and completion answer at
once.
"""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line (None: that of this process) and leave with its exit code."""
    from workers.cli.application import run

    raise SystemExit(run(arguments))

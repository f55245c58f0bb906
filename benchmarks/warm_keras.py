"""Bare Keras in a warm process: `cold_script.verify` again and again, timed from inside. The lower floor of `ad-hoc`.

`python -m benchmarks.warm_keras MODEL DATA` runs once to get warm, writes a line, and then answers each line of its
input by one run and its seconds. Nothing is passed between processes but that line, so the floor is a hard one: no
queue, no isolation, no report.
"""

from __future__ import annotations

import sys
import time

from benchmarks.cold_script import verify


def main() -> None:
    """Serve runs until the input ends."""
    model, data = sys.argv[1], sys.argv[2]
    print(*verify(model, data), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        accuracy, _ = verify(model, data)
        print(time.perf_counter() - started, accuracy, flush=True)


if __name__ == "__main__":
    main()

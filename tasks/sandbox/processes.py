"""What /proc says of processes: their threads, the memory that they use, and who descends from whom."""

from __future__ import annotations

from pathlib import Path


def threads() -> tuple[str, ...]:
    """The names of this process's threads."""
    tasks = Path("/proc/self/task")
    return tuple((task / "comm").read_text(encoding="utf-8").strip() for task in tasks.iterdir())


def status_bytes(field: str) -> int:
    """A size from this process's own status (`VmData`), in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def memory_of(process: int | str = "self") -> int:
    """Anonymous and shared memory of a process with what of it is swapped out, in bytes; 0 when it is gone.

    Pages of mapped files do not count: the kernel may drop them at any time.
    """
    try:
        text = Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    wanted = ("RssAnon:", "RssShmem:", "VmSwap:")
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(wanted))


def descendants(ancestor: int) -> list[int]:
    """All processes below one, as far as they are still linked to it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                after_name = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
            except OSError:
                continue
            children.setdefault(int(after_name.split()[1]), []).append(int(entry.name))
    found: list[int] = []
    queue = [ancestor]
    while queue:
        for child in children.get(queue.pop(), []):
            found.append(child)
            queue.append(child)
    return found

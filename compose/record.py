"""`stack.json`: what runs in a stack's folder, so that another process can show and stop it."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from compose.errors import FolderInUse, StackError
from compose.services import PARTS
from compose.sessions import Session, end

_FILE = "stack.json"


class Address(BaseModel):
    """One running process for people to read: what it is, where it answers ("" if nowhere), where it logs."""

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    url: str
    pid: int
    log: str


class Entry(Address):
    """One running process, with what is needed to end it."""

    started_ticks: int

    @property
    def session(self) -> Session:
        """The session that it leads."""
        return Session(self.pid, self.started_ticks)


class StackRecord(BaseModel):
    """All of a stack: its processes in the order of their start, and its `FITCHAIN_*` variables."""

    model_config = ConfigDict(frozen=True)

    processes: tuple[Entry, ...]
    environment: dict[str, str]

    @classmethod
    def of(cls, addresses: Sequence[Address], sessions: Mapping[str, Session], environment: Mapping[str, str]) -> Self:
        """Make a record of running processes."""
        entries = [
            Entry(**address.model_dump(), started_ticks=sessions[address.name].started_ticks) for address in addresses
        ]
        return cls(processes=tuple(entries), environment=dict(environment))

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read the record in `folder`; None if there is none. Raises StackError if it is unreadable."""
        path = folder / _FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise StackError(f"{path} is not a stack's record ({error.error_count()} faults).") from error

    @staticmethod
    def remove(folder: Path) -> None:
        """Forget the record in `folder`."""
        (folder / _FILE).unlink(missing_ok=True)

    def save(self, folder: Path) -> None:
        """Write the record, all or nothing."""
        temporary = folder / f".{_FILE}.{os.getpid()}"
        temporary.write_text(self.model_dump_json(indent=2) + "\n")
        temporary.replace(folder / _FILE)

    def living(self) -> list[Entry]:
        """Return those processes whose sessions still have members."""
        return [entry for entry in self.processes if entry.session.members()]

    def stop(self, folder: Path, grace_seconds: float) -> list[Entry]:
        """End all that runs and forget the record; returns what was running.

        What was started beside the parts goes first, all of it at once, then the parts, the last started first.
        """
        running = self.living()
        end((entry.session for entry in running if entry.name not in PARTS), grace_seconds)
        for entry in reversed(running):
            if entry.name in PARTS:
                end([entry.session], grace_seconds)
        self.remove(folder)
        return running


def private_folder(folder: Path) -> None:
    """Make `folder` with mode 0700. One that is there is taken if it is private or holds just a stack.

    Raises FolderInUse for a folder of another user, and for an open one with other things in it: making
    that private could shut others out of what they use.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=stat.S_IRWXU)
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise FolderInUse(
            f"{folder} belongs to user {status.st_uid}, not to us ({os.geteuid()}). Choose another folder."
        )
    if not status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return
    if any(folder.iterdir()) and not (folder / "logs").is_dir():
        raise FolderInUse(f"{folder} holds other files and others may read it. Choose an empty or a new folder.")
    folder.chmod(stat.S_IRWXU)

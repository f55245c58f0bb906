"""The journal: what this host voted, kept on disk from before a commit is sent until the challenge is
settled.

One SQLite file in WAL mode with synchronous=FULL (a vote is on the disk when `record_vote` returns), mode
0600 because salts and unpublished reports are in it, shared by all processes of the host. A key is one step
owner's view of one challenge, `{chain}:{pool}:{challenge}:{account}`. Entries are only ever added: two
workers that evaluated the same challenge twice may have got scores that differ. The first entry of a key is
the one to commit (whoever records and then asks gets the same answer), and if the chain holds another, it
is still there.

The chain stays the truth and the file can be lost (`chain/votes.py` recovers); it only makes reveals cheap
and keeps the report that belongs to the commitment.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chain.challenges import Verdict
from chain.errors import JournalError
from chain.votes import Vote

_BUSY_SECONDS = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS votes (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    verdict INTEGER NOT NULL,
    score TEXT NOT NULL,
    salt BLOB NOT NULL,
    report BLOB NOT NULL,
    recorded_at REAL NOT NULL,
    UNIQUE (key, verdict, score, salt)
)
"""
# A score may have 256 bits and an integer of SQLite has 64, hence the text.


@dataclass(frozen=True, slots=True)
class VoteRecord:
    """One recorded vote: what was voted, its salt (32 bytes), the report's bytes, and when (unix seconds)."""

    vote: Vote
    salt: bytes
    report: bytes
    recorded_at: float = 0.0


def journal_key(*, chain_id: int, pool: str, challenge_id: int, account: str) -> str:
    """Key of one account's vote on one challenge."""
    return f"{chain_id}:{pool.lower()}:{challenge_id}:{account.lower()}"


class Journal:
    """The journal in one file.

    Safe for several threads and processes, and across a fork: nothing stays open.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open or create the file. Raises JournalError if it cannot be used."""
        self._path = path
        self._clock = clock
        self._create()
        with self._transaction():
            pass  # opening it shows that it is a journal

    def record_vote(self, key: str, vote: Vote, salt: bytes, report_json: bytes | str) -> None:
        """Put a vote and its report on the disk.

        To be called before the commit is sent; recording twice is fine.

        The same vote again only renews its report; another vote of the key is kept beside the first. Commit
        to what `vote(key)` says afterwards. Raises JournalError; then nothing may be sent.
        """
        report = report_json.encode() if isinstance(report_json, str) else report_json
        with self._transaction() as database:
            database.execute(
                "INSERT INTO votes (key, verdict, score, salt, report, recorded_at) VALUES (?, ?, ?, ?, ?, "
                "?) "
                "ON CONFLICT (key, verdict, score, salt) DO UPDATE "
                "SET report = excluded.report",
                (key, int(vote.verdict), str(vote.score), salt, report, self._clock()),
            )

    def vote(self, key: str) -> VoteRecord | None:
        """The first vote recorded for a key, or None: the same one for every process that asks."""
        return next(iter(self.votes(key)), None)

    def votes(self, key: str) -> list[VoteRecord]:
        """All votes of a key, in the order of recording. At most one opens the commitment on chain."""
        with self._transaction() as database:
            rows = database.execute(
                "SELECT verdict, score, salt, report, recorded_at FROM votes WHERE key = ? ORDER BY id",
                (key,),
            ).fetchall()
        return [
            VoteRecord(Vote(Verdict(row[0]), int(row[1])), bytes(row[2]), bytes(row[3]), float(row[4])) for row in rows
        ]

    def forget(self, key: str) -> None:
        """Drop the votes of a challenge that is settled. Not there is fine."""
        with self._transaction() as database:
            database.execute("DELETE FROM votes WHERE key = ?", (key,))

    def keys(self) -> list[str]:
        """All keys that have a vote, oldest first."""
        with self._transaction() as database:
            rows = database.execute("SELECT key FROM votes GROUP BY key ORDER BY MIN(id)").fetchall()
        return [str(row[0]) for row in rows]

    def prune(self, settled: Callable[[str], bool]) -> int:
        """Forget each key for which `settled(key)` is True; returns how many were forgotten."""
        done = [key for key in self.keys() if settled(key)]
        with self._transaction() as database:
            database.executemany("DELETE FROM votes WHERE key = ?", [(key,) for key in done])
        return len(done)

    def _create(self) -> None:
        """Make the empty file, or take back its permissions."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Created here, not by SQLite: WAL and index files inherit the mode of the file that is there.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            self._path.chmod(0o600)
            _sync_folder(self._path.parent)
        except OSError as error:
            raise JournalError(
                f"Cannot write the journal of votes at {self._path}: {error.strerror}. "
                "Point FITCHAIN_JOURNAL to a folder that this user may write to."
            ) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction, committed to the disk at the end.

        SQLite's errors become JournalError. A file that somebody removed meanwhile is made anew: its votes are
        recovered by evaluating again, and new ones must be kept.
        """
        if not self._path.exists():
            self._create()
        try:
            database = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                database.execute("PRAGMA journal_mode=WAL")
                database.execute("PRAGMA synchronous=FULL")
                database.execute("BEGIN IMMEDIATE")
                database.execute(_SCHEMA)
                yield database
                database.execute("COMMIT")
            finally:
                database.close()
        except sqlite3.Error as error:
            raise JournalError(
                f"The journal of votes at {self._path} cannot be used: {error}. Check the disk; if the file is "
                "damaged, move it away: votes are then recovered by evaluating again."
            ) from error


def _sync_folder(folder: Path) -> None:
    """Make the name of a new file survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The journal: on the disk when it says so, shared by processes, private, no vote lost to a second one."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.challenges import MAX_SCORE, Verdict
from chain.errors import JournalError
from chain.journal import Journal, VoteRecord, journal_key
from chain.votes import Vote

KEY = journal_key(chain_id=1, pool="0x" + "AB" * 20, challenge_id=7, account="0x" + "CD" * 20)
SALT = bytes(32)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "folder" / "journal.sqlite", clock=lambda: 100.0)


def test_key_does_not_depend_on_the_case_of_addresses() -> None:
    assert journal_key(chain_id=1, pool="0x" + "ab" * 20, challenge_id=7, account="0x" + "cd" * 20) == KEY


def test_recorded_vote_comes_back_whole(journal: Journal) -> None:
    vote = Vote(Verdict.VALID, -(10**29))
    journal.record_vote(KEY, vote, SALT, '{"a": "é"}')
    assert journal.vote(KEY) == VoteRecord(vote, SALT, '{"a": "é"}'.encode(), 100.0)
    assert journal.vote("other") is None


def test_first_vote_stays_the_answer_and_later_ones_are_kept(journal: Journal) -> None:
    first, second = Vote(Verdict.VALID, 127), Vote(Verdict.VALID, 128)
    journal.record_vote(KEY, first, SALT, b"old")
    journal.record_vote(KEY, second, SALT, b"two")
    journal.record_vote(KEY, first, SALT, b"new")
    assert [(record.vote, record.report) for record in journal.votes(KEY)] == [
        (first, b"new"),
        (second, b"two"),
    ]
    assert journal.vote(KEY) == journal.votes(KEY)[0]


def test_file_and_its_companions_are_private(journal: Journal, tmp_path: Path) -> None:
    journal.record_vote(KEY, Vote(Verdict.INVALID, 0), SALT, b"{}")
    keeper = sqlite3.connect(tmp_path / "folder" / "journal.sqlite")
    keeper.execute("SELECT * FROM votes").fetchall()  # keeps the companions in place
    journal.record_vote(KEY, Vote(Verdict.UNAVAILABLE, 0), SALT, b"{}")
    files = list((tmp_path / "folder").iterdir())
    assert {file.name for file in files} == {
        "journal.sqlite",
        "journal.sqlite-wal",
        "journal.sqlite-shm",
    }
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert keeper.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    keeper.close()


def test_pruning_forgets_what_is_settled_only(journal: Journal) -> None:
    for key in ("a", "b", "c"):
        journal.record_vote(key, Vote(Verdict.INVALID, 0), SALT, b"{}")
    journal.record_vote("a", Vote(Verdict.VALID, 1), SALT, b"{}")
    assert journal.prune(lambda key: key in {"a", "c", "x"}) == 2
    assert journal.keys() == ["b"]
    journal.forget("b")
    journal.forget("b")
    assert journal.keys() == []


def test_unusable_places_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="FITCHAIN_JOURNAL"):
        Journal(tmp_path / "file" / "journal.sqlite")
    (tmp_path / "damaged").write_bytes(b"no database at all" * 100)
    with pytest.raises(JournalError, match=r"damaged cannot be used"):
        Journal(tmp_path / "damaged")


@given(score=st.integers(-MAX_SCORE, MAX_SCORE), salt=st.binary(min_size=32, max_size=32), report=st.binary())
def test_any_vote_survives(tmp_path_factory: pytest.TempPathFactory, score: int, salt: bytes, report: bytes) -> None:
    journal = Journal(tmp_path_factory.mktemp("journal") / "j")
    journal.record_vote("k", Vote(Verdict.VALID, score), salt, report)
    record = journal.vote("k")
    assert record is not None
    assert (record.vote.score, record.salt, record.report) == (score, salt, report)


WRITER = """
import os, signal, sys
from pathlib import Path
from chain.challenges import Verdict
from chain.journal import Journal
from chain.votes import Vote
journal = Journal(Path(sys.argv[1]))
for number in range(25):
    journal.record_vote(f"{sys.argv[2]}-{number}", Vote(Verdict.VALID, number), bytes(32), b"report")
print("recorded", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_processes_share_it_and_a_kill_after_recording_loses_nothing(tmp_path: Path) -> None:
    place = tmp_path / "journal.sqlite"
    root = Path(__file__).parents[2]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(place), name],
            stdout=subprocess.PIPE,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        for name in "abc"
    ]
    for writer in writers:
        out, _ = writer.communicate(timeout=60)
        assert (writer.returncode, out) == (-signal.SIGKILL, b"recorded\n")
    assert sorted(Journal(place).keys()) == sorted(f"{name}-{number}" for name in "abc" for number in range(25))


def test_a_journal_whose_file_was_removed_keeps_new_votes(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    journal.record_vote("key", Vote(Verdict.VALID, 1), b"\1" * 32, b"{}")
    for file in tmp_path.iterdir():
        file.unlink()
    assert journal.votes("key") == []
    journal.record_vote("key", Vote(Verdict.VALID, 2), b"\1" * 32, b"{}")
    assert [record.vote.score for record in Journal(path).votes("key")] == [2]
    assert path.stat().st_mode & 0o777 == 0o600

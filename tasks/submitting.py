"""The tasks `submit.commit`, `submit.reveal` and `submit.settle`: an account's steps on chain.

Only here is a key used. Every step asks the chain first whether it is still owed, so a step that is delivered twice is
sent once. The vote is in the journal before its commitment is sent; a vote that no journal holds any more is found
again from the commitment on chain (`chain.votes`), after evaluating once more if it must be. The report stays with the
submit worker until the reveal, since a record of it that appears earlier is an invitation to copy.

How transactions are sent is in `chain.outbox`; which step is owed is in `chain.owed`.
"""

from __future__ import annotations

import logging
import time

from celery import Task

from chain import Ballot, Phase, Verdict
from chain.accounts import Signer
from chain.calls import ContractCall
from chain.errors import JournalError, NotFound, StepExpired, StepNotOwed, StepRejected, VoteLost
from chain.journal import VoteRecord
from chain.votes import Vote, commitment, derive_salt, recover_vote
from storage import StorageError, cid_of
from tasks import runtime
from tasks.chains import recovery_chain
from tasks.messages import ChallengeRef, Evaluated, Job, StepDone, StepOutcome
from tasks.report import Report, sign
from tasks.steps import protocol_task, working
from tasks.wire import URGENT_PRIORITY

logger = logging.getLogger(__name__)

# With less time than this left a reveal no longer waits for the report to be published: it names the CID that the
# report will have. A vote that is not revealed is slashed; a report that comes late is only late.
PUBLISH_RESERVE_SECONDS = 20.0

# Kept for the reveal itself when a vote has to be found by evaluating again.
REVEAL_RESERVE_SECONDS = 30.0


@protocol_task("submit.commit")
def commit(self: Task, evaluated: Evaluated) -> StepDone:
    """Commit to the result of an evaluation."""
    ref = challenge_of(evaluated.job)
    with working(self, evaluated.job, last=True, deadline=ref.commit_deadline):
        if not owes(ref, Phase.COMMIT):
            return _done(ref, "commit", StepOutcome.NOT_OWED, detail="committed already, or the phase is over")
        record = prepare_vote(ref, evaluated)
        hashed = _commitment(ref, record.vote, record.salt)
        call = runtime.pool(ref.pool).commit_call(ref.challenge_id, hashed)
        return _send(ref, "commit", call, deadline=ref.commit_deadline, phase=Phase.COMMIT)


@protocol_task("submit.reveal")
def reveal(self: Task, evaluated: Evaluated | None = None, job: Job | None = None) -> StepDone:
    """Publish the report and open the commitment.

    Enqueued with the job; or, where the vote had to be evaluated again, at the end of a chain with the evaluation.
    """
    job = evaluated.job if evaluated is not None else job
    if job is None:
        raise ValueError("submit.reveal needs a job or an evaluation")
    ref = challenge_of(job)
    with working(self, job, last=True, deadline=ref.reveal_deadline):
        ballot = _ballot(ref)
        if not _owed(ballot, Phase.REVEAL):
            return _done(ref, "reveal", StepOutcome.NOT_OWED, detail="revealed already, or the phase is over")
        record = find_vote(ref, ballot.commitment, evaluated)
        if record is not None:
            return _reveal(ref, record)
    logger.warning("recover job=%s challenge=%d account=%s", job.job_id, ref.challenge_id, ref.account)
    # Does not return: the chain takes this task's place.
    raise self.replace(recovery_chain(in_time_to_reveal(job), app=self.app, priority=URGENT_PRIORITY))


@protocol_task("submit.settle")
def settle(self: Task, job: Job) -> StepDone:
    """Settle a challenge whose settlement is due; anybody may, so losing the race is no failure."""
    ref = challenge_of(job)
    with working(self, job, last=True):
        if not owes(ref, Phase.SETTLE):
            return _done(ref, "settle", StepOutcome.NOT_OWED, detail="settled already, or not due yet")
        call = runtime.pool(ref.pool).settle_call(ref.challenge_id)
        done = _send(ref, "settle", call, deadline=None, phase=Phase.SETTLE)
        runtime.journal().forget(ref.vote_key)
        return done


def in_time_to_reveal(job: Job) -> Job:
    """The job with the deadline by which its evaluation must end, so that the vote that it finds can be revealed."""
    left = challenge_of(job).reveal_deadline - time.time()
    return job.model_copy(update={"deadline": time.time() + left - min(REVEAL_RESERVE_SECONDS, left / 4)})


def challenge_of(job: Job) -> ChallengeRef:
    """The challenge of a job.

    Raises:
        ValueError: the job is ad hoc and has none.
    """
    if job.challenge is None:
        raise ValueError(f"job {job.job_id} has no challenge: there is nothing to submit")
    return job.challenge


def owes(ref: ChallengeRef, phase: Phase) -> bool:
    """Whether the account still owes the step of a phase, by the chain's word at this moment."""
    return _owed(_ballot(ref), phase)


def _ballot(ref: ChallengeRef) -> Ballot:
    ballot = runtime.pool(ref.pool).ballot(ref.challenge_id, ref.account, now=time.time())
    if ballot is None:
        raise NotFound(f"challenge {ref.challenge_id} of pool {ref.pool} was not assigned to {ref.account}")
    return ballot


def _owed(ballot: Ballot, phase: Phase) -> bool:
    if ballot.phase is not phase:
        return False
    match phase:
        case Phase.COMMIT:
            return not ballot.committed
        case Phase.REVEAL:
            return ballot.committed and not ballot.revealed
        case _:
            return phase is Phase.SETTLE


def vote_of(evaluated: Evaluated) -> Vote:
    """The vote that an evaluation amounts to: only a valid verdict carries a score."""
    score = evaluated.score if evaluated.verdict is Verdict.VALID else 0
    if score is None:
        raise ValueError(f"job {evaluated.job.job_id}: a valid verdict without a score is no vote")
    return Vote(evaluated.verdict, score)


def prepare_vote(ref: ChallengeRef, evaluated: Evaluated) -> VoteRecord:
    """Sign the report and write vote, salt and report to the journal; return the vote to commit to.

    A vote that the journal holds already is kept: had its commitment been sent before a crash, a second evaluation
    must not replace what opens it.
    """
    journal = runtime.journal()
    known = journal.vote(ref.vote_key)
    if known is not None:
        return known
    signer = runtime.signer(ref.account)
    salt = derive_salt(signer, ref.chain_id, ref.pool, ref.challenge_id)
    journal.record_vote(ref.vote_key, vote_of(evaluated), salt, _signed(evaluated, signer))
    record = journal.vote(ref.vote_key)
    if record is None:
        raise JournalError(f"challenge {ref.challenge_id}: the journal does not hold the vote that was just written")
    return record


def find_vote(ref: ChallengeRef, committed: bytes, evaluated: Evaluated | None) -> VoteRecord | None:
    """The vote that opens the commitment on chain: from the journal, or found again around an evaluation.

    None: only another evaluation can tell.

    Raises:
        VoteLost: not even the evaluation leads to it.
    """
    for record in _journaled(ref):
        if _commitment(ref, record.vote, record.salt) == committed:
            return record
    signer = runtime.signer(ref.account)
    salt = derive_salt(signer, ref.chain_id, ref.pool, ref.challenge_id)
    if evaluated is None:
        # The votes that carry no score need no evaluation: two hashes tell.
        for vote in (Vote(Verdict.UNAVAILABLE, 0), Vote(Verdict.INVALID, 0)):
            if _commitment(ref, vote, salt) == committed:
                return VoteRecord(vote, salt, b"", time.time())
        return None
    found = recover_vote(
        committed,
        vote_of(evaluated),
        chain_id=ref.chain_id,
        pool=ref.pool,
        challenge_id=ref.challenge_id,
        verifier=ref.account,
        salt=salt,
    )
    if found is None:
        raise VoteLost(
            f"challenge {ref.challenge_id}: the commitment of {ref.account} is opened neither by the journal nor by any"
            " vote near the one just evaluated; look for the journal (FITCHAIN_JOURNAL) of the host that committed"
        )
    logger.info("recovered challenge=%d account=%s verdict=%s", ref.challenge_id, ref.account, found.verdict.name)
    return VoteRecord(found, salt, _signed(evaluated, signer), time.time())


def _journaled(ref: ChallengeRef) -> list[VoteRecord]:
    """The votes that the journal holds; none if it cannot be read, since a vote can be found without it."""
    try:
        return runtime.journal().votes(ref.vote_key)
    except JournalError as error:
        logger.error("journal unreadable, looking for the vote without it: %s", error)
        return []


def _signed(evaluated: Evaluated, signer: Signer) -> bytes:
    """The report as it will be published: canonical JSON with the account's EIP-712 signature."""
    return sign(Report.model_validate(evaluated.report), signer).to_bytes()


def _reveal(ref: ChallengeRef, record: VoteRecord) -> StepDone:
    report_cid = publish_report(record.report, ref.reveal_deadline)
    call = runtime.pool(ref.pool).reveal_call(
        ref.challenge_id, record.vote.verdict, record.vote.score, record.salt, report_cid
    )
    done = _send(ref, "reveal", call, deadline=ref.reveal_deadline, phase=Phase.REVEAL)
    return done.model_copy(update={"report_cid": report_cid or None})


def publish_report(report: bytes, reveal_deadline: float) -> str:
    """Publish the signed report and return its CID; the empty string where the report is lost.

    Raises:
        StorageError: the node does not take it, and there is time to try again.
    """
    if not report:
        return ""
    try:
        return runtime.ipfs().store_bytes(report)
    except StorageError as error:
        if time.time() + PUBLISH_RESERVE_SECONDS < reveal_deadline:
            raise
        logger.error("report not published, revealing without it: %s", error)
        return cid_of(report)


def _commitment(ref: ChallengeRef, vote: Vote, salt: bytes) -> bytes:
    return commitment(
        chain_id=ref.chain_id,
        pool=ref.pool,
        challenge_id=ref.challenge_id,
        verifier=ref.account,
        vote=vote,
        salt=salt,
    )


def _send(ref: ChallengeRef, step: str, call: ContractCall, *, deadline: float | None, phase: Phase) -> StepDone:
    """Send a step through the account's outbox; what the chain no longer wants is an outcome, not a failure."""
    outbox = runtime.outbox(ref.account)
    try:
        receipt = outbox.send(ref.step_key(step), call, deadline=deadline, still_owed=lambda: owes(ref, phase))
    except StepNotOwed as error:
        return _done(ref, step, StepOutcome.NOT_OWED, detail=str(error))
    except StepExpired as error:
        logger.error("late challenge=%d step=%s account=%s", ref.challenge_id, step, ref.account)
        return _done(ref, step, StepOutcome.LATE, detail=str(error))
    except StepRejected as error:
        if owes(ref, phase):
            raise
        return _done(ref, step, StepOutcome.NOT_OWED, detail=str(error))
    logger.info("sent challenge=%d step=%s account=%s tx=%s", ref.challenge_id, step, ref.account, receipt.transaction)
    return StepDone(
        challenge_id=ref.challenge_id,
        account=ref.account,
        step=step,
        outcome=StepOutcome.SENT,
        transaction=receipt.transaction,
        block=receipt.block,
        gas_used=receipt.gas_used,
    )


def _done(ref: ChallengeRef, step: str, outcome: StepOutcome, *, detail: str) -> StepDone:
    return StepDone(challenge_id=ref.challenge_id, account=ref.account, step=step, outcome=outcome, detail=detail)

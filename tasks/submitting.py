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
from typing import Any

from celery import Task

from chain import Phase, Verdict
from chain.calls import ContractCall
from chain.errors import StepExpired, StepNotOwed, StepRejected, VoteLost
from chain.journal import VoteRecord
from chain.votes import Vote, commitment, derive_salt, recover_vote
from storage import StorageError, cid_of
from tasks import runtime
from tasks.chains import recovery_chain
from tasks.messages import ChallengeRef, Evaluated, Job, StepDone, StepOutcome
from tasks.report import Report, sign_report_document
from tasks.steps import protocol_task, working
from tasks.wire import URGENT_PRIORITY

logger = logging.getLogger(__name__)

# With less time than this left a reveal no longer waits for the report to be published: it names the CID that the
# report will have. A vote that is not revealed is slashed; a report that comes late is only late.
PUBLISH_RESERVE_SECONDS = 20.0

# Around a new evaluation's score so many scores on either side are tried against the commitment: ten times the
# default tolerance between two honest hosts.
RECOVERY_RADIUS = 1000


@protocol_task("submit.commit")
def commit(self: Task, evaluated: Evaluated) -> StepDone:
    """Commit to the result of an evaluation."""
    ref = challenge_of(evaluated.job)
    with working(self, evaluated.job, last=True):
        if not owes(ref, Phase.COMMIT):
            return _done(ref, "commit", StepOutcome.NOT_OWED, detail="committed already, or the phase is over")
        record = prepare_vote(ref, evaluated)
        hashed = _commitment(ref, record.vote, record.salt)
        call = runtime.pool(ref.pool).commit_call(ref.challenge_id, hashed)
        return _send(ref, "commit", call, deadline=ref.commit_deadline, phase=Phase.COMMIT)


@protocol_task("submit.reveal")
def reveal(self: Task, evaluated: Evaluated | None = None, job: Job | None = None) -> Any:
    """Publish the report and open the commitment.

    Enqueued with the job; or, where the vote had to be evaluated again, at the end of a chain with the evaluation.
    """
    job = evaluated.job if evaluated is not None else job
    if job is None:
        raise ValueError("submit.reveal needs a job or an evaluation")
    ref = challenge_of(job)
    with working(self, job, last=True):
        state = runtime.pool(ref.pool).ballot(ref.challenge_id, ref.account)
        if state.phase is not Phase.REVEAL or not state.committed or state.revealed:
            return _done(ref, "reveal", StepOutcome.NOT_OWED, detail="revealed already, or the phase is over")
        record = find_vote(ref, state.commitment, evaluated)
        if record is not None:
            return _reveal(ref, record)
    if evaluated is not None:
        raise VoteLost(
            f"challenge {ref.challenge_id}: the commitment of {ref.account} is opened neither by the journal nor by any"
            f" score within {RECOVERY_RADIUS} of the one just evaluated; it cannot be revealed and will be slashed"
        )
    logger.warning("recover job=%s challenge=%d account=%s", job.job_id, ref.challenge_id, ref.account)
    return self.replace(recovery_chain(job, app=self.app, priority=URGENT_PRIORITY))


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
    state = runtime.pool(ref.pool).ballot(ref.challenge_id, ref.account)
    if state.phase is not phase:
        return False
    match phase:
        case Phase.COMMIT:
            return not state.committed
        case Phase.REVEAL:
            return state.committed and not state.revealed
        case _:
            return phase is Phase.SETTLE


def vote_of(evaluated: Evaluated) -> Vote:
    """The vote that an evaluation amounts to: only a valid verdict carries a score."""
    score = evaluated.score if evaluated.verdict is Verdict.VALID else 0
    if score is None:
        raise ValueError(f"job {evaluated.job.job_id}: a valid verdict without a score is no vote")
    return Vote(evaluated.verdict, score)


def prepare_vote(ref: ChallengeRef, evaluated: Evaluated) -> VoteRecord:
    """Sign the report and write vote, salt and report to the journal.

    A vote that the journal holds already is kept: had its commitment been sent before a crash, a second evaluation
    must not replace what opens it.
    """
    journal = runtime.journal()
    known = journal.vote(ref.vote_key)
    if known is not None:
        return known
    signer = runtime.signer(ref.account)
    salt = derive_salt(signer, chain_id=ref.chain_id, pool=ref.pool, challenge_id=ref.challenge_id)
    report = sign_report_document(Report.model_validate(evaluated.report), signer)
    journal.record_vote(ref.vote_key, vote_of(evaluated), salt, report)
    record = journal.vote(ref.vote_key)
    if record is None:
        raise VoteLost(f"challenge {ref.challenge_id}: the journal does not hold the vote that was just written to it")
    return record


def find_vote(ref: ChallengeRef, on_chain: bytes, evaluated: Evaluated | None) -> VoteRecord | None:
    """The vote that opens the commitment on chain: from the journal, or found again around an evaluation."""
    journal = runtime.journal()
    known = journal.vote(ref.vote_key)
    if known is not None and _commitment(ref, known.vote, known.salt) == on_chain:
        return known
    signer = runtime.signer(ref.account)
    salt = derive_salt(signer, chain_id=ref.chain_id, pool=ref.pool, challenge_id=ref.challenge_id)
    guess = Vote(Verdict.UNAVAILABLE, 0) if evaluated is None else vote_of(evaluated)
    vote = recover_vote(
        on_chain,
        guess,
        chain_id=ref.chain_id,
        pool=ref.pool,
        challenge_id=ref.challenge_id,
        verifier=ref.account,
        salt=salt,
        radius=0 if evaluated is None else RECOVERY_RADIUS,
    )
    if vote is None:
        return None
    report = b"" if evaluated is None else sign_report_document(Report.model_validate(evaluated.report), signer)
    logger.info("recovered challenge=%d account=%s verdict=%s", ref.challenge_id, ref.account, vote.verdict.name)
    return VoteRecord(vote=vote, salt=salt, report=report)


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
        receipt = outbox.send(
            ref.step_key(step), call, deadline=deadline, still_owed=lambda: owes(ref, phase)
        )
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

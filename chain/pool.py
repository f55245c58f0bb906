"""The validator pool, as Python reads and calls it. The contract is `contracts/ValidatorPool.vy`.

Views return the dataclasses of `chain/challenges.py`; functions that end in `_call` prepare a transaction and
send nothing. What a verifier owes is decided in `chain/owed.py`.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from requests.exceptions import RequestException
from web3.exceptions import Web3Exception

from chain.calls import BoundContract, ContractCall
from chain.challenges import (
    Assignment,
    Ballot,
    Block,
    Challenge,
    Phase,
    PoolTerms,
    Terms,
    Verdict,
    VerifierAccount,
    VoteView,
)
from chain.errors import EndpointUnavailable

_PAGE = 100
_EMPTY = bytes(32)


class ValidatorPool(BoundContract):
    """Challenges, votes and stakes of one pool."""

    contract_name: ClassVar[str] = "ValidatorPool"
    setting: ClassVar[str] = "FITCHAIN_POOL"
    probe: ClassVar[str] = "registry"

    # --- views ---

    @property
    def registry_address(self) -> str:
        """The registry that this pool was deployed for."""
        return str(self._probed)

    def terms(self) -> PoolTerms:
        """What the pool was deployed with."""
        return PoolTerms(
            stake_per_slot_wei=self._read("stakePerSlot"),
            minimum_share_wei=self._read("minimumShare"),
            withdrawal_delay_seconds=self._read("withdrawalDelaySeconds"),
            minimum_window_seconds=self._read("minimumWindowSeconds"),
        )

    def assignments(self, verifier: str, *, block: int | None = None) -> list[Assignment]:
        """All open challenges of a verifier as of one block (None: the latest), in no particular order.

        One `eth_call` a page of 100; a page's phases are those of the block's own timestamp.
        """
        at = self._block_number() if block is None else block
        account = self.w3.to_checksum_address(verifier)
        found: list[Assignment] = []
        while True:
            page = self._read("assignments", account, len(found), _PAGE, block=at)
            found += [_assignment(raw) for raw in page]
            if len(page) < _PAGE:
                return found

    def latest_block(self) -> Block:
        """Number and timestamp of the chain's latest block: what a consistent read of several accounts starts from.

        Raises EndpointUnavailable if nobody answers.
        """
        try:
            block = self.w3.eth.get_block("latest")
        except (Web3Exception, RequestException, OSError) as error:
            raise EndpointUnavailable(f"the chain's endpoint does not tell its latest block: {error}") from error
        return Block(number=block["number"], timestamp=block["timestamp"])

    def challenge(self, challenge_id: int) -> Challenge:
        """Read a challenge; NotFound if there is none with this number."""
        return _challenge(self._read("getChallenge", challenge_id))

    def votes(self, challenge_id: int) -> list[VoteView]:
        """The ballots of a challenge, in the order of the draw; NotFound if there is no such challenge."""
        return [_vote(raw) for raw in self._read("getVotes", challenge_id)]

    def ballot(self, challenge_id: int, verifier: str, *, now: float | None = None) -> Ballot | None:
        """Where one verifier stands in a challenge, in two calls at one block; None if it was not drawn for it.

        `now` (unix seconds) moves the phase on where no block has been mined since a deadline passed.
        """
        account = self.w3.to_checksum_address(verifier)
        block = self._block_number()
        challenge = _challenge(self._read("getChallenge", challenge_id, block=block))
        votes = [_vote(raw) for raw in self._read("getVotes", challenge_id, block=block)]
        mine = next((vote for vote in votes if vote.verifier == account), None)
        if mine is None:
            return None
        phase = challenge.phase if now is None else challenge.phase_by(now)
        return Ballot(phase=phase, commitment=mine.commitment, committed=mine.committed, revealed=mine.revealed)

    def verifier(self, address: str) -> VerifierAccount:
        """An account in the pool; all zeros if it never had to do with it."""
        return _account(self._read("getVerifier", self.w3.to_checksum_address(address)))

    def verifiers(self) -> list[VerifierAccount]:
        """Everybody who ever deposited, oldest first, read at one block."""
        block = self._block_number()
        found: list[VerifierAccount] = []
        while True:
            page = self._read("getVerifiers", len(found), _PAGE, block=block)
            found += [_account(raw) for raw in page]
            if len(page) < _PAGE:
                return found

    def number_of_challenges(self) -> int:
        """How many challenges were opened; they are numbered from 1 on."""
        return int(self._read("getNumberOfChallenges"))

    def number_of_assignments(self, verifier: str) -> int:
        """How many open challenges a verifier has."""
        return int(self._read("numberOfAssignments", self.w3.to_checksum_address(verifier)))

    def withdrawable(self, account: str) -> int:
        """What `withdraw` would send to this account now, in wei."""
        return int(self._read("withdrawable", self.w3.to_checksum_address(account)))

    def created_challenge(self, transaction: str | bytes) -> int:
        """The number of the challenge that a mined transaction opened; NotFound if it opened none."""
        return self._logged("ChallengeCreated", transaction, "challenge")

    # --- verifiers ---

    def deposit_call(self, wei: int) -> ContractCall:
        """Add to the sender's stake."""
        return self._call("deposit", describe=f"deposit {wei} wei of stake", value_wei=wei)

    def set_minimum_bounty_call(self, wei: int) -> ContractCall:
        """Set the least share of a bounty for which the sender may be drawn."""
        return self._call("setMinimumBounty", wei, describe=f"ask for at least {wei} wei a challenge")

    def request_withdrawal_call(self, wei: int) -> ContractCall:
        """Ask for free stake; it can be withdrawn after the pool's delay."""
        return self._call("requestWithdrawal", wei, describe=f"ask for {wei} wei of stake")

    def withdraw_call(self) -> ContractCall:
        """Take earnings, refunds and matured withdrawals."""
        return self._call("withdraw", describe="withdraw from the pool")

    def commit_call(self, challenge_id: int, commitment: bytes) -> ContractCall:
        """Bind the sender to a vote (32 bytes, see `chain/votes.py`)."""
        return self._call("commit", challenge_id, commitment, describe=f"commit to challenge {challenge_id}")

    def commit_many_call(self, entries: Sequence[tuple[int, bytes]]) -> ContractCall:
        """Commit to at most 32 challenges, each (challenge, commitment); those that would be refused are
        skipped.
        """
        return self._call("commitMany", list(entries), describe=f"commit to {_numbers(e[0] for e in entries)}")

    def reveal_call(
        self, challenge_id: int, verdict: Verdict, score: int, salt: bytes, report_cid: str
    ) -> ContractCall:
        """Open the sender's commitment; `report_cid` may be empty."""
        arguments = (challenge_id, int(verdict), score, salt, report_cid)
        return self._call("reveal", *arguments, describe=f"reveal the vote on challenge {challenge_id}")

    def reveal_many_call(self, entries: Sequence[tuple[int, Verdict, int, bytes, str]]) -> ContractCall:
        """Reveal at most 32 votes, each with the arguments of `reveal_call`; those that would be refused are
        skipped.
        """
        arguments = [(entry[0], int(entry[1]), *entry[2:]) for entry in entries]
        return self._call("revealMany", arguments, describe=f"reveal votes on {_numbers(e[0] for e in entries)}")

    def settle_call(self, challenge_id: int) -> ContractCall:
        """Close a challenge whose settlement is due; anybody may."""
        return self._call("settle", challenge_id, describe=f"settle challenge {challenge_id}")

    def settle_many_call(self, challenge_ids: Sequence[int]) -> ContractCall:
        """Close at most 32 challenges; those that are not due are skipped.

        Each costs up to 1.5 M gas (k = 15): choose as many as fit into a block.
        """
        return self._call("settleMany", list(challenge_ids), describe=f"settle {_numbers(challenge_ids)}")

    # --- consumers ---

    def create_challenge_call(self, model_id: int, data_schema: str, terms: Terms, bounty_wei: int) -> ContractCall:
        """Open a challenge: data schema as JSON or as the CID of the JSON, at most 1024 bytes.

        The number it gets is read from the mined transaction by `created_challenge`.
        """
        encoded = (
            terms.k,
            terms.metric,
            terms.pass_mark,
            terms.higher_passes,
            terms.tolerance,
            terms.commit_seconds,
            terms.reveal_seconds,
        )
        return self._call(
            "createChallenge",
            model_id,
            data_schema,
            encoded,
            describe=f"challenge model {model_id} for {bounty_wei} wei",
            value_wei=bounty_wei,
        )


def _numbers(challenge_ids: Any) -> str:
    return "challenges " + ", ".join(str(number) for number in challenge_ids)


def _terms(raw: Any) -> Terms:
    return Terms(
        k=raw.k,
        metric=raw.metric,
        pass_mark=raw.passMark,
        higher_passes=raw.higherPasses,
        tolerance=raw.tolerance,
        commit_seconds=raw.commitDeadline - raw.createdAt,
        reveal_seconds=raw.revealDeadline - raw.commitDeadline,
    )


def _assignment(raw: Any) -> Assignment:
    return Assignment(
        challenge_id=raw.challenge,
        model_id=raw.model,
        model_schema=raw.modelSchema,
        data_schema=raw.dataSchema,
        terms=_terms(raw),
        phase=Phase(raw.phase),
        created_at=raw.createdAt,
        commit_deadline=raw.commitDeadline,
        reveal_deadline=raw.revealDeadline,
        commits=raw.commits,
        reveals=raw.reveals,
        share_wei=raw.share,
        commitment=raw.commitment,
        committed=raw.commitment != _EMPTY,
        revealed=raw.revealed,
    )


def _challenge(raw: Any) -> Challenge:
    return Challenge(
        challenge_id=raw.challenge,
        model_id=raw.model,
        consumer=raw.consumer,
        bounty_wei=raw.bounty,
        share_wei=raw.share,
        data_schema=raw.dataSchema,
        terms=_terms(raw),
        verifiers=tuple(raw.verifiers),
        created_at=raw.createdAt,
        commit_deadline=raw.commitDeadline,
        reveal_deadline=raw.revealDeadline,
        commits=raw.commits,
        reveals=raw.reveals,
        phase=Phase(raw.phase),
        settled_at=raw.settledAt,
        verdict=Verdict(raw.verdict),
        score=raw.score,
        passed=raw.passed,
        payout_wei=raw.payout,
    )


def _vote(raw: Any) -> VoteView:
    return VoteView(
        verifier=raw.verifier,
        commitment=raw.commitment,
        committed=raw.commitment != _EMPTY,
        revealed=raw.revealed,
        verdict=Verdict(raw.verdict),
        score=raw.score,
        report_cid=raw.reportCid,
        payout_wei=raw.payout,
        slashed_wei=raw.slashed,
    )


def _account(raw: Any) -> VerifierAccount:
    return VerifierAccount(
        address=raw.verifier,
        stake_wei=raw.stake,
        locked_wei=raw.locked,
        pending_withdrawal_wei=raw.pending,
        withdrawable_at=raw.withdrawableAt,
        minimum_bounty_wei=raw.minimumBounty,
        slots=raw.slots,
        active=raw.active,
        credit_wei=raw.credit,
    )

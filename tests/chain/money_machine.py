"""Random actors doing random things to the pool, and what must hold of its money after each of them.

The rules mostly do what can succeed, and sometimes what cannot; a refusal must be one of the contract's own. The end
of each run moves past all deadlines, settles and withdraws everything: then the pool is empty to the last wei.
"""

from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chain.calls import ContractCall
from chain.challenges import Challenge, Phase, Verdict
from chain.reverts import explain
from chain.votes import Vote
from tests.chain.settlement_model import settlement
from tests.evm import ETHER, INVALID, TERMS, UNAVAILABLE, Market, Refused, replace_terms, valid

ACTORS = 9
PLACES = st.integers(0, 10**6)
VOTES = st.sampled_from([valid(0), valid(0), valid(50), valid(100), valid(101), valid(900), INVALID, UNAVAILABLE])
AMOUNTS = st.one_of(st.sampled_from([1, ETHER - 1, ETHER, 3 * ETHER]), st.integers(1, 4 * ETHER))


class MoneyMachine(RuleBasedStateMachine):
    """Every actor may be verifier and consumer at once; number 0 owns the model."""

    market: ClassVar[Market]

    def __init__(self) -> None:
        super().__init__()
        self.evm, self.pool = self.market.evm, self.market.pool
        self.actors = [self.market.owner, *self.market.verifiers[: ACTORS - 1]]
        self.snapshot = self.evm.rpc("evm_snapshot")
        self.open: dict[int, Challenge] = {}  # as they were when they were opened
        self.votes: dict[tuple[int, str], Vote] = {}

    # --- doing ---

    def attempt(self, call: ContractCall, sender: str) -> bool:
        """Send; whether it was accepted. A refusal without a reason that we know is a defect."""
        try:
            self.market.send(call, sender)
        except Refused as refusal:
            assert explain(str(refusal)) != str(refusal), f"unexplained refusal of {call.describe}: {refusal}"
            return False
        return True

    def actor(self, place: int) -> str:
        return self.actors[place % len(self.actors)]

    def challenge(self, place: int) -> int:
        return list(self.open)[place % len(self.open)]

    @initialize(slots=st.lists(st.integers(0, 3), min_size=ACTORS, max_size=ACTORS))
    def everybody_deposits(self, slots: list[int]) -> None:
        for actor, count in zip(self.actors, slots, strict=True):
            assert self.attempt(self.pool.deposit_call(count * ETHER + 1), actor)

    @rule(who=PLACES, amount=AMOUNTS)
    def deposits(self, who: int, amount: int) -> None:
        assert self.attempt(self.pool.deposit_call(amount), self.actor(who))

    @rule(who=PLACES, amount=st.sampled_from([0, 10**15, ETHER]))
    def sets_minimum(self, who: int, amount: int) -> None:
        assert self.attempt(self.pool.set_minimum_bounty_call(amount), self.actor(who))

    @rule(who=PLACES, amount=AMOUNTS)
    def asks_back(self, who: int, amount: int) -> None:
        account = self.pool.verifier(self.actor(who))
        free = account.stake_wei - account.locked_wei - account.pending_withdrawal_wei
        done = self.attempt(self.pool.request_withdrawal_call(amount), self.actor(who))
        assert done == (amount <= free), account

    @rule(who=PLACES)
    def withdraws(self, who: int) -> None:
        actor = self.actor(who)
        self.evm.rpc("evm_mine")
        due, before = self.pool.withdrawable(actor), self.evm.balance(self.pool.address)
        if self.attempt(self.pool.withdraw_call(), actor):
            # It may have matured in the very second of the block that paid it.
            assert before - self.evm.balance(self.pool.address) >= due
        else:
            assert due == 0

    @rule(who=PLACES, k=st.sampled_from([1, 3, 3, 3, 5, 5, 7]), bounty=st.integers(10**15, 2 * ETHER))
    def opens(self, who: int, k: int, bounty: int) -> None:
        terms = replace_terms(TERMS, k=k)
        if self.attempt(self.pool.create_challenge_call(1, "QmData", terms, bounty), self.actor(who)):
            number = self.pool.number_of_challenges()
            self.open[number] = self.pool.challenge(number)

    @precondition(lambda self: self.open)
    @rule(which=PLACES, votes=st.lists(st.one_of(VOTES, VOTES, st.none()), min_size=7, max_size=7))
    def some_commit(self, which: int, votes: list[Vote | None]) -> None:
        number = self.challenge(which)
        for verifier, vote in zip(self.open[number].verifiers, votes, strict=False):
            if vote is not None:
                call = self.pool.commit_call(number, self.market.commitment(number, verifier, vote))
                if self.attempt(call, verifier):
                    self.votes[number, verifier] = vote

    @precondition(lambda self: self.open)
    @rule(which=PLACES, do=st.lists(st.sampled_from("yyyyn?"), min_size=7, max_size=7))
    def some_reveal(self, which: int, do: list[str]) -> None:
        number = self.challenge(which)
        for verifier, how in zip(self.open[number].verifiers, do, strict=False):
            vote = self.votes.get((number, verifier), valid(1))
            if how == "?":
                vote = Vote(Verdict.VALID, vote.score + 1)
            if how != "n":
                arguments = (number, vote.verdict, vote.score, self.market.salt, "QmReport")
                accepted = self.attempt(self.pool.reveal_call(*arguments), verifier)
                assert not (accepted and how == "?")

    @precondition(lambda self: self.open)
    @rule(which=PLACES, who=PLACES)
    def settles(self, which: int, who: int) -> None:
        number = self.challenge(which)
        state, votes = self.pool.challenge(number), self.pool.votes(number)
        due = state.phase is Phase.SETTLE
        if not self.attempt(self.pool.settle_call(number), self.actor(who)):
            assert not due
            return
        del self.open[number]
        expected = settlement(
            [Vote(vote.verdict, vote.score) if vote.revealed else None for vote in votes],
            terms=state.terms,
            bounty=state.bounty_wei,
            stake_per_slot=ETHER,
        )
        after = self.pool.votes(number)
        assert tuple(vote.payout_wei for vote in after) == expected.payouts
        assert tuple(vote.slashed_wei for vote in after) == expected.slashed
        for verifier in state.verifiers:
            listed = {assignment.challenge_id for assignment in self.pool.assignments(verifier)}
            assert listed == {other for other, opened in self.open.items() if verifier in opened.verifiers}

    @precondition(lambda self: self.open)
    @rule(who=PLACES)
    def settles_many(self, who: int) -> None:
        assert self.attempt(self.pool.settle_many_call(list(self.open)[:32]), self.actor(who))
        self.open = {n: opened for n, opened in self.open.items() if not self.pool.challenge(n).settled}

    @rule(seconds=st.sampled_from([1, 30, 101, 202, 1001]))
    def time_passes(self, seconds: int) -> None:
        self.evm.move_to(self.evm.now() + seconds)

    # --- holding ---

    @invariant()
    def every_wei_has_an_owner(self) -> None:
        accounts = {account.address: account for account in self.pool.verifiers()}
        assert set(accounts) == set(self.actors)
        states = self.open.values()
        owed = sum(account.stake_wei + account.credit_wei for account in accounts.values())
        owed += sum(state.bounty_wei for state in states)
        assert self.evm.balance(self.pool.address) == owed
        active = dict.fromkeys(accounts, 0)
        for state in states:
            for verifier in state.verifiers:
                active[verifier] += 1
        for account in accounts.values():
            assert account.active == active[account.address]
            assert account.stake_wei >= account.locked_wei + account.pending_withdrawal_wei
            assert account.slots == (account.stake_wei - account.pending_withdrawal_wei) // ETHER - account.active
        assert self.pool._read("getNumberOfAvailable") == sum(account.slots > 0 for account in accounts.values())

    def teardown(self) -> None:
        try:
            self.drain()
        finally:
            self.evm.rpc("evm_revert", self.snapshot)

    def drain(self) -> None:
        """Past all deadlines nobody can keep anything from being settled and withdrawn."""
        self.evm.move_to(self.evm.now() + TERMS.commit_seconds + TERMS.reveal_seconds + 1)
        for number in self.open:
            self.market.settle(number)
        for actor in self.actors:
            account = self.pool.verifier(actor)
            free = account.stake_wei - account.pending_withdrawal_wei
            if free:
                self.market.send(self.pool.request_withdrawal_call(free), actor)
        self.evm.move_to(self.evm.now() + self.market.deployment.terms.withdrawal_delay_seconds)
        for actor in self.actors:
            if self.pool.withdrawable(actor):
                self.market.send(self.pool.withdraw_call(), actor)
        assert self.evm.balance(self.pool.address) == 0

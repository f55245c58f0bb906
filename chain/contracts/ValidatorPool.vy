# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
# SPDX-License-Identifier: Apache-2.0
"""
@title Pool of staked verifiers that judge challenges by commit, reveal and settlement
@notice A consumer opens a challenge with a bounty; k verifiers are drawn; each commits to a vote (verdict, score),
        reveals it, and anybody settles. Those who agree share the bounty and the slashed stakes.
@dev Money invariant: balance >= sum of stakes + sum of credits + sum of the bounties of open challenges, with
     equality unless ether was forced in. Stake invariant, for each verifier:
     stake >= active * stakePerSlot + pending. A slash takes exactly one slot's stake, which is always there.
     Ether leaves in `withdraw` only, after every change of state. No list is walked without a bound.
     Randomness is block.prevrandao: whoever builds the block, and a consumer who reverts a draw that it dislikes,
     can bias who is drawn. Stake, the price of a try and the number of verifiers bound what that is worth.
"""

MAX_K: constant(uint256) = 15
MAX_SCHEMA: constant(uint256) = 1024  # characters: the JSON itself or the CID of the JSON
MAX_METRIC: constant(uint256) = 32
MAX_CID: constant(uint256) = 96
MAX_REASON: constant(uint256) = 48
MAX_PAGE: constant(uint256) = 100
MAX_BATCH: constant(uint256) = 32
MAX_SCAN: constant(uint256) = 256  # candidates looked at in one draw
MAX_SCORE: constant(int256) = 10**30  # in 1e-6 of the metric
MAX_WINDOW_SECONDS: constant(uint256) = 30 * 24 * 3600
MAX_DELAY_SECONDS: constant(uint256) = 365 * 24 * 3600

# A verdict. NO_VOTE on a challenge means undecided.
NO_VOTE: constant(uint8) = 0
VALID: constant(uint8) = 1
INVALID: constant(uint8) = 2
UNAVAILABLE: constant(uint8) = 3

# The phase of a challenge.
COMMIT: constant(uint8) = 1
REVEAL: constant(uint8) = 2
SETTLE: constant(uint8) = 3  # settlement is due
SETTLED: constant(uint8) = 4

# What settlement does to one ballot.
UNTOUCHED: constant(uint8) = 0
PAID: constant(uint8) = 1
SLASHED: constant(uint8) = 2


interface IRegistry:
    def recordChallenge(model: uint256, challenge: uint256) -> address: nonpayable
    def recordResult(challenge: uint256, verdict: uint8, score: int256, passed: bool): nonpayable
    def getModelSchema(model: uint256) -> String[MAX_SCHEMA]: view


struct Terms:
    k: uint256  # verifiers to draw: odd, at most 15
    metric: String[MAX_METRIC]
    passMark: int256  # 1e-6 of the metric
    higherPasses: bool  # pass at or above the mark, else at or below
    tolerance: uint256  # 1e-6 of the metric
    commitSeconds: uint256
    revealSeconds: uint256


struct Challenge:
    model: uint256
    consumer: address
    bounty: uint256  # wei
    k: uint256
    metric: String[MAX_METRIC]
    passMark: int256
    higherPasses: bool
    tolerance: uint256
    createdAt: uint256
    commitDeadline: uint256  # the last second at which a commit is accepted
    revealDeadline: uint256  # the last second at which a reveal is accepted
    commits: uint256
    reveals: uint256
    settledAt: uint256  # 0 = open
    verdict: uint8
    score: int256
    passed: bool
    payout: uint256  # wei to each verifier that agreed
    dataSchema: String[MAX_SCHEMA]


struct Ballot:
    place: uint256  # 1 + position in the verifier's open list; 0 = not assigned or settled
    commitment: bytes32
    verdict: uint8
    score: int256
    reportCid: String[MAX_CID]


struct Account:
    stake: uint256  # wei, pending withdrawal included
    active: uint256  # open assignments, each locking stakePerSlot
    pending: uint256  # wei asked back
    withdrawableAt: uint256  # unix seconds
    minimumBounty: uint256  # wei a share must reach; 0 = the pool's minimum
    seat: uint256  # 1 + position among those with a free slot; 0 = no free slot
    known: bool


struct CommitEntry:
    challenge: uint256
    commitment: bytes32


struct RevealEntry:
    challenge: uint256
    verdict: uint8
    score: int256
    salt: bytes32
    reportCid: String[MAX_CID]


struct ChallengeView:
    challenge: uint256
    model: uint256
    consumer: address
    bounty: uint256
    share: uint256
    k: uint256
    metric: String[MAX_METRIC]
    passMark: int256
    higherPasses: bool
    tolerance: uint256
    createdAt: uint256
    commitDeadline: uint256
    revealDeadline: uint256
    commits: uint256
    reveals: uint256
    phase: uint8
    settledAt: uint256
    verdict: uint8
    score: int256
    passed: bool
    payout: uint256
    dataSchema: String[MAX_SCHEMA]
    verifiers: DynArray[address, MAX_K]


struct VoteView:
    verifier: address
    commitment: bytes32
    revealed: bool
    verdict: uint8
    score: int256
    reportCid: String[MAX_CID]
    payout: uint256
    slashed: uint256


struct VerifierView:
    verifier: address
    stake: uint256
    locked: uint256
    pending: uint256
    withdrawableAt: uint256
    minimumBounty: uint256
    slots: uint256  # free ones
    active: uint256
    credit: uint256


struct AssignmentView:
    challenge: uint256
    model: uint256
    modelSchema: String[MAX_SCHEMA]
    dataSchema: String[MAX_SCHEMA]
    k: uint256
    metric: String[MAX_METRIC]
    passMark: int256
    higherPasses: bool
    tolerance: uint256
    createdAt: uint256
    phase: uint8
    commitDeadline: uint256
    revealDeadline: uint256
    commits: uint256
    reveals: uint256
    share: uint256
    commitment: bytes32
    revealed: bool


event Deposited:
    verifier: indexed(address)
    amount: uint256


event MinimumBountySet:
    verifier: indexed(address)
    amount: uint256


event WithdrawalRequested:
    verifier: indexed(address)
    amount: uint256
    withdrawableAt: uint256


event Withdrawn:
    account: indexed(address)
    amount: uint256


event ChallengeCreated:
    challenge: indexed(uint256)
    model: indexed(uint256)
    consumer: indexed(address)
    bounty: uint256
    commitDeadline: uint256
    revealDeadline: uint256


event Assigned:
    challenge: indexed(uint256)
    verifier: indexed(address)


event Committed:
    challenge: indexed(uint256)
    verifier: indexed(address)
    commitment: bytes32


event Revealed:
    challenge: indexed(uint256)
    verifier: indexed(address)
    verdict: uint8
    score: int256
    reportCid: String[MAX_CID]


event Settled:
    challenge: indexed(uint256)
    model: indexed(uint256)
    verdict: uint8
    score: int256
    passed: bool


event Paid:
    challenge: indexed(uint256)
    verifier: indexed(address)
    amount: uint256


event Slashed:
    challenge: indexed(uint256)
    verifier: indexed(address)
    amount: uint256


event Refunded:
    challenge: indexed(uint256)
    consumer: indexed(address)
    amount: uint256


registry: public(immutable(address))
stakePerSlot: public(immutable(uint256))
minimumShare: public(immutable(uint256))
withdrawalDelaySeconds: public(immutable(uint256))
minimumWindowSeconds: public(immutable(uint256))

getNumberOfChallenges: public(uint256)
getNumberOfVerifiers: public(uint256)
getNumberOfAvailable: public(uint256)

_challenges: HashMap[uint256, Challenge]
_panels: HashMap[uint256, DynArray[address, MAX_K]]
_ballots: HashMap[uint256, HashMap[address, Ballot]]
_accounts: HashMap[address, Account]
_credits: HashMap[address, uint256]
_verifiers: HashMap[uint256, address]  # everybody who ever deposited
_available: HashMap[uint256, address]  # those with a free slot; order carries no meaning
_open: HashMap[address, HashMap[uint256, uint256]]  # a verifier's open challenges, `active` of them


@deploy
def __init__(
    registry_: address,
    stakePerSlot_: uint256,
    minimumShare_: uint256,
    withdrawalDelaySeconds_: uint256,
    minimumWindowSeconds_: uint256,
):
    assert registry_.is_contract, "no registry at this address"
    assert stakePerSlot_ > 0, "stake per slot is zero"
    assert minimumShare_ > 0, "minimum share is zero"
    assert withdrawalDelaySeconds_ <= MAX_DELAY_SECONDS, "withdrawal delay too long"
    assert minimumWindowSeconds_ > 0 and minimumWindowSeconds_ <= MAX_WINDOW_SECONDS, "bad minimum window"
    registry = registry_
    stakePerSlot = stakePerSlot_
    minimumShare = minimumShare_
    withdrawalDelaySeconds = withdrawalDelaySeconds_
    minimumWindowSeconds = minimumWindowSeconds_


# ------------------------------------------------------------------ stake and money


@external
@payable
@nonreentrant
def deposit():
    """
    @notice Add to the sender's stake. Every full `stakePerSlot` of it carries one assignment at a time.
    """
    assert msg.value > 0, "nothing deposited"
    if not self._accounts[msg.sender].known:
        self._accounts[msg.sender].known = True
        self._verifiers[self.getNumberOfVerifiers] = msg.sender
        self.getNumberOfVerifiers += 1
    self._accounts[msg.sender].stake += msg.value
    self._reseat(msg.sender)
    log Deposited(verifier=msg.sender, amount=msg.value)


@external
@nonreentrant
def setMinimumBounty(amount: uint256):
    """
    @notice The least share of a bounty, in wei, for which the sender may be drawn.
    """
    self._accounts[msg.sender].minimumBounty = amount
    log MinimumBountySet(verifier=msg.sender, amount=amount)


@external
@nonreentrant
def requestWithdrawal(amount: uint256):
    """
    @notice Ask for stake that no open assignment locks. It leaves the drawing at once and can be withdrawn after
            the delay. A further request starts the delay anew for what has not matured yet.
    """
    assert amount > 0, "nothing requested"
    self._mature(msg.sender)
    account: Account = self._accounts[msg.sender]
    assert amount <= account.stake - account.active * stakePerSlot - account.pending, "more than the free stake"
    self._accounts[msg.sender].pending = account.pending + amount
    self._accounts[msg.sender].withdrawableAt = block.timestamp + withdrawalDelaySeconds
    self._reseat(msg.sender)
    log WithdrawalRequested(
        verifier=msg.sender, amount=amount, withdrawableAt=block.timestamp + withdrawalDelaySeconds
    )


@external
@nonreentrant
def withdraw() -> uint256:
    """
    @notice Take everything that is the sender's to take: earnings, refunds and matured withdrawals.
    @return The amount sent, in wei
    """
    self._mature(msg.sender)
    amount: uint256 = self._credits[msg.sender]
    assert amount > 0, "nothing to withdraw"
    self._credits[msg.sender] = 0
    log Withdrawn(account=msg.sender, amount=amount)
    raw_call(msg.sender, b"", value=amount)
    return amount


@internal
def _mature(account: address):
    """
    @dev Turn a withdrawal whose delay is over into credit.
    """
    pending: uint256 = self._accounts[account].pending
    if pending > 0 and block.timestamp >= self._accounts[account].withdrawableAt:
        self._accounts[account].pending = 0
        self._accounts[account].withdrawableAt = 0
        self._accounts[account].stake -= pending
        self._credits[account] += pending


@internal
@view
def _slots(stake: uint256, pending: uint256, active: uint256) -> uint256:
    return (stake - pending) // stakePerSlot - active


@internal
def _reseat(verifier: address):
    """
    @dev Keep the list of those with a free slot true, after any change of stake, pending or active.
    """
    slots: uint256 = self._slots(
        self._accounts[verifier].stake, self._accounts[verifier].pending, self._accounts[verifier].active
    )
    seat: uint256 = self._accounts[verifier].seat
    if slots > 0 and seat == 0:
        self._available[self.getNumberOfAvailable] = verifier
        self.getNumberOfAvailable += 1
        self._accounts[verifier].seat = self.getNumberOfAvailable
    elif slots == 0 and seat != 0:
        last: uint256 = self.getNumberOfAvailable
        if seat != last:
            moved: address = self._available[last - 1]
            self._available[seat - 1] = moved
            self._accounts[moved].seat = seat
        self._available[last - 1] = empty(address)
        self.getNumberOfAvailable = last - 1
        self._accounts[verifier].seat = 0


# ------------------------------------------------------------------ opening a challenge


@external
@payable
@nonreentrant
def createChallenge(model: uint256, dataSchema: String[MAX_SCHEMA], terms: Terms) -> uint256:
    """
    @notice Open a challenge; the value sent is its bounty, shared by the k verifiers.
    @param model The model's number in the registry
    @param dataSchema The data schema as JSON, or the CID of that JSON
    @return The challenge's number, counted from 1
    """
    assert terms.k <= MAX_K and terms.k % 2 == 1, "k must be odd and at most 15"
    assert len(dataSchema) > 0, "empty data schema"
    assert len(terms.metric) > 0, "empty metric"
    assert abs(terms.passMark) <= MAX_SCORE, "pass mark out of range"
    assert terms.tolerance <= convert(MAX_SCORE, uint256), "tolerance out of range"
    self._checkWindow(terms.commitSeconds)
    self._checkWindow(terms.revealSeconds)
    share: uint256 = msg.value // terms.k
    assert share >= minimumShare, "bounty below the minimum"

    challenge: uint256 = self.getNumberOfChallenges + 1
    self.getNumberOfChallenges = challenge
    commitDeadline: uint256 = block.timestamp + terms.commitSeconds
    revealDeadline: uint256 = commitDeadline + terms.revealSeconds
    self._challenges[challenge].model = model
    self._challenges[challenge].consumer = msg.sender
    self._challenges[challenge].bounty = msg.value
    self._challenges[challenge].k = terms.k
    self._challenges[challenge].metric = terms.metric
    self._challenges[challenge].passMark = terms.passMark
    self._challenges[challenge].higherPasses = terms.higherPasses
    self._challenges[challenge].tolerance = terms.tolerance
    self._challenges[challenge].createdAt = block.timestamp
    self._challenges[challenge].commitDeadline = commitDeadline
    self._challenges[challenge].revealDeadline = revealDeadline
    self._challenges[challenge].dataSchema = dataSchema
    log ChallengeCreated(
        challenge=challenge,
        model=model,
        consumer=msg.sender,
        bounty=msg.value,
        commitDeadline=commitDeadline,
        revealDeadline=revealDeadline,
    )
    modelOwner: address = extcall IRegistry(registry).recordChallenge(model, challenge)
    self._draw(challenge, terms.k, share, modelOwner)
    return challenge


@internal
@view
def _checkWindow(seconds: uint256):
    assert seconds >= minimumWindowSeconds, "window too short"
    assert seconds <= MAX_WINDOW_SECONDS, "window too long"


@internal
def _draw(challenge: uint256, k: uint256, share: uint256, modelOwner: address):
    """
    @dev Collect the eligible among at most MAX_SCAN candidates from a random place of the list on, then draw k of
         them without repetition (the first k steps of a Fisher-Yates shuffle).
    """
    seed: bytes32 = keccak256(abi_encode(block.prevrandao, blockhash(block.number - 1), self, challenge))
    listed: uint256 = self.getNumberOfAvailable
    eligible: DynArray[address, MAX_SCAN] = []
    if listed > 0:
        offset: uint256 = convert(seed, uint256) % listed
        for i: uint256 in range(min(listed, MAX_SCAN), bound=MAX_SCAN):
            candidate: address = self._available[(offset + i) % listed]
            if candidate == msg.sender or candidate == modelOwner:
                continue
            if self._accounts[candidate].minimumBounty <= share:
                eligible.append(candidate)
    count: uint256 = len(eligible)
    assert count >= k, "too few eligible verifiers"
    for i: uint256 in range(k, bound=MAX_K):
        seed = keccak256(seed)
        j: uint256 = i + convert(seed, uint256) % (count - i)
        drawn: address = eligible[j]
        eligible[j] = eligible[i]
        eligible[i] = drawn
        self._assign(challenge, drawn)


@internal
def _assign(challenge: uint256, verifier: address):
    active: uint256 = self._accounts[verifier].active
    self._panels[challenge].append(verifier)
    self._open[verifier][active] = challenge
    self._ballots[challenge][verifier].place = active + 1
    self._accounts[verifier].active = active + 1
    self._reseat(verifier)
    log Assigned(challenge=challenge, verifier=verifier)


# ------------------------------------------------------------------ commit and reveal


@external
@nonreentrant
def commit(challenge: uint256, commitment: bytes32):
    """
    @notice Bind the sender to a vote:
            keccak256(abi.encode(chainid, pool, challenge, verifier, verdict, score, salt)).
    """
    reason: String[MAX_REASON] = self._whyNoCommit(challenge, commitment)
    assert len(reason) == 0, reason
    self._commit(challenge, commitment)


@external
@nonreentrant
def commitMany(entries: DynArray[CommitEntry, MAX_BATCH]) -> DynArray[uint256, MAX_BATCH]:
    """
    @notice Commit for several challenges; entries that would be refused are skipped.
    @return The challenges for which a commitment was taken
    """
    done: DynArray[uint256, MAX_BATCH] = []
    for entry: CommitEntry in entries:
        if len(self._whyNoCommit(entry.challenge, entry.commitment)) == 0:
            self._commit(entry.challenge, entry.commitment)
            done.append(entry.challenge)
    return done


@external
@nonreentrant
def reveal(challenge: uint256, verdict: uint8, score: int256, salt: bytes32, reportCid: String[MAX_CID]):
    """
    @notice Open the sender's commitment. A vote that does not match it is refused, which is silence in the end.
    """
    reason: String[MAX_REASON] = self._whyNoReveal(challenge, verdict, score, salt)
    assert len(reason) == 0, reason
    self._reveal(challenge, verdict, score, reportCid)


@external
@nonreentrant
def revealMany(entries: DynArray[RevealEntry, MAX_BATCH]) -> DynArray[uint256, MAX_BATCH]:
    """
    @notice Reveal for several challenges; entries that would be refused are skipped.
    @return The challenges for which a vote was taken
    """
    done: DynArray[uint256, MAX_BATCH] = []
    for entry: RevealEntry in entries:
        if len(self._whyNoReveal(entry.challenge, entry.verdict, entry.score, entry.salt)) == 0:
            self._reveal(entry.challenge, entry.verdict, entry.score, entry.reportCid)
            done.append(entry.challenge)
    return done


@internal
@view
def _phase(challenge: uint256) -> uint8:
    if self._challenges[challenge].settledAt != 0:
        return SETTLED
    commits: uint256 = self._challenges[challenge].commits
    if commits < self._challenges[challenge].k and block.timestamp <= self._challenges[challenge].commitDeadline:
        return COMMIT
    if self._challenges[challenge].reveals < commits and block.timestamp <= self._challenges[challenge].revealDeadline:
        return REVEAL
    return SETTLE


@internal
@view
def _whyNoCommit(challenge: uint256, commitment: bytes32) -> String[MAX_REASON]:
    """
    @dev Empty = acceptable.
    """
    if challenge == 0 or challenge > self.getNumberOfChallenges:
        return "unknown challenge"
    phase: uint8 = self._phase(challenge)
    if phase == SETTLED:
        return "challenge already settled"
    if self._ballots[challenge][msg.sender].place == 0:
        return "not assigned to this challenge"
    if self._ballots[challenge][msg.sender].commitment != empty(bytes32):
        return "already committed"
    if phase != COMMIT:
        return "commit phase is over"
    if commitment == empty(bytes32):
        return "empty commitment"
    return ""


@internal
def _commit(challenge: uint256, commitment: bytes32):
    self._ballots[challenge][msg.sender].commitment = commitment
    self._challenges[challenge].commits += 1
    log Committed(challenge=challenge, verifier=msg.sender, commitment=commitment)


@internal
@view
def _whyNoReveal(challenge: uint256, verdict: uint8, score: int256, salt: bytes32) -> String[MAX_REASON]:
    """
    @dev Empty = acceptable.
    """
    if challenge == 0 or challenge > self.getNumberOfChallenges:
        return "unknown challenge"
    phase: uint8 = self._phase(challenge)
    if phase == SETTLED:
        return "challenge already settled"
    if self._ballots[challenge][msg.sender].place == 0:
        return "not assigned to this challenge"
    if self._ballots[challenge][msg.sender].verdict != NO_VOTE:
        return "already revealed"
    if phase == COMMIT:
        return "reveal phase has not begun"
    if self._ballots[challenge][msg.sender].commitment == empty(bytes32):
        return "nothing committed"
    if phase != REVEAL:
        return "reveal phase is over"
    if verdict < VALID or verdict > UNAVAILABLE:
        return "unknown verdict"
    if score > MAX_SCORE or score < -MAX_SCORE:
        return "score out of range"
    if verdict != VALID and score != 0:
        return "score without a valid verdict"
    if self._ballots[challenge][msg.sender].commitment != keccak256(
        abi_encode(chain.id, self, challenge, msg.sender, verdict, score, salt)
    ):
        return "vote does not match the commitment"
    return ""


@internal
def _reveal(challenge: uint256, verdict: uint8, score: int256, reportCid: String[MAX_CID]):
    self._ballots[challenge][msg.sender].verdict = verdict
    self._ballots[challenge][msg.sender].score = score
    self._ballots[challenge][msg.sender].reportCid = reportCid
    self._challenges[challenge].reveals += 1
    log Revealed(
        challenge=challenge, verifier=msg.sender, verdict=verdict, score=score, reportCid=reportCid
    )


# ------------------------------------------------------------------ settlement


@external
@nonreentrant
def settle(challenge: uint256):
    """
    @notice Close a challenge whose settlement is due. Anybody may.
    """
    assert challenge != 0 and challenge <= self.getNumberOfChallenges, "unknown challenge"
    phase: uint8 = self._phase(challenge)
    assert phase != SETTLED, "challenge already settled"
    assert phase == SETTLE, "settlement is not due yet"
    self._settle(challenge)


@external
@nonreentrant
def settleMany(challenges: DynArray[uint256, MAX_BATCH]) -> DynArray[uint256, MAX_BATCH]:
    """
    @notice Close several challenges; those that are not due are skipped.
    @return The challenges that this call settled
    """
    done: DynArray[uint256, MAX_BATCH] = []
    for challenge: uint256 in challenges:
        if challenge == 0 or challenge > self.getNumberOfChallenges:
            continue
        if self._phase(challenge) == SETTLE:
            self._settle(challenge)
            done.append(challenge)
    return done


@internal
@view
def _decide(challenge: uint256) -> (uint8, int256):
    """
    @dev The verdict that wins and, if it is VALID, the median score; (NO_VOTE, 0) = undecided.
         Undecided: nobody revealed, most abstain, no verdict has more than half of the deciding votes, or the
         votes within the tolerance of the median are not more than half of the deciding votes. Without the last
         rule a lone median among scattered scores would slash all the others.
    """
    scores: DynArray[int256, MAX_K] = []  # of the VALID votes, ascending
    invalid: uint256 = 0
    abstained: uint256 = 0
    for verifier: address in self._panels[challenge]:
        verdict: uint8 = self._ballots[challenge][verifier].verdict
        if verdict == VALID:
            score: int256 = self._ballots[challenge][verifier].score
            scores.append(score)
            place: uint256 = len(scores) - 1
            for i: uint256 in range(MAX_K):
                if place == 0 or scores[place - 1] <= score:
                    break
                scores[place] = scores[place - 1]
                place -= 1
            scores[place] = score
        elif verdict == INVALID:
            invalid += 1
        elif verdict == UNAVAILABLE:
            abstained += 1
    valid: uint256 = len(scores)
    deciding: uint256 = valid + invalid
    if abstained > deciding or deciding == 0:
        return NO_VOTE, 0
    if invalid * 2 > deciding:
        return INVALID, 0
    if valid * 2 <= deciding:
        return NO_VOTE, 0
    median: int256 = scores[(valid - 1) // 2]  # of an even number, the lower of the two in the middle
    agreeing: uint256 = 0
    for score: int256 in scores:
        if self._near(score, median, self._challenges[challenge].tolerance):
            agreeing += 1
    if agreeing * 2 <= deciding:
        return NO_VOTE, 0
    return VALID, median


@internal
@pure
def _near(score: int256, median: int256, tolerance: uint256) -> bool:
    return convert(abs(score - median), uint256) <= tolerance


@internal
@view
def _fate(
    challenge: uint256, verifier: address, verdict: uint8, median: int256, tolerance: uint256
) -> uint8:
    """
    @dev What the decision (verdict, median) does to one ballot. Read again by `getVotes`: nothing is stored twice.
    """
    vote: uint8 = self._ballots[challenge][verifier].verdict
    if vote == NO_VOTE:
        return SLASHED
    if vote == UNAVAILABLE or verdict == NO_VOTE:
        return UNTOUCHED
    if vote != verdict:
        return SLASHED
    if verdict == VALID and not self._near(self._ballots[challenge][verifier].score, median, tolerance):
        return SLASHED
    return PAID


@internal
def _settle(challenge: uint256):
    verdict: uint8 = NO_VOTE
    score: int256 = 0
    verdict, score = self._decide(challenge)
    passed: bool = False
    if verdict == VALID:
        passMark: int256 = self._challenges[challenge].passMark
        passed = score >= passMark if self._challenges[challenge].higherPasses else score <= passMark
    self._challenges[challenge].settledAt = block.timestamp
    self._challenges[challenge].verdict = verdict
    self._challenges[challenge].score = score
    self._challenges[challenge].passed = passed
    log Settled(
        challenge=challenge, model=self._challenges[challenge].model, verdict=verdict, score=score, passed=passed
    )
    rest: uint256 = self._distribute(challenge, verdict, score)
    if rest > 0:
        consumer: address = self._challenges[challenge].consumer
        self._credits[consumer] += rest
        log Refunded(challenge=challenge, consumer=consumer, amount=rest)
    extcall IRegistry(registry).recordResult(challenge, verdict, score, passed)


@internal
def _distribute(challenge: uint256, verdict: uint8, score: int256) -> uint256:
    """
    @dev Free every slot, slash, pay.
    @return What is left of bounty and slashes: all of it if undecided, else the remainder of the division
    """
    panel: DynArray[address, MAX_K] = self._panels[challenge]
    tolerance: uint256 = self._challenges[challenge].tolerance
    pot: uint256 = self._challenges[challenge].bounty
    agreeing: DynArray[address, MAX_K] = []
    for verifier: address in panel:
        fate: uint8 = self._fate(challenge, verifier, verdict, score, tolerance)
        if fate == PAID:
            agreeing.append(verifier)
        elif fate == SLASHED:
            pot += stakePerSlot
            self._accounts[verifier].stake -= stakePerSlot
            log Slashed(challenge=challenge, verifier=verifier, amount=stakePerSlot)
        self._release(challenge, verifier)
    if len(agreeing) == 0:
        return pot
    payout: uint256 = pot // len(agreeing)
    self._challenges[challenge].payout = payout
    for verifier: address in agreeing:
        self._credits[verifier] += payout
        log Paid(challenge=challenge, verifier=verifier, amount=payout)
    return pot - payout * len(agreeing)


@internal
def _release(challenge: uint256, verifier: address):
    """
    @dev Take the challenge off the verifier's open list; the last one of the list moves into its place.
    """
    place: uint256 = self._ballots[challenge][verifier].place
    last: uint256 = self._accounts[verifier].active
    if place != last:
        moved: uint256 = self._open[verifier][last - 1]
        self._open[verifier][place - 1] = moved
        self._ballots[moved][verifier].place = place
    self._open[verifier][last - 1] = 0
    self._ballots[challenge][verifier].place = 0
    self._accounts[verifier].active = last - 1
    self._reseat(verifier)


# ------------------------------------------------------------------ views


@external
@view
def getChallenge(challenge: uint256) -> ChallengeView:
    assert challenge != 0 and challenge <= self.getNumberOfChallenges, "unknown challenge"
    c: Challenge = self._challenges[challenge]
    return ChallengeView(
        challenge=challenge,
        model=c.model,
        consumer=c.consumer,
        bounty=c.bounty,
        share=c.bounty // c.k,
        k=c.k,
        metric=c.metric,
        passMark=c.passMark,
        higherPasses=c.higherPasses,
        tolerance=c.tolerance,
        createdAt=c.createdAt,
        commitDeadline=c.commitDeadline,
        revealDeadline=c.revealDeadline,
        commits=c.commits,
        reveals=c.reveals,
        phase=self._phase(challenge),
        settledAt=c.settledAt,
        verdict=c.verdict,
        score=c.score,
        passed=c.passed,
        payout=c.payout,
        dataSchema=c.dataSchema,
        verifiers=self._panels[challenge],
    )


@external
@view
def getVotes(challenge: uint256) -> DynArray[VoteView, MAX_K]:
    """
    @notice The ballots of a challenge in the order of the draw; payout and slashed are zero until it is settled.
    """
    assert challenge != 0 and challenge <= self.getNumberOfChallenges, "unknown challenge"
    settled: bool = self._challenges[challenge].settledAt != 0
    verdict: uint8 = self._challenges[challenge].verdict
    median: int256 = self._challenges[challenge].score
    tolerance: uint256 = self._challenges[challenge].tolerance
    votes: DynArray[VoteView, MAX_K] = []
    for verifier: address in self._panels[challenge]:
        b: Ballot = self._ballots[challenge][verifier]
        payout: uint256 = 0
        slashed: uint256 = 0
        if settled:
            fate: uint8 = self._fate(challenge, verifier, verdict, median, tolerance)
            if fate == PAID:
                payout = self._challenges[challenge].payout
            elif fate == SLASHED:
                slashed = stakePerSlot
        votes.append(
            VoteView(
                verifier=verifier,
                commitment=b.commitment,
                revealed=b.verdict != NO_VOTE,
                verdict=b.verdict,
                score=b.score,
                reportCid=b.reportCid,
                payout=payout,
                slashed=slashed,
            )
        )
    return votes


@external
@view
def getVerifier(verifier: address) -> VerifierView:
    return self._verifierView(verifier)


@external
@view
def getVerifiers(cursor: uint256, limit: uint256) -> DynArray[VerifierView, MAX_PAGE]:
    """
    @notice Everybody who ever deposited, oldest first, from number `cursor` (0 is the first), at most 100.
    """
    page: DynArray[VerifierView, MAX_PAGE] = []
    for i: uint256 in range(self._pageSize(self.getNumberOfVerifiers, cursor, limit), bound=MAX_PAGE):
        page.append(self._verifierView(self._verifiers[cursor + i]))
    return page


@internal
@view
def _verifierView(verifier: address) -> VerifierView:
    a: Account = self._accounts[verifier]
    return VerifierView(
        verifier=verifier,
        stake=a.stake,
        locked=a.active * stakePerSlot,
        pending=a.pending,
        withdrawableAt=a.withdrawableAt,
        minimumBounty=max(a.minimumBounty, minimumShare),
        slots=self._slots(a.stake, a.pending, a.active),
        active=a.active,
        credit=self._credits[verifier],
    )


@internal
@pure
def _pageSize(total: uint256, cursor: uint256, limit: uint256) -> uint256:
    if cursor >= total:
        return 0
    return min(min(limit, MAX_PAGE), total - cursor)


@external
@view
def withdrawable(account: address) -> uint256:
    """
    @notice What `withdraw` would send to this account now, in wei.
    """
    amount: uint256 = self._credits[account]
    if block.timestamp >= self._accounts[account].withdrawableAt:
        amount += self._accounts[account].pending
    return amount


@external
@view
def numberOfAssignments(verifier: address) -> uint256:
    return self._accounts[verifier].active


@external
@view
def assignments(verifier: address, cursor: uint256, limit: uint256) -> DynArray[AssignmentView, MAX_PAGE]:
    """
    @notice A verifier's open challenges with all that it needs to serve them, from place `cursor` of the list on, at
            most 100. The order changes when a challenge is settled: read all pages at one block.
    """
    page: DynArray[AssignmentView, MAX_PAGE] = []
    for i: uint256 in range(self._pageSize(self._accounts[verifier].active, cursor, limit), bound=MAX_PAGE):
        challenge: uint256 = self._open[verifier][cursor + i]
        c: Challenge = self._challenges[challenge]
        page.append(
            AssignmentView(
                challenge=challenge,
                model=c.model,
                modelSchema=staticcall IRegistry(registry).getModelSchema(c.model),
                dataSchema=c.dataSchema,
                k=c.k,
                metric=c.metric,
                passMark=c.passMark,
                higherPasses=c.higherPasses,
                tolerance=c.tolerance,
                createdAt=c.createdAt,
                phase=self._phase(challenge),
                commitDeadline=c.commitDeadline,
                revealDeadline=c.revealDeadline,
                commits=c.commits,
                reveals=c.reveals,
                share=c.bounty // c.k,
                commitment=self._ballots[challenge][verifier].commitment,
                revealed=self._ballots[challenge][verifier].verdict != NO_VOTE,
            )
        )
    return page

# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
# SPDX-License-Identifier: Apache-2.0
"""
@title Registry of models, of their challenges and of the settled results
@notice Holds no money. Anybody publishes a model; only authorised validator pools record challenges and results.
@dev A pool settles through `recordResult`, so an authorisation that could be taken back could lock the stakes of
     that pool. It is therefore permanent: the owner adds pools and can do nothing else.
"""

MAX_SCHEMA: constant(uint256) = 1024  # characters: the JSON itself or the CID of the JSON
MAX_PAGE: constant(uint256) = 100
MAX_POOLS: constant(uint256) = 64


struct Model:
    owner: address
    createdAt: uint256  # unix seconds
    schema: String[MAX_SCHEMA]


struct ChallengeRef:
    pool: address
    challenge: uint256


struct Result:
    model: uint256  # 0 = this challenge is unknown here
    verdict: uint8  # 0 undecided, 1 valid, 2 invalid
    score: int256  # 1e-6 of the metric
    passed: bool
    settledAt: uint256  # unix seconds; 0 = not settled yet


event PoolAdded:
    pool: indexed(address)


event ModelCreated:
    model: indexed(uint256)
    owner: indexed(address)
    schema: String[MAX_SCHEMA]


event ChallengeRecorded:
    model: indexed(uint256)
    pool: indexed(address)
    challenge: indexed(uint256)


event ResultRecorded:
    model: indexed(uint256)
    pool: indexed(address)
    challenge: indexed(uint256)
    verdict: uint8
    score: int256
    passed: bool


owner: public(immutable(address))
isPool: public(HashMap[address, bool])
getNumberOfModels: public(uint256)

_pools: DynArray[address, MAX_POOLS]
_models: HashMap[uint256, Model]
_numberOfChallenges: HashMap[uint256, uint256]
_challenges: HashMap[uint256, HashMap[uint256, ChallengeRef]]
_results: HashMap[address, HashMap[uint256, Result]]


@deploy
def __init__():
    owner = msg.sender


@external
def addPool(pool: address):
    """
    @notice Authorise a validator pool, for good.
    """
    assert msg.sender == owner, "only the owner adds pools"
    assert pool.is_contract, "no contract at this address"
    assert not self.isPool[pool], "pool already added"
    assert len(self._pools) < MAX_POOLS, "too many pools"
    self.isPool[pool] = True
    self._pools.append(pool)
    log PoolAdded(pool=pool)


@external
def createModel(schema: String[MAX_SCHEMA]) -> uint256:
    """
    @notice Publish a model under the sender's name.
    @param schema The model schema as JSON, or the CID of that JSON
    @return The model's number, counted from 1
    """
    assert len(schema) > 0, "empty schema"
    model: uint256 = self.getNumberOfModels + 1
    self.getNumberOfModels = model
    self._models[model] = Model(owner=msg.sender, createdAt=block.timestamp, schema=schema)
    log ModelCreated(model=model, owner=msg.sender, schema=schema)
    return model


@external
def recordChallenge(model: uint256, challenge: uint256) -> address:
    """
    @notice A pool says that it opened a challenge for a model.
    @return The model's owner, whom the pool must not draw
    """
    assert self.isPool[msg.sender], "pool not authorised"
    assert 0 < model and model <= self.getNumberOfModels, "unknown model"
    assert self._results[msg.sender][challenge].model == 0, "challenge already recorded"
    self._results[msg.sender][challenge].model = model
    count: uint256 = self._numberOfChallenges[model]
    self._challenges[model][count] = ChallengeRef(pool=msg.sender, challenge=challenge)
    self._numberOfChallenges[model] = count + 1
    log ChallengeRecorded(model=model, pool=msg.sender, challenge=challenge)
    return self._models[model].owner


@external
def recordResult(challenge: uint256, verdict: uint8, score: int256, passed: bool):
    """
    @notice A pool says how a challenge of its own ended.
    """
    model: uint256 = self._results[msg.sender][challenge].model
    assert model != 0, "unknown challenge"
    assert self._results[msg.sender][challenge].settledAt == 0, "result already recorded"
    self._results[msg.sender][challenge] = Result(
        model=model, verdict=verdict, score=score, passed=passed, settledAt=block.timestamp
    )
    log ResultRecorded(
        model=model, pool=msg.sender, challenge=challenge, verdict=verdict, score=score, passed=passed
    )


@external
@view
def getModel(model: uint256) -> Model:
    assert 0 < model and model <= self.getNumberOfModels, "unknown model"
    return self._models[model]


@external
@view
def getModelSchema(model: uint256) -> String[MAX_SCHEMA]:
    """
    @return The schema, empty where the model is unknown
    """
    return self._models[model].schema


@external
@view
def getNumberOfModelChallenges(model: uint256) -> uint256:
    return self._numberOfChallenges[model]


@external
@view
def getModelChallenges(model: uint256, cursor: uint256, limit: uint256) -> DynArray[ChallengeRef, MAX_PAGE]:
    """
    @notice A model's challenges, oldest first, from number `cursor` (0 is the first), at most 100.
    """
    page: DynArray[ChallengeRef, MAX_PAGE] = []
    total: uint256 = self._numberOfChallenges[model]
    if cursor < total:
        for i: uint256 in range(min(min(limit, MAX_PAGE), total - cursor), bound=MAX_PAGE):
            page.append(self._challenges[model][cursor + i])
    return page


@external
@view
def getResult(pool: address, challenge: uint256) -> Result:
    return self._results[pool][challenge]


@external
@view
def getPools() -> DynArray[address, MAX_POOLS]:
    return self._pools

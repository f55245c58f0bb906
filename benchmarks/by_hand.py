"""A challenge carried through by hand: seven transactions in four waves, each sent as soon as the one before is mined.

The floor of `road`: a pool of its own on the same chain, with three accounts that vote without evaluating anything.
"""

from __future__ import annotations

from typing import Final

from hexbytes import HexBytes

from benchmarks.bare_chain import BareChain, BlockWatch
from benchmarks.cluster import BOUNTY_WEI, SCORE, TERMS
from chain import Registry, ValidatorPool, Verdict, deploy
from chain.challenges import PoolTerms
from chain.votes import Vote, commitment
from workers.demo.world import ETHER

_SALT: Final = b"\x07" * 32
_VOTE: Final = Vote(Verdict.VALID, SCORE)
_REPORT: Final = "QmZFwmSaniaqGaw8r7PxYDBkkoTUbTibSsDpRetRrBFMKi"
_DEPLOYER, _CONSUMER = 10, 11
_VERIFIERS = (12, 13, 14)
_OPEN_GAS, _STEP_GAS, _SETTLE_GAS = 3_000_000, 600_000, 2_000_000


class ByHand:
    """The pool, its three verifiers and their consumer."""

    def __init__(self, chain: BareChain, watch: BlockWatch, data_schema: str) -> None:
        self._chain = chain
        self._watch = watch
        self._data_schema = data_schema
        terms = PoolTerms(
            stake_per_slot_wei=ETHER,
            minimum_share_wei=1,
            withdrawal_delay_seconds=60,
            minimum_window_seconds=5,
        )
        deployment = deploy(chain.w3, chain.signer(_DEPLOYER), terms=terms)
        self._pool = ValidatorPool(chain.w3, deployment.pool)
        registry = Registry(chain.w3, deployment.registry)
        consumer = chain.signer(_CONSUMER)
        model = chain.do(registry.create_model_call(data_schema), consumer, gas=_OPEN_GAS)
        self._model = registry.created_model(model["transactionHash"])
        deposits = [
            chain.send(self._pool.deposit_call(4 * ETHER), chain.signer(index), gas=_STEP_GAS) for index in _VERIFIERS
        ]
        self._mined(deposits)

    def run(self) -> float:
        """Open, commit, reveal and settle one challenge; seconds from the block that opened it to the one that settled
        it.
        """
        call = self._pool.create_challenge_call(self._model, self._data_schema, TERMS, BOUNTY_WEI)
        opened = self._chain.do(call, self._chain.signer(_CONSUMER), gas=_OPEN_GAS)
        started = self._watch.seen(opened["blockNumber"])
        number = self._pool.created_challenge(opened["transactionHash"])
        self._mined([self._commit(number, index) for index in _VERIFIERS])
        reveal = self._pool.reveal_call(number, _VOTE.verdict, _VOTE.score, _SALT, _REPORT)
        self._mined([self._chain.send(reveal, self._chain.signer(index), gas=_STEP_GAS) for index in _VERIFIERS])
        settle = self._pool.settle_call(number)
        settled = self._chain.do(settle, self._chain.signer(_VERIFIERS[0]), gas=_SETTLE_GAS)
        return self._watch.seen(settled["blockNumber"]) - started

    def _commit(self, number: int, index: int) -> HexBytes:
        signer = self._chain.signer(index)
        hashed = commitment(
            chain_id=self._chain.chain_id,
            pool=self._pool.address,
            challenge_id=number,
            verifier=signer.address,
            vote=_VOTE,
            salt=_SALT,
        )
        return self._chain.send(self._pool.commit_call(number, hashed), signer, gas=_STEP_GAS)

    def _mined(self, sent: list[HexBytes]) -> None:
        for one in sent:
            self._chain.receipt(one)

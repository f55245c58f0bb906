"""The registry of models, as Python reads and calls it. The contract is `contracts/Registry.vy`.

Views return the dataclasses of `chain/challenges.py`; functions that end in `_call` prepare a transaction and
send nothing.
"""

from typing import ClassVar

from chain.calls import BoundContract, ContractCall, checksum_address
from chain.challenges import ChallengeRef, Model, Result, Verdict
from chain.errors import NotFound, SettingsError

_PAGE = 100


class Registry(BoundContract):
    """Models, their challenges and the settled results."""

    contract_name: ClassVar[str] = "Registry"
    setting: ClassVar[str] = "FITCHAIN_REGISTRY"
    probe: ClassVar[str] = "getPools"

    def number_of_models(self) -> int:
        """How many models were published; they are numbered from 1 on."""
        return int(self._read("getNumberOfModels"))

    def model(self, model_id: int) -> Model:
        """Read a model; NotFound if there is none with this number."""
        raw = self._read("getModel", model_id)
        return Model(id=model_id, owner=raw.owner, schema=raw.schema, created_at=raw.createdAt)

    def model_challenge_refs(self, model_id: int) -> list[ChallengeRef]:
        """All challenges of a model in all pools, oldest first, read at one block."""
        block = self._block_number()
        found: list[ChallengeRef] = []
        while True:
            page = self._read("getModelChallenges", model_id, len(found), _PAGE, block=block)
            found += [ChallengeRef(pool=raw.pool, challenge_id=raw.challenge) for raw in page]
            if len(page) < _PAGE:
                return found

    def model_challenges(self, model_id: int, *, pool: str | None = None) -> list[int]:
        """The numbers of a model's challenges in one pool (None: the only pool there is), oldest first."""
        chosen = self._pool(pool)
        return [ref.challenge_id for ref in self.model_challenge_refs(model_id) if ref.pool == chosen]

    def result(self, challenge_id: int, *, pool: str | None = None) -> Result | None:
        """How a challenge of a pool (None: the only pool there is) ended; None while it is open.

        Raises NotFound if the pool never recorded such a challenge.
        """
        chosen = self._pool(pool)
        raw = self._read("getResult", chosen, challenge_id)
        if raw.model == 0:
            raise NotFound(f"The pool {chosen} has recorded no challenge {challenge_id} in {self.address}")
        if raw.settledAt == 0:
            return None
        return Result(
            pool=chosen,
            challenge_id=challenge_id,
            model_id=raw.model,
            verdict=Verdict(raw.verdict),
            score=raw.score,
            passed=raw.passed,
            settled_at=raw.settledAt,
        )

    def pools(self) -> list[str]:
        """The authorised pools, oldest first."""
        return list(self._read("getPools"))

    def create_model_call(self, schema: str) -> ContractCall:
        """Publish a model: its schema as JSON or as the CID of the JSON, at most 1024 bytes.

        The number it gets is `number_of_models()` once mined, or read from the receipt by `created_model`.
        """
        return self._call("createModel", schema, describe="publish a model")

    def add_pool_call(self, pool: str) -> ContractCall:
        """Authorise a pool, for good; only the registry's owner may."""
        return self._call("addPool", checksum_address(pool, what="the pool"), describe=f"authorise the pool {pool}")

    def created_model(self, transaction: str | bytes) -> int:
        """The number of the model that a mined transaction published; NotFound if it published none."""
        return self._logged("ModelCreated", transaction, "model")

    def _pool(self, pool: str | None) -> str:
        if pool is not None:
            return checksum_address(pool, what="the pool")
        pools = self.pools()
        if len(pools) == 1:
            return pools[0]
        raise SettingsError(f"The registry {self.address} knows {len(pools)} pools: say which one is meant")

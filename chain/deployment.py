"""Putting the contracts on a chain, and the record of where they are.

`deploy` sends three transactions of one account: the registry, the pool, and the authorisation of the pool.
The record is JSON: ``{"chain_id", "registry", "pool", "block", "deployer", "terms": {…}, "sources":
{contract: sha256}}``.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hexbytes import HexBytes
from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import ContractLogicError, TimeExhausted, Web3Exception

from chain.accounts import Signer
from chain.calls import load_artifact
from chain.challenges import PoolTerms
from chain.errors import DeploymentError
from chain.registry import Registry
from chain.reverts import decode_revert

_MINED_WITHIN_SECONDS = 180.0
_GAS_MARGIN = 1.1

DEFAULT_POOL_TERMS = PoolTerms(
    stake_per_slot_wei=10**17,
    minimum_share_wei=10**15,
    withdrawal_delay_seconds=24 * 3600,
    minimum_window_seconds=60,
)


@dataclass(frozen=True)
class Deployment:
    """Where the contracts are; `block` is the one that holds the last of the three transactions."""

    chain_id: int
    registry: str
    pool: str
    block: int
    deployer: str
    terms: PoolTerms
    sources: dict[str, str]

    def save(self, path: Path) -> None:
        """Write the record as JSON, creating its folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Deployment":
        """Read a record; DeploymentError says what is wrong with the file."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**raw, "terms": PoolTerms(**raw["terms"])})
        except OSError as error:
            raise DeploymentError(f"The record of the deployment {path} cannot be read: {error}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise DeploymentError(
                f"{path} is no record of a deployment ({error}): write it with `fitchain-verifier deploy`"
            ) from error


def deploy(w3: Web3, sender: Signer, *, terms: PoolTerms = DEFAULT_POOL_TERMS) -> Deployment:
    """Deploy a registry and a pool and authorise the pool. DeploymentError names the step that failed.

    The account must not send anything else meanwhile. Takes as long as three transactions need to be mined.
    """
    registry = _create(w3, sender, "Registry")
    pool = _create(
        w3,
        sender,
        "ValidatorPool",
        registry,
        terms.stake_per_slot_wei,
        terms.minimum_share_wei,
        terms.withdrawal_delay_seconds,
        terms.minimum_window_seconds,
    )
    call = Registry(w3, registry).add_pool_call(pool)
    receipt = _send(w3, sender, {"to": call.to, "data": HexBytes(call.data)}, what=call.describe)
    return Deployment(
        chain_id=w3.eth.chain_id,
        registry=registry,
        pool=pool,
        block=receipt["blockNumber"],
        deployer=sender.address,
        terms=terms,
        sources={name: load_artifact(name).source_sha256 for name in ("Registry", "ValidatorPool")},
    )


def _create(w3: Web3, sender: Signer, name: str, *arguments: Any) -> str:
    artifact = load_artifact(name)
    contract = w3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
    data = HexBytes(contract.constructor(*arguments).data_in_transaction)
    receipt = _send(w3, sender, {"data": data}, what=f"deploy the {name}")
    return str(receipt["contractAddress"])


def _send(w3: Web3, sender: Signer, fields: dict[str, Any], *, what: str) -> Any:
    try:
        transaction = {
            **fields,
            **_fees(w3),
            "from": sender.address,
            "value": 0,
            "chainId": w3.eth.chain_id,
            "nonce": w3.eth.get_transaction_count(Web3.to_checksum_address(sender.address), "pending"),
        }
        transaction["gas"] = int(w3.eth.estimate_gas(transaction) * _GAS_MARGIN)  # type: ignore[arg-type]
        sent = w3.eth.send_raw_transaction(sender.sign_transaction(transaction))
        receipt = w3.eth.wait_for_transaction_receipt(sent, timeout=_MINED_WITHIN_SECONDS, poll_latency=0.1)
    except ContractLogicError as error:
        raise DeploymentError(f"Could not {what}: {decode_revert(error)}") from error
    except TimeExhausted as error:
        raise DeploymentError(f"Could not {what}: not mined within {_MINED_WITHIN_SECONDS:.0f} s") from error
    except (Web3Exception, RequestException, OSError) as error:
        raise DeploymentError(f"Could not {what}, the chain's endpoint says: {error}") from error
    if receipt["status"] != 1:
        raise DeploymentError(f"Could not {what}: transaction 0x{sent.hex()} was mined but failed")
    return receipt


def _fees(w3: Web3) -> dict[str, int]:
    """Fees that survive several full blocks; chains without EIP-1559 get their gas price."""
    base = w3.eth.get_block("latest").get("baseFeePerGas")
    if base is None:
        return {"gasPrice": w3.eth.gas_price}
    priority = w3.eth.max_priority_fee
    return {"maxFeePerGas": 2 * base + priority, "maxPriorityFeePerGas": priority}

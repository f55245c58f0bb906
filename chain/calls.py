"""Speaking with the contracts of `chain/contracts`: prepared transactions, reads with errors in words,
artifacts.

A `ContractCall` is what somebody may send; who signs and sends it is none of this module's business
(`chain/outbox.py`). `BoundContract` is the common part of `Registry` and `ValidatorPool`: it refuses at once
if there is no such contract at the address, since a call to an address without code succeeds and does
nothing.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from eth_abi.exceptions import DecodingError
from eth_typing import ChecksumAddress
from eth_utils.abi import collapse_if_tuple
from hexbytes import HexBytes
from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import (
    ContractLogicError,
    InvalidEventABI,
    LogTopicError,
    MismatchedABI,
    Web3Exception,
)
from web3.logs import DISCARD

from chain.errors import CallReverted, ContractMissing, EndpointUnavailable, NotFound, SettingsError
from chain.reverts import decode_revert, revert_reason

_ARTIFACTS = Path(__file__).parent / "artifacts"
_NOT_FOUND = {"unknown challenge", "unknown model"}


@dataclass(frozen=True)
class ContractCall:
    """A transaction to a contract, ready to be signed: `data` is the ABI-encoded call, `describe` says it in
    words.
    """

    to: ChecksumAddress
    data: bytes
    value_wei: int
    describe: str


@dataclass(frozen=True)
class Artifact:
    """A compiled contract: `bytecode` is the creation code without constructor arguments."""

    contract: str
    compiler: str
    source_sha256: str
    abi: tuple[dict[str, Any], ...]
    bytecode: bytes


@cache
def load_artifact(name: str) -> Artifact:
    """Read the committed artifact of a contract (`Registry` or `ValidatorPool`)."""
    raw = json.loads((_ARTIFACTS / f"{name}.json").read_text(encoding="utf-8"))
    return Artifact(
        contract=raw["contract"],
        compiler=raw["compiler"],
        source_sha256=raw["sourceSha256"],
        abi=tuple(raw["abi"]),
        bytecode=bytes.fromhex(raw["bytecode"][2:]),
    )


def checksum_address(value: str, *, what: str) -> ChecksumAddress:
    """Normalise an address; SettingsError names `what` if it is none."""
    try:
        return Web3.to_checksum_address(value)
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{value!r} is no address for {what}: expected 0x and 40 hex digits") from error


class BoundContract:
    """A contract of ours at an address of a chain; reads raise the exceptions of `chain.errors`."""

    contract_name: ClassVar[str]
    setting: ClassVar[str]
    probe: ClassVar[str]  # a view without arguments that only this contract has

    def __init__(self, w3: Web3 | str | None = None, address: str | None = None) -> None:
        """Bind the contract at `address` (None: the configured one) on a chain: a Web3, a URL or None
        (configured).

        Raises ContractMissing if that address holds no such contract, EndpointUnavailable if nobody answers.
        """
        self.w3 = _connected(w3)
        chosen = address or _configured(self.setting)
        if not chosen:
            raise SettingsError(f"no address for the {self.contract_name}: set {self.setting} or pass one")
        self.address = checksum_address(chosen, what=f"the {self.contract_name}")
        self._contract = self.w3.eth.contract(address=self.address, abi=load_artifact(self.contract_name).abi)
        try:
            self._probed = self._read(self.probe)
        except (CallReverted, ContractMissing) as error:
            raise ContractMissing(self._why_missing()) from error

    def _why_missing(self) -> str:
        code = bytes(self.w3.eth.get_code(self.address))
        chain = self.w3.eth.chain_id
        found = "another contract than a" if code else "no contract, but there should be a"
        return (
            f"At {self.address} on chain {chain} is {found} {self.contract_name}: check {self.setting} and "
            f"FITCHAIN_RPC_URL, or deploy the contracts there first"
        )

    def _read(self, view: str, *arguments: Any, block: int | None = None) -> Any:
        """Call a view, at the given block or at the latest one; structs come with the names of their fields.

        Decoded here and not by web3, which makes a class for each struct it meets: a page has a hundred.
        """
        what = f"{self.contract_name}.{view}{arguments}"
        request = {"to": self.address, "data": self._contract.encode_abi(view, args=list(arguments))}
        try:
            data = self.w3.eth.call(request, "latest" if block is None else block)  # type: ignore[arg-type]
            return self._decode(view, bytes(data))
        except ContractLogicError as error:
            reason = revert_reason(error)
            kind = f"{what} at {self.address} was refused: {decode_revert(error)}"
            if reason in _NOT_FOUND:
                raise NotFound(kind) from error
            raise CallReverted(kind, reason=reason) from error
        except DecodingError as error:
            raise ContractMissing(f"{what}: nothing at {self.address} answers this call") from error
        except (Web3Exception, RequestException, OSError) as error:
            raise EndpointUnavailable(f"{what} could not be read from the chain's endpoint: {error}") from error

    def _block_number(self) -> int:
        """The latest block; EndpointUnavailable if nobody answers."""
        try:
            return int(self.w3.eth.block_number)
        except (Web3Exception, RequestException, OSError) as error:
            raise EndpointUnavailable(f"the chain's endpoint does not tell its latest block: {error}") from error

    def _decode(self, view: str, data: bytes) -> Any:
        output = _output_of(self.contract_name, view)
        return _named(output, self.w3.codec.decode([collapse_if_tuple(output)], data)[0])

    def decoded_event(self, log: Any) -> tuple[str, dict[str, Any]] | None:
        """Name and fields of one of this contract's events; None for a log that is none of them."""
        for name in (item["name"] for item in load_artifact(self.contract_name).abi if item["type"] == "event"):
            try:
                return name, dict(self._contract.events[name]().process_log(log)["args"])
            except (MismatchedABI, LogTopicError, InvalidEventABI):
                continue
        return None

    def _logged(self, event: str, transaction: str | bytes, field: str) -> int:
        """A number out of this contract's own event in a mined transaction."""
        receipt = self.w3.eth.get_transaction_receipt(HexBytes(transaction))
        for log in self._contract.events[event]().process_receipt(receipt, errors=DISCARD):
            if log["address"] == self.address:
                return int(log["args"][field])
        raise NotFound(f"Transaction {HexBytes(transaction).to_0x_hex()} logged no {event} of {self.address}")

    def _call(self, function: str, *arguments: Any, describe: str, value_wei: int = 0) -> ContractCall:
        data = self._contract.encode_abi(function, args=list(arguments))
        return ContractCall(to=self.address, data=bytes.fromhex(data[2:]), value_wei=value_wei, describe=describe)


@cache
def _output_of(contract: str, view: str) -> dict[str, Any]:
    entry = next(entry for entry in load_artifact(contract).abi if entry.get("name") == view)
    output: dict[str, Any] = entry["outputs"][0]
    return output


def _named(component: dict[str, Any], value: Any) -> Any:
    """Give a decoded value the names of its ABI component, and addresses their checksum."""
    kind: str = component["type"]
    if kind.endswith("[]"):
        inner = {**component, "type": kind.removesuffix("[]")}
        return [_named(inner, item) for item in value]
    if kind == "tuple":
        fields = component["components"]
        return SimpleNamespace(**{f["name"]: _named(f, v) for f, v in zip(fields, value, strict=True)})
    return Web3.to_checksum_address(value) if kind == "address" else value


def _connected(w3: Web3 | str | None) -> Web3:
    if isinstance(w3, Web3):
        return w3
    from chain.connection import connect
    from chain.settings import ChainSettings

    return connect(ChainSettings.load() if w3 is None else ChainSettings(rpc_url=w3))


def _configured(setting: str) -> str | None:
    from chain.settings import ChainSettings

    value: str | None = getattr(ChainSettings.load(), setting.removeprefix("FITCHAIN_").lower())
    return value

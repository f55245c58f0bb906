"""The life of a challenge as the pool's event log tells it: who did what, in which transaction, when.

For people who look back (the demo, `challenge show`); no decision of a verifier rests on logs, see `chain/owed.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hexbytes import HexBytes
from requests.exceptions import RequestException
from web3.exceptions import Web3Exception

from chain.errors import EndpointUnavailable
from chain.pool import ValidatorPool

FIRST_RANGE_BLOCKS = 1 << 20
SMALLEST_RANGE_BLOCKS = 64

_ACCOUNT_FIELDS = ("verifier", "consumer")


@dataclass(frozen=True)
class ChallengeEvent:
    """One event of a challenge. `account` is the verifier or consumer that it concerns, if there is one.

    `timestamp` is that of its block (unix seconds); `detail` holds the event's other fields by name.
    """

    name: str
    block: int
    timestamp: int
    transaction: str
    account: str | None
    detail: Mapping[str, Any]


def challenge_events(
    pool: ValidatorPool, challenge_id: int, *, from_block: int = 0, to_block: int | None = None
) -> list[ChallengeEvent]:
    """All events of a challenge, oldest first.

    Endpoints limit how many blocks one query may span: a range that is refused is halved, down to 64 blocks.

    Raises:
        EndpointUnavailable: even small ranges are refused, or nobody answers.
    """
    last = pool.w3.eth.block_number if to_block is None else to_block
    # All of the pool's events that concern a challenge have its number as their first indexed field.
    topics = [None, HexBytes(challenge_id.to_bytes(32, "big"))]
    timestamps: dict[int, int] = {}
    found = []
    for log in _logs(pool, topics, from_block, last):
        number = log["blockNumber"]
        if number not in timestamps:
            timestamps[number] = pool.w3.eth.get_block(number)["timestamp"]
        event = _decode(pool, log, timestamps[number])
        if event is not None:
            found.append(event)
    return found


def _logs(pool: ValidatorPool, topics: list[Any], first: int, last: int) -> Iterator[Any]:
    span = FIRST_RANGE_BLOCKS
    while first <= last:
        end = min(last, first + span - 1)
        try:
            logs = pool.w3.eth.get_logs({"address": pool.address, "topics": topics, "fromBlock": first, "toBlock": end})
        except (Web3Exception, RequestException, OSError, ValueError) as error:
            if span <= SMALLEST_RANGE_BLOCKS:
                raise EndpointUnavailable(f"logs of blocks {first} to {end} cannot be read: {error}") from error
            span = max(SMALLEST_RANGE_BLOCKS, span // 2)
            continue
        yield from logs
        first = end + 1


def _decode(pool: ValidatorPool, log: Any, timestamp: int) -> ChallengeEvent | None:
    decoded = pool.decoded_event(log)
    if decoded is None:
        return None
    name, fields = decoded
    account = next((fields[field] for field in _ACCOUNT_FIELDS if field in fields), None)
    return ChallengeEvent(
        name=name,
        block=log["blockNumber"],
        timestamp=timestamp,
        transaction=HexBytes(log["transactionHash"]).to_0x_hex(),
        account=account,
        detail={key: value for key, value in fields.items() if key not in {"challenge", *_ACCOUNT_FIELDS}},
    )

"""Transactions: steps a second through the outbox against a bare loop, and the gas of a settled challenge.

*Steps a second* of one account on a chain that mines each transaction at once, as a worker sends them: simulated,
placed under the account's lock, signed, saved in Redis, handed in, waited for. In turns with it a *bare loop* of the
same transactions that signs and sends with fees, gas and nonce it knows already and saves nothing: once waiting for
each receipt before the next (against one worker), once waiting for the last only (against four workers that share the
account; the goal is 0.8 of its rate). "N of bare" is our rate divided by the loop's.

*Gas* is that of all seven transactions which follow the opening of a challenge with three verifiers who agree (commit,
reveal, settle), sent one by one, and sent in batches of 16 challenges. Gas does not depend on the machine.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Final

from benchmarks.bare_chain import BareChain
from benchmarks.errors import SubjectEnded
from benchmarks.findings import Findings, Options, Table, spread
from benchmarks.measure import Sample, interleaved
from chain import Outbox, RedisOutboxStore, Registry, Terms, ValidatorPool, Verdict, deploy
from chain.calls import ContractCall
from chain.challenges import PoolTerms
from chain.connection import web3_for
from chain.votes import Vote, commitment
from compose.local import LocalStack
from tasks.messages import score_of

ROUNDS: Final = 5
STEPS: Final = 100
WORKERS: Final = 4
BATCH: Final = 16
_DEPLOYER, _CONSUMER, _ONE, _MANY, _BARE = 0, 1, 2, 3, 4
_VERIFIERS = (5, 6, 7)
_STEP_GAS, _OPEN_GAS, _BATCH_GAS = 600_000, 2_000_000, 14_000_000
_SALT = b"\x07" * 32
_VOTE = Vote(Verdict.VALID, score_of(0.675127))
_REPORT = "QmZFwmSaniaqGaw8r7PxYDBkkoTUbTibSsDpRetRrBFMKi"
_SCHEMA = '{"cid":"QmZFwmSaniaqGaw8r7PxYDBkkoTUbTibSsDpRetRrBFMKi"}'
_TERMS = Terms(
    k=3,
    metric="accuracy",
    pass_mark=600_000,
    higher_passes=True,
    tolerance=100,
    commit_seconds=3600,
    reveal_seconds=3600,
)


@dataclass
class Site:
    """A chain with a pool, and a count that makes every step a different one."""

    chain: BareChain
    pool: ValidatorPool
    model: int
    broker_url: str
    _done: int = field(default=0)

    def steps(self, count: int) -> list[ContractCall]:
        """Fresh cheap steps; what they do is no matter, each differs from all before."""
        self._done += count
        return [self.pool.set_minimum_bounty_call(self._done - number) for number in range(count)]


def run(options: Options) -> Findings:
    """Measure the rates, then count the gas."""
    count = 12 if options.quick else STEPS
    with ExitStack() as stack:
        services = stack.enter_context(LocalStack(options.folder / "stack", parts=("broker", "chain")))
        site = _site(services)
        one = stack.enter_context(workers(services, 1, account=_ONE))
        four = stack.enter_context(workers(services, WORKERS, account=_MANY))
        subjects: dict[str, Callable[[], float | None]] = {
            "one worker": lambda: one(site.steps(count)),
            "bare loop, each receipt": lambda: bare(site, count, each=True),
            f"{WORKERS} workers, one account": lambda: four(site.steps(count)),
            "bare loop, last receipt": lambda: bare(site, count, each=False),
        }
        interleaved(1, subjects)  # the first transactions of an account are slower
        samples = interleaved(options.rounds(ROUNDS), subjects)
        gas = {"one by one": gas_of(site, 1), f"batches of {BATCH}": gas_of(site, BATCH)}
    rates = {name: Sample(tuple(count / taken for taken in sample.values)) for name, sample in samples.items()}
    return Findings((_rates(rates, samples, count), _gas(gas)), _figures(rates, gas))


def bare(site: Site, count: int, *, each: bool) -> float:
    """A loop that signs and sends; seconds until everything is mined."""
    signer, calls = site.chain.signer(_BARE), site.steps(count)
    started = time.perf_counter()
    sent = None
    for call in calls:
        sent = site.chain.send(call, signer, gas=_STEP_GAS)
        if each:
            site.chain.receipt(sent)
    if sent is not None:
        site.chain.receipt(sent)
    return time.perf_counter() - started


@contextmanager
def workers(services: LocalStack, count: int, *, account: int) -> Iterator[Callable[[list[ContractCall]], float]]:
    """Processes with an outbox each for one account; yields a function that has them send steps, and its seconds."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        lines: list[Connection] = []
        for _ in range(count):
            here, there = context.Pipe()
            arguments = (there, services.url("chain"), services.url("broker"), account)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            stack.callback(process.join, 10)
            stack.callback(here.send, None)
            lines.append(here)
        for line in lines:
            _answer(line)

        def send(calls: list[ContractCall]) -> float:
            started = time.perf_counter()
            for number, line in enumerate(lines):
                line.send(calls[number::count])
            for line in lines:
                _answer(line)
            return time.perf_counter() - started

        yield send


def _answer(line: Connection) -> None:
    try:
        line.recv()
    except EOFError:
        raise SubjectEnded("a process that sends steps has ended") from None


def _work(line: Connection, chain_url: str, broker_url: str, account: int) -> None:
    """What runs in such a process."""
    signer = BareChain(chain_url).signer(account)
    outbox = Outbox(web3_for(chain_url), signer, RedisOutboxStore(broker_url))
    line.send("ready")
    while (calls := line.recv()) is not None:
        for call in calls:
            outbox.send(call.data.hex(), call)
        line.send("done")


def gas_of(site: Site, batch: int) -> float:
    """Gas of a settled challenge after its opening, sent in batches of so many (1: by the single functions)."""
    pool, chain = site.pool, site.chain
    numbers = []
    for _ in range(batch):
        call = pool.create_challenge_call(site.model, _SCHEMA, _TERMS, 10**6)
        opened = chain.do(call, chain.signer(_CONSUMER), gas=_OPEN_GAS)
        numbers.append(pool.created_challenge(opened["transactionHash"]))
    gas = _STEP_GAS if batch == 1 else _BATCH_GAS
    used = 0
    for index in _VERIFIERS:
        entries = [(number, _commitment(site, number, index)) for number in numbers]
        call = pool.commit_call(*entries[0]) if batch == 1 else pool.commit_many_call(entries)
        used += chain.do(call, chain.signer(index), gas=gas)["gasUsed"]
    votes = [(number, _VOTE.verdict, _VOTE.score, _SALT, _REPORT) for number in numbers]
    for index in _VERIFIERS:
        call = pool.reveal_call(*votes[0]) if batch == 1 else pool.reveal_many_call(votes)
        used += chain.do(call, chain.signer(index), gas=gas)["gasUsed"]
    call = pool.settle_call(numbers[0]) if batch == 1 else pool.settle_many_call(numbers)
    used += chain.do(call, chain.signer(_VERIFIERS[0]), gas=gas)["gasUsed"]
    return used / batch


def _commitment(site: Site, number: int, index: int) -> bytes:
    return commitment(
        chain_id=site.chain.chain_id,
        pool=site.pool.address,
        challenge_id=number,
        verifier=site.chain.signer(index).address,
        vote=_VOTE,
        salt=_SALT,
    )


def _site(services: LocalStack) -> Site:
    chain = BareChain(services.url("chain"))
    terms = PoolTerms(
        stake_per_slot_wei=10**15, minimum_share_wei=1, withdrawal_delay_seconds=60, minimum_window_seconds=5
    )
    deployment = deploy(chain.w3, chain.signer(_DEPLOYER), terms=terms)
    registry, pool = Registry(chain.w3, deployment.registry), ValidatorPool(chain.w3, deployment.pool)
    receipt = chain.do(registry.create_model_call(_SCHEMA), chain.signer(_CONSUMER), gas=_OPEN_GAS)
    for index in _VERIFIERS:
        chain.do(pool.deposit_call(10 * BATCH * 10**15), chain.signer(index), gas=_STEP_GAS)
    model = registry.created_model(receipt["transactionHash"])
    return Site(chain, pool, model, services.url("broker"))


def _pairs(rates: dict[str, Sample]) -> dict[str, float]:
    """Our rates against those of the bare loop that waits as they do."""
    names = list(rates)
    return {ours: rates[ours].median / rates[floor].median for ours, floor in zip(names[::2], names[1::2], strict=True)}


def _figures(rates: dict[str, Sample], gas: dict[str, float]) -> dict[str, float]:
    one, many = _pairs(rates).values()
    single, batched = gas.values()
    return {
        "one_worker_steps_per_second": next(iter(rates.values())).median,
        "one_worker_of_bare": one,
        "four_workers_steps_per_second": list(rates.values())[2].median,
        "four_workers_of_bare": many,
        "gas_single": single,
        "gas_batched": batched,
        "gas_batched_of_single": batched / single,
    }


def _rates(rates: dict[str, Sample], samples: dict[str, Sample], count: int) -> Table:
    pairs = _pairs(rates)
    rows = tuple(
        (
            name,
            f"{rate.median:.0f}/s",
            spread(samples[name]),
            f"{pairs[name]:.2f} of bare" if name in pairs else "",
        )
        for name, rate in rates.items()
    )
    rounds = len(next(iter(rates.values())).values)
    note = f"{rounds} rounds in turns; each floor stands below the row that it is for"
    return Table(f"{count} steps of one account", ("", "rate", f"seconds for {count}", "ratio"), rows, note)


def _gas(gas: dict[str, float]) -> Table:
    single = next(iter(gas.values()))
    rows = tuple((name, f"{used:,.0f}", f"{used / single:.2f}") for name, used in gas.items())
    return Table("Gas of a settled challenge after its opening (k = 3)", ("", "gas", "of single"), rows)

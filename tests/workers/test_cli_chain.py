"""The commands that act on a chain, on a real one: from an empty chain to an open challenge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from web3 import Web3

from chain import Deployment, LocalSigner, ValidatorPool, Verdict, deploy
from chain.votes import Vote, commitment
from tasks.report import Report, ReportedChallenge, ReportedScoring, SignedReport, sign
from tests.evm import MNEMONIC, POOL_TERMS, Evm, anvil, development_signer
from tests.workers.command import Command
from workers.cli.exits import ExitCode

ETHER = 10**18
MODEL = {
    "uuid": "m",
    "type": "keras",
    "input_signature": "cells",
    "format": "h5",
    "location": {"provider": "ipfs", "endpoint": "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD"},
}
DATA = {**MODEL, "uuid": "d", "type": "collection", "format": "csv"}


@pytest.fixture(scope="module")
def evm() -> Iterator[Evm]:
    with anvil() as url:
        yield Evm(url)


@pytest.fixture
def keyless(evm: Evm, tmp_path: Path) -> Command:
    return Command(tmp_path, {"FITCHAIN_RPC_URL": evm.url})


def key_of(index: int) -> str:
    """The public development key of an account of the chain."""
    from eth_account import Account

    Account.enable_unaudited_hdwallet_features()
    return "0x" + bytes(Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}").key).hex()


@pytest.fixture(scope="module")
def contracts(evm: Evm) -> Deployment:
    return deploy(evm.w3, development_signer(0), terms=replace(POOL_TERMS, withdrawal_delay_seconds=3600))


@pytest.fixture
def owner(keyless: Command, contracts: Deployment, evm: Evm) -> Iterator[Command]:
    """The command as account 0, which deployed the contracts; what it does is undone after the test."""
    with evm.undone():
        yield keyless.with_settings(private_key=key_of(0), registry=contracts.registry, pool=contracts.pool)


def acting(command: Command, index: int) -> Command:
    return command.with_settings(private_key=key_of(index))


def staked(owner: Command, count: int = 3) -> list[str]:
    for index in range(1, count + 1):
        assert acting(owner, index)("stake", "deposit", "2eth").code == 0
    return [development_signer(index).address for index in range(1, count + 1)]


def published_model(owner: Command) -> int:
    """A model of account 0, whose schema is stored."""
    path = owner.folder / "weights.h5"
    path.write_bytes(b"hello world")
    done = owner("publish", "--model", path, "--signature", "cells", "--register", "--json")
    assert done.code == 0, done.err
    return int(done.json()[0]["model_id"])


def data_schema(owner: Command, **changes: str) -> Path:
    path = owner.folder / "data.json"
    path.write_text(json.dumps({**DATA, **changes}))
    return path


def test_deploy_writes_its_record_and_says_what_to_export(keyless: Command, evm: Evm) -> None:
    done = keyless.with_settings(private_key=key_of(0))("deploy", "--out", "there/record.json")
    assert done.code == 0, done.err
    lines = dict(line.removeprefix("export ").split("=") for line in done.out.splitlines())
    record = json.loads((keyless.folder / "there/record.json").read_text())
    assert lines == {"FITCHAIN_REGISTRY": record["registry"], "FITCHAIN_POOL": record["pool"]}
    assert ValidatorPool(evm.w3, record["pool"]).registry_address == record["registry"]


def test_the_road_of_a_challenge(owner: Command, evm: Evm) -> None:
    verifiers = staked(owner)
    model = published_model(owner)
    consumer = acting(owner, 5)
    terms = ("--model", model, "--data", data_schema(owner), "--pass-mark", "0.9", "--bounty", "0.3eth")

    dry = consumer("challenge", "create", *terms, "--dry-run")
    assert (dry.code, dry.out) == (0, "")
    assert consumer("challenge", "list", "--json").json() == []

    created = consumer("challenge", "create", *terms, "--k", "3", "--commit", "20m", "--reveal", "5m", "--json")
    assert created.code == 0, created.err
    challenge = created.json()
    assert challenge["bounty_wei"] == str(3 * ETHER // 10)
    assert challenge["terms"]["pass_mark"] == 900_000
    assert challenge["terms"]["higher_passes"] is True
    assert (challenge["terms"]["commit_seconds"], challenge["terms"]["reveal_seconds"]) == (1200, 300)
    assert sorted(challenge["verifiers"]) == sorted(verifiers)

    number = challenge["challenge_id"]
    shown = consumer("challenge", "show", number, "--json").json()
    assert [vote["committed"] for vote in shown["votes"]] == [False] * 3
    assert shown["phase"] == "commit"

    _vote(evm, owner.settings["FITCHAIN_POOL"], number, verifiers)
    settled = consumer("challenge", "show", number)
    assert settled.code == 0
    for expected in ("settled", "valid, passed", "0.950000", "0.1 ETH", "QmReport", *verifiers):
        assert expected in settled.out
    assert consumer("challenge", "list", "--open", "--json").json() == []
    assert len(consumer("challenge", "list", "--mine", "--json").json()) == 1
    assert acting(owner, 9)("challenge", "list", "--mine", "--json").json() == []
    assert "valid, passed" in consumer("challenge", "list").out

    paid = acting(owner, 1)("stake", "withdraw", "--json")
    assert paid.code == 0
    assert paid.json()["account"]["credit_wei"] == "0"


def test_what_the_pool_would_refuse_is_not_sent(owner: Command, evm: Evm) -> None:
    model = published_model(owner)
    before = evm.w3.eth.block_number
    done = acting(owner, 5)(
        "challenge",
        "create",
        "--model",
        model,
        "--data",
        data_schema(owner),
        "--pass-mark",
        "0.9",
        "--bounty",
        "1eth",
    )
    assert done.code == ExitCode.CHAIN_REFUSED
    assert "too few eligible verifiers" in done.err
    assert "offer a higher bounty" in done.err
    assert evm.w3.eth.block_number == before


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"input_signature": "other"}, ExitCode.BAD_INPUT, "input_signature"),
        ({"type": ""}, ExitCode.BAD_INPUT, "type"),
    ],
)
def test_a_pair_that_no_verifier_could_use_is_refused_before_money_is_spent(
    owner: Command, changes: dict[str, str], code: ExitCode, words: str
) -> None:
    model = published_model(owner)
    done = owner(
        *("challenge", "create", "--model", model, "--data", data_schema(owner, **changes)),
        *("--pass-mark", "0.9", "--bounty", "1eth"),
    )
    assert done.code == code
    assert words in done.err


def test_a_model_that_is_not_there(owner: Command) -> None:
    done = owner(
        "challenge",
        "create",
        "--model",
        99,
        "--data",
        data_schema(owner),
        "--pass-mark",
        "1",
        "--bounty",
        "1eth",
    )
    assert done.code == ExitCode.BAD_INPUT
    assert "unknown model" in done.err


def test_a_challenge_that_is_not_there(owner: Command) -> None:
    assert owner("challenge", "show", 99).code == ExitCode.BAD_INPUT


def test_stake_in_and_out(owner: Command, evm: Evm) -> None:
    verifier = acting(owner, 7)
    address = development_signer(7).address
    done = verifier("stake", "deposit", "3eth", "--minimum-bounty", "0.05eth", "--json")
    assert done.code == 0, done.err
    assert done.json()["account"]["stake_wei"] == str(3 * ETHER)
    assert done.json()["account"]["minimum_bounty_wei"] == str(5 * ETHER // 100)
    assert done.json()["account"]["slots"] == 3
    assert len(done.json()["transactions"]) == 2

    assert verifier("stake", "minimum", "0.02eth").code == 0
    assert verifier("stake", "withdraw", "2eth").code == 0
    early = verifier("stake", "withdraw")
    assert early.code == ExitCode.CHAIN_REFUSED
    assert "can be taken in" in early.err
    evm.move_to(evm.now() + 3601)
    assert verifier("stake", "withdraw").code == 0
    shown = verifier("stake", "show", "--json").json()
    assert [one["address"] for one in shown] == [address]
    assert shown[0]["stake_wei"] == str(ETHER)
    assert shown[0]["minimum_bounty_wei"] == str(2 * ETHER // 100)
    assert address in verifier("stake", "show").out

    too_much = verifier("stake", "withdraw", "5eth")
    assert too_much.code == ExitCode.CHAIN_REFUSED
    assert "free stake" in too_much.err


def test_more_than_the_account_has(owner: Command) -> None:
    done = owner("stake", "deposit", "1000000eth")
    assert done.code == ExitCode.CHAIN_REFUSED
    assert "funds" in done.err.lower()


def test_a_new_keyfile_signs_and_its_wrong_password_does_not(owner: Command, evm: Evm) -> None:
    folder = owner.folder
    (folder / "password").write_text("correct horse\n")
    (folder / "wrong").write_text("battery staple\n")
    (folder / "password").chmod(0o600)
    made = owner("keystore", "new", "keys/verifier.json", "--password-file", "password", "--json")
    assert made.code == 0, made.err
    address = made.json()["address"]
    assert (folder / "keys/verifier.json").stat().st_mode & 0o077 == 0
    assert owner("keystore", "new", "keys/verifier.json", "--password-file", "password").code == ExitCode.CONFIGURATION

    evm.rpc("anvil_setBalance", address, hex(5 * ETHER))
    keyed = owner.with_settings(private_key="", keystore=str(folder / "keys/verifier.json"))
    good = keyed.with_settings(keystore_password_file=str(folder / "password"))
    deposited = good("stake", "deposit", "1eth", "--json")
    assert deposited.code == 0, deposited.err
    assert deposited.json()["account"]["address"] == address

    bad = keyed.with_settings(keystore_password_file=str(folder / "wrong"))("stake", "deposit", "1eth")
    assert bad.code == ExitCode.CONFIGURATION
    assert "password" in bad.err
    assert "battery staple" not in bad.err


def test_contracts_that_are_not_there(owner: Command) -> None:
    done = owner.with_settings(pool=development_signer(8).address)("challenge", "list")
    assert done.code == ExitCode.CONFIGURATION
    assert "no contract" in done.err
    assert "fitchain-verifier deploy" in done.err


def test_no_pool_is_configured(keyless: Command) -> None:
    done = keyless("challenge", "list")
    assert done.code == ExitCode.CONFIGURATION
    assert "FITCHAIN_POOL" in done.err


def test_no_key(owner: Command) -> None:
    done = owner.with_settings(private_key="")("stake", "deposit", "1eth")
    assert done.code == ExitCode.CONFIGURATION
    assert "FITCHAIN_KEYSTORE" in done.err


def test_several_keys_need_a_choice(owner: Command) -> None:
    both = owner.with_settings(private_key=f"{key_of(2)},{key_of(3)}")
    undecided = both("stake", "minimum", "1gwei")
    assert undecided.code == ExitCode.CONFIGURATION
    assert development_signer(3).address in undecided.err
    chosen = both("stake", "minimum", "1gwei", "--account", development_signer(3).address.lower(), "--json")
    assert chosen.json()["account"]["address"] == development_signer(3).address
    assert both("stake", "minimum", "1gwei", "--account", development_signer(4).address).code == ExitCode.CONFIGURATION


def test_a_key_that_is_none_is_not_shown(owner: Command) -> None:
    done = owner.with_settings(private_key="0xgeheim")("stake", "deposit", "1eth")
    assert done.code == ExitCode.CONFIGURATION
    assert "geheim" not in done.err + done.out


def test_a_chain_that_is_down(owner: Command) -> None:
    done = owner.with_settings(rpc_url="http://user:geheim@127.0.0.1:9")("challenge", "list")
    assert done.code == ExitCode.UNREACHABLE
    assert "127.0.0.1:9" in done.err
    assert "geheim" not in done.err


def test_another_chain_than_expected(owner: Command) -> None:
    done = owner.with_settings(chain_id="1")("challenge", "list")
    assert done.code == ExitCode.CONFIGURATION
    assert "31337" in done.err


def test_a_signed_report_is_held_to_its_signature_and_to_the_chain(owner: Command, evm: Evm) -> None:
    verifiers = staked(owner)
    model = published_model(owner)
    number = acting(owner, 5)(
        *("challenge", "create", "--model", model, "--data", data_schema(owner)),
        *("--pass-mark", "0.9", "--bounty", "0.3eth", "--json"),
    ).json()["challenge_id"]
    signed = _report(evm, owner.settings["FITCHAIN_POOL"], number, score=950_000)
    (owner.folder / "report.json").write_bytes(signed.to_bytes())
    cid = owner("publish", "report.json", "--json").json()[0]["cid"]

    early = owner("report", "verify", cid, "--on-chain", "--json")
    assert early.code == ExitCode.NEGATIVE
    assert "has not revealed" in early.json()["problems"][0]
    _vote(evm, owner.settings["FITCHAIN_POOL"], number, verifiers, report_cid=cid)
    good = owner("report", "verify", cid, "--on-chain", "--json")
    assert good.code == 0, good.out
    assert good.json()["verifier"] == development_signer(1).address

    other = _report(evm, owner.settings["FITCHAIN_POOL"], number, score=940_000)
    (owner.folder / "other.json").write_bytes(other.to_bytes())
    assert owner("report", "verify", "other.json").code == 0
    against = owner("report", "verify", "other.json", "--on-chain")
    assert against.code == ExitCode.NEGATIVE
    assert "on chain the score is 950000" in against.out

    raw = json.loads(signed.to_bytes())
    raw["report"]["score"] = 990_000
    (owner.folder / "forged.json").write_text(json.dumps(raw))
    forged = owner("report", "verify", "forged.json")
    assert forged.code == ExitCode.NEGATIVE
    assert "signature" in forged.out


def _report(evm: Evm, pool: str, number: int, *, score: int) -> SignedReport:
    """A report of verifier 1 that says nothing but its score."""
    signer = development_signer(1)
    report = Report(
        job_id="job",
        created_at="2026-01-01T00:00:00Z",
        software="test",
        challenge=ReportedChallenge(
            chain_id=evm.chain_id, pool=pool, challenge_id=number, model_id=1, verifier=signer.address
        ),
        scoring=ReportedScoring(metric="accuracy", pass_mark=900_000, higher_passes=True, tolerance=100),
        verdict="valid",
        score=score,
    )
    return sign(report, signer)


def _vote(evm: Evm, pool_address: str, number: int, verifiers: list[str], *, report_cid: str = "QmReport") -> None:
    """Everybody votes 0.95, and it is settled."""
    pool = ValidatorPool(evm.w3, Web3.to_checksum_address(pool_address))
    vote, salt = Vote(Verdict.VALID, 950_000), b"\1" * 32
    for verifier in verifiers:
        hashed = commitment(
            chain_id=evm.chain_id,
            pool=pool.address,
            challenge_id=number,
            verifier=verifier,
            vote=vote,
            salt=salt,
        )
        evm.send(pool.commit_call(number, hashed), verifier)
    for verifier in verifiers:
        evm.send(pool.reveal_call(number, vote.verdict, vote.score, salt, report_cid), verifier)
    evm.send(pool.settle_call(number), verifiers[0])


def test_the_key_is_that_of_the_account() -> None:
    assert LocalSigner.from_key(key_of(3)).address == development_signer(3).address

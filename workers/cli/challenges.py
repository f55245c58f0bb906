"""The group `challenge`: opening one, and looking at those there are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.errors import bad_input
from workers.cli.options import (
    AccountOption,
    AsJson,
    LowerPassesOption,
    MetricOption,
    amount,
    duration,
    examples,
    score,
)
from workers.cli.values import format_amount, format_duration, format_score, short_address

if TYPE_CHECKING:
    from chain import Challenge, Terms, VoteView
    from workers.cli.parts import ChainParts

group = typer.Typer(name="challenge", no_args_is_help=True, help="Challenges: create, list, show.")


@group.command(
    epilog=examples(
        "fitchain-verifier challenge create --model 1 --data data.json --pass-mark 0.9 --bounty 0.3eth",
        "fitchain-verifier challenge create --model 1 --data QmDataSchema --metric log_loss --pass-mark 1.5"
        " --bounty 0.5eth --k 5 --commit 1h --reveal 30m",
    )
)
def create(
    model: Annotated[int, typer.Option("--model", min=1, metavar="ID", help="The model's number in the registry.")],
    data: Annotated[
        str,
        typer.Option("--data", help="The data set's schema: a JSON file (it is published), or the CID of the JSON."),
    ],
    bounty: Annotated[
        int,
        typer.Option(
            "--bounty",
            parser=amount,
            metavar="AMOUNT",
            help="What the k verifiers share, for example 0.3eth.",
        ),
    ],
    pass_mark: Annotated[
        int,
        typer.Option("--pass-mark", parser=score, metavar="NUMBER", help="The value that the metric should reach."),
    ],
    metric: MetricOption = "accuracy",
    lower_passes: LowerPassesOption = None,
    k: Annotated[int, typer.Option("--k", min=1, max=15, help="How many verifiers judge; odd.")] = 3,
    tolerance: Annotated[
        int, typer.Option("--tolerance", min=0, help="How far honest scores may be apart, in units of 1e-6.")
    ] = 100,
    commit: Annotated[
        int,
        typer.Option("--commit", parser=duration, metavar="DURATION", help="Time to fetch, evaluate and commit."),
    ] = "10m",  # type: ignore[assignment] # typer parses defaults as well
    reveal: Annotated[
        int, typer.Option("--reveal", parser=duration, metavar="DURATION", help="Time to reveal.")
    ] = "10m",  # type: ignore[assignment]
    check: Annotated[
        bool,
        typer.Option("--check/--no-check", help="Refuse schemas that no verifier could use, before money is spent."),
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say whether the pool would take it.")] = False,
    account: AccountOption = None,
    as_json: AsJson = False,
) -> None:
    """Open a challenge: the pool draws k verifiers, and the bounty is theirs if they agree.

    It is simulated first; what the pool would refuse is not sent.
    """
    from chain import Terms
    from workers.cli.output import emit, note, out, stages
    from workers.cli.parts import ChainParts
    from workers.cli.schemas import higher_passes, metric_name

    if k % 2 == 0:
        raise typer.BadParameter("the number of verifiers is odd, so that a majority exists", param_hint="--k")
    parts = ChainParts.load()
    signer = parts.signer(account)
    name = metric_name(metric)
    terms = Terms(
        k=k,
        metric=name,
        pass_mark=pass_mark,
        higher_passes=higher_passes(name, lower_passes),
        tolerance=tolerance,
        commit_seconds=commit,
        reveal_seconds=reveal,
    )
    with stages("Looking at the model") as live:
        schema = _data_schema(parts, model, data, check=check)
        call = parts.pool.create_challenge_call(model, schema, terms, bounty)
        live.begin("Simulating")
        if dry_run:
            parts.simulate(signer, call)
            note("The pool would take it. Nothing was sent.")
            return
        live.begin(f"Opening the challenge from {signer.address}")
        receipt = parts.send(signer, call)
        number = parts.pool.created_challenge(receipt.transaction)
        opened = parts.pool.challenge(number)
    if as_json:
        emit(_document(opened, []) | {"transaction": receipt.transaction, "gas_used": receipt.gas_used})
        return
    out().print(f"Challenge {number} is open: {len(opened.verifiers)} verifiers share {format_amount(bounty)}.")
    note(f"Transaction {receipt.transaction}. Watch it: fitchain-verifier challenge show {number}")


@group.command(
    "list",
    epilog=examples("fitchain-verifier challenge list --open", "fitchain-verifier challenge list --mine --json"),
)
def list_(
    only_open: Annotated[bool, typer.Option("--open", help="Only those that are not settled.")] = False,
    mine: Annotated[bool, typer.Option("--mine", help="Only those that your accounts opened or judge.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many to look at, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List challenges, newest first."""
    from workers.cli.output import emit, out, plain_table, stages
    from workers.cli.parts import ChainParts

    parts = ChainParts.load()
    own = {address.lower() for address in parts.addresses()} if mine else set()
    with stages("Reading challenges"):
        last = parts.pool.number_of_challenges()
        found = [parts.pool.challenge(number) for number in range(last, max(0, last - limit), -1)]
        now = parts.now()
    if only_open:
        found = [one for one in found if not one.settled]
    if mine:
        found = [one for one in found if own & {one.consumer.lower(), *(v.lower() for v in one.verifiers)}]
    if as_json:
        emit([_document(one, None) for one in found])
        return
    table = plain_table(
        "challenge>",
        "model>",
        "metric",
        "mark>",
        "bounty>",
        "votes>",
        "phase",
        "verdict",
        "score>",
        "consumer",
    )
    for one in found:
        table.add_row(*_row(one, now))
    out().print(table if found else "There are no such challenges.")


@group.command(
    epilog=examples("fitchain-verifier challenge show 7", "fitchain-verifier challenge show 7 --json | jq .votes")
)
def show(
    number: Annotated[int, typer.Argument(metavar="ID", min=1, help="The challenge's number.")],
    as_json: AsJson = False,
) -> None:
    """Show everything about a challenge: terms, phase, votes, payouts, reports."""
    from workers.cli.output import emit, facts_table, out
    from workers.cli.parts import ChainParts

    parts = ChainParts.load()
    challenge, votes = parts.pool.challenge(number), parts.pool.votes(number)
    if as_json:
        emit(_document(challenge, votes))
        return
    out().print(facts_table(_facts(challenge, parts.now()), title=f"Challenge {number}"))
    out().print(_votes_table(votes, settled=challenge.settled))


def _data_schema(parts: ChainParts, model: int, data: str, *, check: bool) -> str:
    """The data schema as the chain gets it: a CID. A schema given as a file is published first.

    Raises:
        CommandError, StorageError: no verifier could use it with this model.
    """
    from storage import IPFS, Content, DataSchema, ModelSchema, StorageSettings, check_pair
    from tasks.fetching import resolve_schema
    from workers.cli.schemas import schema_argument

    text = schema_argument(data, "data")
    settings = StorageSettings()
    if check:
        content = Content.from_settings(settings)
        published = parts.registry.model(model)
        check_pair(resolve_schema(published.schema, ModelSchema, content), resolve_schema(text, DataSchema, content))
    if not text.startswith("{"):
        return text
    from storage.canonical import strict_json

    try:
        return str(IPFS(settings=settings).store_object(strict_json(text)))
    except ValueError as error:
        raise bad_input(f"The data schema is no JSON: {error}") from error


def _document(challenge: Challenge, votes: list[VoteView] | None) -> dict[str, Any]:
    from workers.cli.output import jsonable

    body: dict[str, Any] = jsonable(challenge)
    if votes is not None:
        body["votes"] = [jsonable(vote) for vote in votes]
    return body


def _row(challenge: Challenge, now: float) -> tuple[str, ...]:
    settled = challenge.settled
    return (
        str(challenge.challenge_id),
        str(challenge.model_id),
        challenge.terms.metric,
        _mark(challenge.terms),
        format_amount(challenge.bounty_wei),
        f"{challenge.reveals}/{challenge.commits}/{challenge.terms.k}",
        _phase(challenge, now),
        _outcome(challenge) if settled else "",
        format_score(challenge.score) if settled and challenge.verdict == 1 else "",
        short_address(challenge.consumer),
    )


def _facts(challenge: Challenge, now: float) -> list[tuple[str, str]]:
    terms = challenge.terms
    opened = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(challenge.created_at))
    facts = [
        ("model", str(challenge.model_id)),
        ("data schema", challenge.data_schema),
        (
            "terms",
            f"{terms.metric} {_mark(terms)}, tolerance {format_score(terms.tolerance)}, {terms.k} verifiers",
        ),
        (
            "bounty",
            f"{format_amount(challenge.bounty_wei)} ({format_amount(challenge.share_wei)} each)",
        ),
        ("opened", f"{opened} by {challenge.consumer}"),
        ("phase", _phase(challenge, now)),
        ("votes", f"{challenge.commits} committed, {challenge.reveals} revealed, of {terms.k}"),
    ]
    if challenge.settled:
        facts.append(("verdict", _outcome(challenge)))
        if challenge.verdict == 1:
            facts.append(("score", f"{challenge.score} ({terms.metric} {format_score(challenge.score)})"))
        facts.append(("payout", f"{format_amount(challenge.payout_wei)} to each who agreed"))
    return facts


def _mark(terms: Terms) -> str:
    return f"{'≥' if terms.higher_passes else '≤'} {format_score(terms.pass_mark)}"


def _outcome(challenge: Challenge) -> str:
    if challenge.verdict == 0:
        return "undecided"
    name = challenge.verdict.name.lower()
    return f"{name}, {'passed' if challenge.passed else 'missed'}" if challenge.verdict == 1 else name


def _phase(challenge: Challenge, now: float) -> str:
    """The phase, with the time that is left in it."""
    from chain import Phase
    from chain.challenges import phase_at

    if challenge.settled:
        return "settled"
    phase = phase_at(
        now,
        k=challenge.terms.k,
        commits=challenge.commits,
        reveals=challenge.reveals,
        commit_deadline=challenge.commit_deadline,
        reveal_deadline=challenge.reveal_deadline,
    )
    if phase is Phase.SETTLE:
        return "settlement due"
    deadline = challenge.commit_deadline if phase is Phase.COMMIT else challenge.reveal_deadline
    return f"{phase.name.lower()}, {format_duration(deadline - now)} left"


def _votes_table(votes: list[VoteView], *, settled: bool) -> Any:
    from workers.cli.output import plain_table

    table = plain_table("verifier", "vote", "score>", "payout>", "slashed>", "report")
    for vote in votes:
        if vote.revealed:
            stands, figure = vote.verdict.name.lower(), format_score(vote.score) if vote.verdict == 1 else ""
        else:
            stands, figure = ("committed" if vote.committed else "silent" if settled else "not yet"), ""
        money = (format_amount(vote.payout_wei), format_amount(vote.slashed_wei)) if settled else ("", "")
        table.add_row(vote.verifier, stands, figure, *money, vote.report_cid)
    return table

"""The group `stake`: a verifier's deposit, its price, and its money back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.errors import CommandError
from workers.cli.exits import ExitCode
from workers.cli.options import AccountOption, AsJson, amount, examples
from workers.cli.values import format_amount, format_duration

if TYPE_CHECKING:
    from chain import ContractCall, Receipt, Signer, VerifierAccount
    from workers.cli.parts import ChainParts

group = typer.Typer(name="stake", no_args_is_help=True, help="A verifier's stake: deposit, price, withdraw, show.")

AmountArgument = Annotated[int, typer.Argument(parser=amount, metavar="AMOUNT", help="For example 1eth or 250gwei.")]


@group.command(epilog=examples("fitchain-verifier stake deposit 1eth --minimum-bounty 0.01eth"))
def deposit(
    wei: AmountArgument,
    minimum_bounty: Annotated[
        int | None,
        typer.Option(
            parser=amount, metavar="AMOUNT", help="Set the least share first, so that no cheap work is drawn."
        ),
    ] = None,
    account: AccountOption = None,
    as_json: AsJson = False,
) -> None:
    """Add to the stake: whoever has a free slot may be drawn from then on."""
    parts, signer = _parts(account)
    receipts = []
    if minimum_bounty is not None:
        receipts.append(_send(parts, signer, parts.pool.set_minimum_bounty_call(minimum_bounty)))
    receipts.append(_send(parts, signer, parts.pool.deposit_call(wei)))
    _report(parts, signer, receipts, f"Deposited {format_amount(wei)}.", as_json)


@group.command(epilog=examples("fitchain-verifier stake minimum 0.01eth"))
def minimum(wei: AmountArgument, account: AccountOption = None, as_json: AsJson = False) -> None:
    """Set the price: the least share of a bounty for which the account may be drawn."""
    parts, signer = _parts(account)
    receipt = _send(parts, signer, parts.pool.set_minimum_bounty_call(wei))
    _report(parts, signer, [receipt], f"The minimum bounty is {format_amount(wei)} now.", as_json)


@group.command(
    epilog=examples(
        "fitchain-verifier stake withdraw 0.5eth   (asks for it)",
        "fitchain-verifier stake withdraw   (takes it)",
    )
)
def withdraw(
    wei: Annotated[
        int | None,
        typer.Argument(
            parser=amount, metavar="[AMOUNT]", help="How much stake to ask back. Without: take what is due."
        ),
    ] = None,
    account: AccountOption = None,
    as_json: AsJson = False,
) -> None:
    """Ask for stake back (with AMOUNT), or take earnings and what has matured (without).

    Stake that is asked back leaves the drawing at once and can be taken after the pool's delay.
    """
    parts, signer = _parts(account)
    if wei is not None:
        receipt = _send(parts, signer, parts.pool.request_withdrawal_call(wei))
        due = parts.pool.verifier(signer.address).withdrawable_at
        left = format_duration(max(0.0, due - parts.now()))
        _report(
            parts,
            signer,
            [receipt],
            f"Asked for {format_amount(wei)}; take it in {left} by `stake withdraw`.",
            as_json,
        )
        return
    due_wei = parts.pool.withdrawable(signer.address)
    if due_wei == 0:
        raise CommandError(
            f"Nothing is due to {signer.address} now.",
            code=ExitCode.CHAIN_REFUSED,
            hint=_pending(parts, signer),
        )
    receipt = _send(parts, signer, parts.pool.withdraw_call())
    _report(parts, signer, [receipt], f"Withdrew {format_amount(due_wei)}.", as_json)


@group.command(epilog=examples("fitchain-verifier stake show", "fitchain-verifier stake show 0xAbc… --json"))
def show(
    address: Annotated[
        str | None, typer.Argument(metavar="[ADDRESS]", help="Whose stake. Default: your own accounts.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show stake, slots, price and what can be withdrawn."""
    from workers.cli.errors import misconfigured
    from workers.cli.output import emit, jsonable, out, plain_table
    from workers.cli.parts import ChainParts

    parts = ChainParts.load()
    addresses = (_address(address),) if address is not None else parts.addresses()
    if not addresses:
        raise misconfigured(
            "There is no account to show.", "Give an address, or set FITCHAIN_ACCOUNTS or FITCHAIN_KEYSTORE."
        )
    accounts = [parts.pool.verifier(one) for one in addresses]
    due = [parts.pool.withdrawable(one) for one in addresses]
    if as_json:
        emit(
            [
                {**jsonable(account), "address": address, "withdrawable_wei": str(wei)}
                for address, account, wei in zip(addresses, accounts, due, strict=True)
            ]
        )
        return
    table = plain_table(
        "account", "stake>", "locked>", "asked back>", "due now>", "free slots>", "open>", "minimum bounty>"
    )
    for one, account, wei in zip(addresses, accounts, due, strict=True):
        table.add_row(one, *_cells(account, wei))
    out().print(table)


def _cells(account: VerifierAccount, due_wei: int) -> tuple[str, ...]:
    return (
        format_amount(account.stake_wei),
        format_amount(account.locked_wei),
        format_amount(account.pending_withdrawal_wei),
        format_amount(due_wei),
        str(account.slots),
        str(account.active),
        format_amount(account.minimum_bounty_wei),
    )


def _address(text: str) -> str:
    from web3 import Web3

    if not Web3.is_address(text):
        raise typer.BadParameter(f"{text!r} is no address: write 0x and 40 hexadecimal digits")
    return str(Web3.to_checksum_address(text))


def _parts(account: str | None) -> tuple[ChainParts, Signer]:
    from workers.cli.parts import ChainParts

    parts = ChainParts.load()
    return parts, parts.signer(account)


def _send(parts: ChainParts, signer: Signer, call: ContractCall) -> Receipt:
    from workers.cli.output import stages

    with stages(f"{call.describe[0].upper()}{call.describe[1:]}, from {signer.address}"):
        return parts.send(signer, call)


def _pending(parts: ChainParts, signer: Signer) -> str:
    account = parts.pool.verifier(signer.address)
    if account.pending_withdrawal_wei == 0:
        return "Ask for stake back first: `fitchain-verifier stake withdraw AMOUNT`."
    left = format_duration(max(0.0, account.withdrawable_at - parts.now()))
    return f"{format_amount(account.pending_withdrawal_wei)} of stake can be taken in {left}."


def _report(parts: ChainParts, signer: Signer, receipts: list[Receipt], sentence: str, as_json: bool) -> None:
    from workers.cli.output import emit, jsonable, out

    account = parts.pool.verifier(signer.address)
    if as_json:
        sent: list[dict[str, Any]] = [
            {"transaction": receipt.transaction, "block": receipt.block, "gas_used": receipt.gas_used}
            for receipt in receipts
        ]
        emit({"account": jsonable(account), "transactions": sent})
        return
    out().print(f"{sentence} {signer.address} has a stake of {format_amount(account.stake_wei)}, "
                f"{account.slots} free slots.", markup=False)  # fmt: skip

"""Settings of the package `chain`: endpoints, contracts, keys, fees.

Nothing else in it reads the environment.

Each field is the environment variable `FITCHAIN_<FIELD>` (an empty value counts as not set, as compose
files produce them). Values that may carry a secret are kept out of `repr()` and out of validation errors.
"""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Self

from eth_utils.address import is_checksum_address, is_hex_address, to_checksum_address
from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from chain.errors import SettingsError

GWEI_WEI = 10**9


def _address(value: str) -> str:
    """Checksum form of an address; mixed case is held to its checksum, so that a typing error is caught."""
    if not value:
        return ""
    mixed = value[2:] not in (value[2:].lower(), value[2:].upper())
    if not is_hex_address(value) or (mixed and not is_checksum_address(value)):
        raise ValueError("is no address: write 0x and 40 hexadecimal digits, in mixed case with a correct checksum")
    return to_checksum_address(value)


def _expanded(value: Path) -> Path:
    return value.expanduser()


Address = Annotated[str, AfterValidator(_address)]
UserPath = Annotated[Path, AfterValidator(_expanded)]


class ChainSettings(BaseSettings):
    """How to reach the chain, which contracts to speak to, and with which accounts."""

    model_config = SettingsConfigDict(
        env_prefix="FITCHAIN_",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    rpc_url: str = Field(
        default="http://127.0.0.1:8545",
        repr=False,
        description="HTTP endpoints of the chain, separated by commas; the first healthy one is used.",
    )
    chain_id: int | None = Field(
        default=None,
        gt=0,
        description="Chain id that endpoints must serve; unset: whatever the first healthy one serves.",
    )
    registry: Address = Field(default="", description="Address of the Registry contract.")
    pool: Address = Field(default="", description="Address of the ValidatorPool contract.")
    keystore: UserPath | None = Field(
        default=None,
        description="Encrypted keyfile (keystore v3), or a folder of them. For submit workers only.",
    )
    keystore_password_file: UserPath | None = Field(
        default=None,
        description="File with the password of all keyfiles but those with a <keyfile>.password beside them.",
    )
    private_key: SecretStr | None = Field(
        default=None, description="Development only: private keys in hexadecimal, separated by commas."
    )
    journal: UserPath = Field(
        default=Path("~/.local/share/fitchain/journal.sqlite"),
        validate_default=True,
        description="SQLite file that keeps each vote and its report until its challenge is settled.",
    )
    outbox_url: str = Field(
        default="",
        repr=False,
        description="Redis that keeps signed transactions for all submit workers; unset: the broker, or for "
        "a single command its memory.",
    )
    max_fee_gwei: Decimal = Field(
        default=Decimal(200),
        gt=0,
        description="Most that is ever offered per unit of gas, tip included, in gwei.",
    )
    replace_seconds: float = Field(
        default=45.0,
        gt=0,
        description="A transaction that is not mined after this long is sent again with a higher fee.",
    )
    receipt_seconds: float = Field(
        default=300.0,
        gt=0,
        description="How long one attempt waits for a receipt before the step is retried later.",
    )
    confirmations: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Blocks, its own included, that must hold a transaction before it counts.",
    )
    rpc_timeout_seconds: float = Field(default=20.0, gt=0, description="Longest wait for one answer of an endpoint.")

    @field_validator("rpc_url")
    @classmethod
    def _has_endpoints(cls, value: str) -> str:
        endpoints = _split(value)
        if not endpoints:
            raise ValueError("names no endpoint: write for example http://127.0.0.1:8545")
        if not all(endpoint.startswith(("http://", "https://")) for endpoint in endpoints):
            raise ValueError("must hold URLs that begin with http:// or https://, separated by commas")
        return ",".join(endpoints)

    @classmethod
    def load(cls) -> Self:
        """Settings of the environment.

        Raises SettingsError, which names each bad variable but shows no value.
        """
        try:
            return cls()
        except ValidationError as error:
            problems = [
                f"FITCHAIN_{str(item['loc'][0]).upper()}: {item['msg'].removeprefix('Value error, ')}"
                for item in error.errors(include_input=False, include_url=False, include_context=False)
            ]
            raise SettingsError("Settings that cannot be used. " + "; ".join(problems)) from None

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The URLs of `rpc_url`, in order of preference.

        They may hold credentials: print `redact(url)` instead.
        """
        return tuple(_split(self.rpc_url))

    @property
    def max_fee_wei(self) -> int:
        """Cap on the price of a unit of gas, in wei."""
        return int(self.max_fee_gwei * GWEI_WEI)

    @property
    def has_keys(self) -> bool:
        """True if a signing key is configured (workers that meet strangers' files refuse to start with
        one).
        """
        return self.keystore is not None or self.private_key is not None


def _split(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]

"""Settings of the processes: dispatcher, workers and Flower. What a task needs is in `tasks.settings`."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class WorkersSettings(BaseSettings):
    """Read from `FITCHAIN_*` environment variables."""

    model_config = SettingsConfigDict(env_prefix="FITCHAIN_", env_ignore_empty=True, extra="ignore")

    accounts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Verifier accounts that the dispatcher serves: addresses, separated by commas."
    )
    tick_seconds: float = Field(4.0, gt=0, description="How often the dispatcher reads the chain, in seconds.")
    leader_seconds: float = Field(
        10.0, ge=1, description="After so many silent seconds of the active dispatcher a stand-by takes over."
    )
    commit_reserve_seconds: float = Field(
        60.0,
        ge=0,
        description="Time kept for the commit: evaluation must end so long before the commit deadline, else the vote"
        " is an abstention. At most a quarter of what is left is kept.",
    )
    queued_lease_seconds: float = Field(
        120.0,
        ge=5,
        description="After so long without a sign of life a step that was enqueued is enqueued again.",
    )
    most_waiting: int = Field(
        200,
        ge=1,
        description="The dispatcher keeps at most so many evaluations waiting in the queues; the rest stays on chain"
        " until there is room, so that what is urgent by then comes first.",
    )
    soft_shutdown_seconds: float = Field(
        20.0,
        ge=0,
        description="How long a stopping worker lets its running task finish before it gives it back.",
    )
    flower_address: str = Field("127.0.0.1", description="Address that Flower listens on.")
    flower_port: int = Field(5555, ge=0, le=65535, description="Port that Flower listens on.")
    flower_auth: SecretStr | None = Field(
        None, description="`user:password` for Flower's pages and API. Flower refuses to start without it."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        "INFO", description="Level of the workers' and the dispatcher's log lines."
    )
    debug: bool = Field(False, description="Whether a command that fails shows its traceback.")

    @field_validator("accounts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value


def inherited_environment() -> dict[str, str]:
    """The environment of this process, for a child that is to have it too."""
    return dict(os.environ)

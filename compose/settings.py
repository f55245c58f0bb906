"""Settings of the local stack, and the only place of this package that reads the environment.

The stack's own settings say where its programs are. What the stack tells the processes that it starts is
not read here but made by `LocalStack.environment`.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import AliasChoices, ByteSize, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "FITCHAIN_"


class StackSettings(BaseSettings):
    """Where the programs of the local stack are, and how patient it is."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", populate_by_name=True)

    redis_server: Path | None = Field(
        default=None,
        description="Path of `redis-server`. Unset: the one on PATH, then `.local/bin` of the checkout.",
    )
    anvil: Path | None = Field(
        default=None,
        validation_alias=AliasChoices("FITCHAIN_ANVIL", "ANVIL_PATH"),
        description="Path of `anvil`, the development chain (`ANVIL_PATH` is understood as well). "
        "Unset: the one on PATH, then `.local/bin` of the checkout.",
    )
    stack_start_seconds: float = Field(
        default=30.0, gt=0, description="How long a part of the local stack may take until it answers."
    )
    stack_stop_seconds: float = Field(
        default=10.0, gt=0, description="How long a part may take to stop before it is killed."
    )
    stack_cache_bytes: ByteSize = Field(
        default=ByteSize(512 * 1024**2), gt=0, description="Memory limit of the local stack's cache Redis."
    )


def inherited_environment() -> dict[str, str]:
    """Return this process' environment without its `FITCHAIN_*` variables.

    Processes of a stack get their settings from the stack alone: an operator's production settings, the
    signing keys among them, must not leak into a demo.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}

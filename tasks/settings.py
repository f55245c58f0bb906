"""Settings of the tasks package, from environment variables with the prefix ``FITCHAIN_``.

Nothing else in this package reads the environment. Sizes are bytes and may carry a unit (``4GiB``, ``256
KiB``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ByteSize, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_KIB = 1024
_MIB = 1024**2
_GIB = 1024**3


class TasksSettings(BaseSettings):
    """The broker that carries the tasks, and the bounds within which a stranger's model is evaluated."""

    model_config = SettingsConfigDict(env_prefix="FITCHAIN_", extra="ignore", frozen=True)

    broker_url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"), description="Redis that carries tasks and leases"
    )
    result_url: SecretStr | None = Field(default=None, description="Redis that keeps task results; empty: the broker")
    evaluate_queue: Literal["evaluate.cpu", "evaluate.gpu"] = Field(
        default="evaluate.cpu", description="queue to which this process sends evaluations"
    )
    evaluation_seconds: float = Field(
        default=600.0, gt=0, description="wall clock of one evaluation, after which its sandbox is killed"
    )
    evaluation_memory_bytes: ByteSize = Field(
        default=ByteSize(4 * _GIB),
        ge=64 * _MIB,
        description="memory of one evaluation beyond the idle runtime",
    )
    evaluation_threads: int = Field(default=1, ge=1, le=256, description="threads of one evaluation")
    evaluation_gpu: str | None = Field(
        default=None, description="GPU of this worker's evaluations, as in CUDA_VISIBLE_DEVICES; empty: none"
    )
    sandbox_minimum: Literal["none", "limits", "seccomp", "landlock", "full"] = Field(
        default="limits",
        description="lowest sandbox level at which strangers' models are evaluated; below it, none are",
    )
    sandbox_disable: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(), description="sandbox layers to leave off, comma separated; for diagnosis only"
    )
    scratch_dir: Path | None = Field(
        default=None, description="folder for the scratch folders of evaluations; empty: the system's"
    )
    scratch_max_bytes: ByteSize = Field(
        default=ByteSize(2 * _GIB), gt=0, description="what one evaluation may write to its scratch folder"
    )
    max_result_bytes: ByteSize = Field(
        default=ByteSize(8 * _MIB), gt=0, description="largest result that is accepted from a sandbox"
    )
    max_report_bytes: ByteSize = Field(
        default=ByteSize(256 * _KIB), ge=16 * _KIB, description="largest report; its largest tables go first"
    )

    @field_validator("sandbox_disable", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return frozenset(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("result_url", "scratch_dir", "evaluation_gpu", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

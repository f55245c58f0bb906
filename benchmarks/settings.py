"""Settings of the benchmarks, and the only place here that reads the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from benchmarks.errors import ExampleMissing

_BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared" / "seed-example"


class BenchmarkSettings(BaseSettings):
    """Where the reference example is."""

    model_config = SettingsConfigDict(env_prefix="FITCHAIN_", extra="ignore")

    seed_example: Path = Field(
        default=_BESIDE_THE_CHECKOUT,
        description="folder of the reference example: model_params.h5, test.csv and both schemas",
    )

    def example(self) -> Path:
        """The folder of the reference example.

        Raises:
            ExampleMissing: it is not there.
        """
        if not (self.seed_example / "model_params.h5").is_file():
            raise ExampleMissing(
                f"the reference example is not in {self.seed_example}; set FITCHAIN_SEED_EXAMPLE to its folder"
            )
        return self.seed_example

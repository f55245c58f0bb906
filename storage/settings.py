"""Settings of the storage package, from environment variables with the prefix ``FITCHAIN_``.

Nothing else in this package reads the environment. Sizes are bytes and may carry a unit (``20GiB``, ``256
MiB``).
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import ByteSize, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_GIB = 1024**3
_MIB = 1024**2


class StorageSettings(BaseSettings):
    """Where content comes from, where it is kept, and how much of it may be read."""

    model_config = SettingsConfigDict(env_prefix="FITCHAIN_", extra="ignore", frozen=True)

    ipfs_api: str = Field(
        default="",
        description="RPC of the IPFS node (http://127.0.0.1:5001 or a multiaddr); empty: the embedded store",
    )
    ipfs_store: Path = Field(
        default=Path("~/.local/share/fitchain/ipfs"),
        description="folder of the embedded block store, used when no RPC address is given",
    )
    ipfs_gateways: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="trustless gateways to ask after the node, comma separated (https://trustless-gateway.link)",
    )
    ipfs_timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        description="longest silence of a source: to connect, to first byte, between bytes",
    )
    cache_url: str = Field(
        default="", description="Redis of the shared blob cache (redis://host:6379/0); empty: no shared cache"
    )
    store_dir: Path = Field(
        default=Path("~/.cache/fitchain/blobs"), description="folder of this host's store of verified blobs"
    )
    store_max_bytes: ByteSize = Field(
        default=ByteSize(20 * _GIB),
        gt=0,
        description="size at which the host's store drops what was used least recently",
    )
    max_blob_bytes: ByteSize = Field(
        default=ByteSize(4 * _GIB), gt=0, description="largest model or data set that is read at all"
    )
    redis_max_blob_bytes: ByteSize = Field(
        default=ByteSize(256 * _MIB), ge=0, description="largest blob that goes into the shared Redis cache"
    )
    fetch_deadline_seconds: float = Field(
        default=600.0, gt=0, description="total time for getting one blob, whatever the source"
    )

    @field_validator("ipfs_store", "store_dir")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser()

    @field_validator("ipfs_gateways", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip().rstrip("/") for part in value.split(",") if part.strip())
        return value

    @field_validator("ipfs_gateways")
    @classmethod
    def _check_gateways(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{url!r} is no gateway address; write http://host or https://host")
        return value

    @field_validator("ipfs_api")
    @classmethod
    def _check_api(cls, value: str) -> str:
        value = value.strip()
        if value and not value.startswith(("http://", "https://", "/", "file://")):
            raise ValueError(f"{value!r} is no node address; write http://127.0.0.1:5001 or /ip4/127.0.0.1/tcp/5001")
        return value

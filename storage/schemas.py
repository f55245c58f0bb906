"""The two JSON documents of a challenge: the schema of a model and the schema of the data it is tested on.

They are published on chain as text and come from strangers: sizes are capped, types are strict, and a
refusal names the bad field and says what to write instead. Both published forms are read: ``location`` as an
object or as a list of them, the file format under ``format`` or under ``stored_as``. Fields that are not
known are ignored, so that a schema may say more than this version understands. What the schema leaves open
is inferred by the evaluation, not here.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from storage.canonical import canonical_json, strict_json
from storage.cid import CID
from storage.errors import InvalidCID, SchemaError
from storage.schema_problems import problem_of

MAX_SCHEMA_BYTES = 65_536
_MAX_COLUMNS = 100_000
_MAX_CLASSES = 1_000_000
_MAX_COLUMN_NAME = 512
_CONTAINERS = frozenset({"file", "folder", "directory", "archive"})  # ``stored_as`` that says nothing of the format
_FORMAT_NAMES = {
    "hdf5": "h5",
    "hdf": "h5",
    "parq": "parquet",
    "savedmodel": "saved_model",
    "tf": "saved_model",
}

_Text = Annotated[StrictStr, Field(min_length=1, max_length=512)]
_Name = Annotated[StrictStr, Field(min_length=1, max_length=64)]
_FormatName = Annotated[StrictStr, Field(min_length=1, max_length=32, pattern=r"^\.?[A-Za-z0-9][A-Za-z0-9_+-]*$")]


def _check_column(value: Any) -> Any:
    """One sentence instead of one error for each branch of a union."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{value!r:.60} names no column")
    if isinstance(value, str) and not 1 <= len(value) <= _MAX_COLUMN_NAME:
        raise ValueError(f"a column name of {len(value)} characters; at least 1 and at most {_MAX_COLUMN_NAME}")
    if isinstance(value, int) and not -_MAX_COLUMNS <= value < _MAX_COLUMNS:
        raise ValueError(f"{value} is no position of a column")
    return value


_Column = Annotated[StrictStr | StrictInt, BeforeValidator(_check_column)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Location(_Part):
    """Where an asset is: ``provider`` and, for ``ipfs``, its CID as ``endpoint``."""

    provider: Annotated[StrictStr, Field(min_length=1, max_length=32)]
    endpoint: Annotated[StrictStr, Field(min_length=1, max_length=2048)]

    @field_validator("provider")
    @classmethod
    def _lower(cls, value: str) -> str:
        return value.strip().lower()

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("provider") == "ipfs":
            _cid_of(value)
        return value

    @property
    def usable(self) -> bool:
        """Whether this verifier can read from the provider."""
        return self.provider == "ipfs"

    @property
    def cid(self) -> str:
        """The CID, without the prefixes ``ipfs://`` and ``/ipfs/`` that people write. Raises InvalidCID."""
        return _cid_of(self.endpoint)


class Label(_Part):
    """What is to be predicted: its column (name, or position with negatives from the end) and how it is
    written."""

    column: _Column | None = None
    classes: Annotated[StrictInt, Field(ge=2, le=_MAX_CLASSES)] | None = None
    encoding: Literal["index", "one_hot", "binary", "value"] | None = None


class Features(_Part):
    """What is predicted from: columns, how they become numbers, and the shape of one row for the model."""

    columns: Annotated[list[_Column], Field(min_length=1, max_length=_MAX_COLUMNS)] | None = None
    encoding: Literal["numeric", "multi_hot"] | None = None
    size: Annotated[StrictInt, Field(ge=1, le=10_000_000)] | None = Field(
        default=None, description="width of a multi-hot vector"
    )
    scale: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="each value is divided by it"
    )
    shape: Annotated[list[Annotated[StrictInt, Field(ge=1)]], Field(min_length=1, max_length=8)] | None = None


class _Schema(_Part):
    uuid: _Text
    input_signature: _Text
    stored_as: _FormatName | None = None
    format: _FormatName | None = None
    location: Annotated[tuple[Location, ...], Field(min_length=1, max_length=16)]

    @field_validator("location", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, Mapping | Location) else value

    @field_validator("location")
    @classmethod
    def _some_usable(cls, value: tuple[Location, ...]) -> tuple[Location, ...]:
        if not any(location.usable for location in value):
            given = ", ".join(repr(location.provider) for location in value)
            raise ValueError(f"no provider that is supported ({given}); write 'ipfs' and the CID as endpoint")
        return value

    @classmethod
    def parse(cls, source: str | bytes | Mapping[str, Any]) -> Self:
        """Read a schema from JSON text or from an object that was JSON.

        Raises SchemaError, which names the first bad field (``location[0].endpoint``) and what to write
        instead.
        """
        document = _document(source)
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            single = isinstance(document.get("location"), Mapping)
            raise SchemaError(*problem_of(error, single_location=single)) from error

    @property
    def cid(self) -> str:
        """CID of the asset: that of the first location whose provider is supported."""
        return next(location for location in self.location if location.usable).cid

    @property
    def file_format(self) -> str | None:
        """The file format in lower case (``h5``, ``keras``, ``csv``, ``parquet``, …), or None if the schema
        is silent."""
        for value in (self.format, self.stored_as):
            name = (value or "").lower().removeprefix(".")
            if name and name not in _CONTAINERS:
                return _FORMAT_NAMES.get(name, name)
        return None

    def to_json(self) -> str:
        """The schema as canonical JSON, fields that are not set left out."""
        return canonical_json(self.model_dump(mode="json", exclude_none=True)).decode()


class ModelSchema(_Schema):
    """Schema of a model: what it is, its input signature and where its file is."""

    type: Literal["keras"]

    @field_validator("type", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value


class DataSchema(_Schema):
    """Schema of a data set: format, input signature, location, and how its columns are to be read."""

    type: _Name
    task: Literal["classification", "regression"] | None = None
    label: Label | None = None
    features: Features | None = None


def check_pair(model: ModelSchema, data: DataSchema) -> None:
    """Raise SchemaError unless model and data speak of the same input."""
    if model.input_signature != data.input_signature:
        raise SchemaError(
            "input_signature",
            f"the model expects {model.input_signature!r}, the data offers {data.input_signature!r}; "
            "a challenge needs a data schema with the input_signature of its model",
        )


def _cid_of(endpoint: str) -> str:
    text = endpoint.strip().removeprefix("ipfs://").removeprefix("/ipfs/")
    if "/" in text:
        raise InvalidCID(f"{text[:80]!r} is a path; write the CID of the file itself")
    return str(CID.parse(text))


def _document(source: str | bytes | Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        text = canonical_json(source) if isinstance(source, Mapping) else source
        size = len(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)
        if size > MAX_SCHEMA_BYTES:
            raise SchemaError("", f"the schema has {size} bytes; at most {MAX_SCHEMA_BYTES} are read")
        document = strict_json(text)
    except (ValueError, TypeError, RecursionError) as error:
        if isinstance(error, SchemaError):
            raise
        raise SchemaError("", f"not a JSON schema document: {error}") from error
    if not isinstance(document, dict):
        raise SchemaError("", f'a schema is a JSON object, not {type(document).__name__}; write {{"uuid": …}}')
    return document

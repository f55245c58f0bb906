"""Content and schemas: CIDs and DAGs, IPFS sources, the caches of a host and of the cluster, schema
documents.

A library that can be used from a notebook (``from storage import IPFS, ModelSchema``); it knows no Celery
and no chain. Whatever arrives from a node, a gateway, Redis or the disk is hashed before it is used.

The names below are the public interface. They are imported when first used, so that a process that only
reads schemas loads neither Redis nor HTTP clients.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.canonical import canonical_json
    from storage.content import Blob, Content
    from storage.errors import (
        ContentInvalid,
        ContentMismatch,
        ContentNotFound,
        ContentTooLarge,
        InvalidCID,
        SchemaError,
        SourceUnavailable,
        StorageError,
        StoreFull,
    )
    from storage.importer import cid_of
    from storage.ipfs import IPFS
    from storage.schemas import DataSchema, Features, Label, Location, ModelSchema, check_pair
    from storage.settings import StorageSettings

__all__ = [
    "IPFS",
    "Blob",
    "Content",
    "ContentInvalid",
    "ContentMismatch",
    "ContentNotFound",
    "ContentTooLarge",
    "DataSchema",
    "Features",
    "InvalidCID",
    "Label",
    "Location",
    "ModelSchema",
    "SchemaError",
    "SourceUnavailable",
    "StorageError",
    "StorageSettings",
    "StoreFull",
    "canonical_json",
    "check_pair",
    "cid_of",
]

_MODULES = {
    "IPFS": "ipfs",
    "Blob": "content",
    "Content": "content",
    "StorageSettings": "settings",
    "canonical_json": "canonical",
    "cid_of": "importer",
    **dict.fromkeys(("DataSchema", "Features", "Label", "Location", "ModelSchema", "check_pair"), "schemas"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'storage' has no attribute {name!r}")
    return getattr(import_module(f"storage.{_MODULES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return __all__

"""What can go wrong with content, as one hierarchy.

Here live the errors only; where each is raised is said by the function that raises it. ``transient`` is the
one question a caller must ask: ``True`` means that the same request may succeed later or elsewhere, so it is
retried until its deadline; ``False`` means that the content itself is wrong for everybody, which is a fact
one may vote on.
"""

from typing import ClassVar


class StorageError(Exception):
    """Base of everything this package raises; the message is a sentence for the person who has to act."""

    transient: ClassVar[bool] = False


class InvalidCID(StorageError, ValueError):
    """The text (or bytes) is not a content identifier that this package accepts."""


class ContentInvalid(StorageError):
    """The bytes do match their CID, but what they spell cannot be used: a folder where a file is due, broken
    UnixFS, sizes that lie, a DAG too deep. The same for every reader, hence permanent."""


class ContentTooLarge(StorageError):
    """The content is larger than the limit that the caller or the settings give."""


class ContentMismatch(StorageError):
    """A source sent bytes that do not match the CID. That says something about the source, not about the
    content: another source, or the same one repaired, may still give the right bytes."""

    transient = True


class ContentNotFound(StorageError):
    """Nobody who was asked has the content. Somebody may provide it later."""

    transient = True


class SourceUnavailable(StorageError):
    """A node, gateway, cache or folder did not answer, broke off, was too slow, or answered nonsense."""

    transient = True


class StoreFull(StorageError):
    """The local disk (or the byte cap of the store) has no room for the content."""

    transient = True


class SchemaError(StorageError, ValueError):
    """A model or data schema is not usable.

    ``field`` is the path of the offending field (``location[0].endpoint``; empty for the document as a
    whole) and ``problem`` says what is wrong and what to write instead.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field
        self.problem = problem

    def __reduce__(self) -> tuple[type["SchemaError"], tuple[str, str]]:
        """Keep both parts when the error crosses a process border."""
        return (SchemaError, (self.field, self.problem))

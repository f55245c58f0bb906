"""The exit codes of the command: part of its interface, so that scripts can tell one failure from another."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit code says."""

    OK = 0
    NEGATIVE = 1
    """The work was done and its answer is no: an invalid model, a missed mark, a check that failed."""
    USAGE = 2
    """The command line makes no sense."""
    BAD_INPUT = 3
    """A schema, a file or a CID that was given cannot be used."""
    UNREACHABLE = 4
    """A service (Redis, chain, IPFS) does not answer."""
    TIMEOUT = 5
    """It has not ended in the time given; it may still."""
    CHAIN_REFUSED = 6
    """The contract or the chain does not take the transaction."""
    CONFIGURATION = 7
    """A setting, a key or an account is missing or wrong."""
    INTERNAL = 70
    """A defect of this program."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C."""

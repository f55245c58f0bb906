"""What keeps a process of this project from starting or going on, as one hierarchy."""

from typing import ClassVar


class WorkersError(Exception):
    """Base of everything this package raises; the message says what happened and what to do."""

    transient: ClassVar[bool] = False


class UnsafeEnvironment(WorkersError):
    """A worker that meets strangers' files was given a signing key."""


class RoleMisconfigured(WorkersError):
    """A role cannot work with the settings or options that it was given."""


class BrokerUnavailable(WorkersError):
    """Redis does not answer at the broker's address."""

    transient = True


class DemoFailed(WorkersError):
    """The demonstration did not end as it should."""

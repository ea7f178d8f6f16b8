"""Every exception class of the package, one tree."""

from __future__ import annotations


class KbetlError(Exception):
    """Something a user can act on: one line on stderr and an exit status, never a traceback.

    The message says what failed, with which value, where, and what to do.
    """

    exit_status = 1


class ConfigError(KbetlError):
    """An option, a variable, a configuration file or a task file that cannot be used as it is."""

    exit_status = 2


class StoreError(KbetlError):
    """The store cannot be opened, read or written."""


class Busy(StoreError):
    """Another process holds what this command needs."""


class BadRow(KbetlError):
    """A row of a source that cannot be a sample; the message is the reason, without the place."""


class MissingField(KbetlError):
    """A sample lacks a field that a task asks for; nothing is filled in."""


class BadAnswer(KbetlError):
    """A text that is not what it should be: not JSON, not a completion, not an answer."""


class RequestFailed(KbetlError):
    """A request that brought no answer for one sample; the run goes on with the others."""


class RunStopped(KbetlError):
    """What would hit every sample alike (key, funds, model, no server, no disk): the run ends."""


class Interrupted(KbetlError):
    """SIGINT or SIGTERM ended the command in order."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status

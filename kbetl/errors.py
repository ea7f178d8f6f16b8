"""Defines the exception classes of the package, as one tree, and the exit statuses of commands."""

from __future__ import annotations

LEFT_OVER = 3
"""The exit status of a command that wrote or recorded less than it was asked for."""


class KbetlError(Exception):
    """An error that the user can act on: one line on stderr and an exit status, never a traceback.

    The message says what failed, with which value, where, and what to do.
    """

    exit_status = 1


class ConfigError(KbetlError):
    """An option, variable, configuration file or task file is invalid."""

    exit_status = 2


class StoreError(KbetlError):
    """The store cannot be opened, read or written."""


class Busy(StoreError):
    """Another process holds a lock or a store that this command needs."""


class LockHeld(Busy):
    """Another process holds a lock; `process` is its id, None if the system does not say."""

    def __init__(self, message: str, process: int | None) -> None:
        super().__init__(message)
        self.process = process


class BadQuery(KbetlError):
    """The user's SQL cannot be run; the message is SQLite's."""


class EmptyDataset(KbetlError):
    """A dataset has no rows; the message says why, and what to run."""


class NothingCarried(EmptyDataset):
    """A format can express no row of a dataset; nothing is written, the target is unchanged."""

    exit_status = LEFT_OVER


class ExportFailed(KbetlError):
    """A file or folder cannot be written; the target is unchanged."""


class BadRow(KbetlError):
    """A row of a source cannot be a sample; the message is the reason, without file and line."""


class UnreadableCode(KbetlError):
    """Source code that cannot be judged: it does not parse, is too large to follow, or holds no module."""


class SourceError(KbetlError):
    """Nothing of a source can be read: no such file or dataset, no access, or no rows in it."""


class MissingField(KbetlError):
    """A sample lacks a field that the template of a task names."""


class BadAnswer(KbetlError):
    """A text is not what it should be: no JSON, no completion, no answer."""


class RequestFailed(KbetlError):
    """A request got no answer for one sample; the run continues with the others."""

    is_declined = False
    """Whether moderation refused the prompt: then the outcome is `refused`, else `failed`."""


class Declined(RequestFailed):
    """A moderation or a content filter refused a request."""

    is_declined = True


class Undecided(RequestFailed):
    """A request was refused before any other succeeded, so that all requests may be refused."""


class TryAgain(RequestFailed):
    """A try failed and a later one may succeed; raised and caught inside `client`."""

    def __init__(
        self, reason: str, *, counts: bool, may_be_billed: bool = False, wait_s: float = 0.0
    ) -> None:
        super().__init__(reason)
        self.counts = counts
        """Whether it counts as one of the request's tries."""
        self.may_be_billed = may_be_billed
        self.wait_s = wait_s
        """Seconds that this request alone waits; 0 if it waits with all others."""


class HubError(KbetlError):
    """The Hub cannot be reached, or refused a request."""


class UnreadableFile(HubError):
    """A file of a dataset on the Hub is not of the format that its name says."""


class HubBusy(HubError):
    """A request to the Hub failed and a later one may succeed; raised and caught inside `hub`."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        """Seconds that the Hub asks to wait, 0 if it names none."""


class ServiceError(KbetlError):
    """A batch service cannot be reached, or refused a request."""

    def __init__(self, message: str, *, is_certain: bool = True) -> None:
        super().__init__(message)
        self.is_certain = is_certain
        """Whether the request surely had no effect; if False, the service may have done it."""


class RunStopped(KbetlError):
    """An error that every sample would get (key, funds, model, no server, no disk): the run ends."""


class BudgetReached(RunStopped):
    """The budget does not suffice for the next request; answers so far are stored."""

    exit_status = LEFT_OVER


class Interrupted(KbetlError):
    """SIGINT or SIGTERM ended the command in an orderly way."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def exit_status_for(*left_over: object, failed: object = False) -> int:
    """Returns the exit status of a completed command: 1 if it `failed`, 3 if a count in `left_over` is not 0.

    They count what this invocation left over: rows that it newly rejected, outcomes that it recorded and
    that are not ok, samples not asked because of a budget, rows that a format cannot express. What earlier
    invocations left over does not count.
    """
    if failed:
        return KbetlError.exit_status
    return LEFT_OVER if any(left_over) else 0


def exit_status_after(error: BaseException) -> int:
    """Returns the exit status of a command that an exception ends."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.exit_status if isinstance(error, KbetlError) else 1

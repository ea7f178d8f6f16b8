"""Every exception class of the package, one tree, and the exit statuses of commands."""

from __future__ import annotations

LEFT_OVER = 3
"""The exit status of a command that wrote, recorded or settled less than it was asked."""


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


class LockHeld(Busy):
    """Another process holds a lock; `process` is its id, None if the system does not say."""

    def __init__(self, message: str, process: int | None) -> None:
        super().__init__(message)
        self.process = process


class BadQuery(KbetlError):
    """SQL of the user that cannot be run as it is, in SQLite's own words."""


class EmptyDataset(KbetlError):
    """A dataset without rows; the message says why, and what to run."""


class NothingCarried(EmptyDataset):
    """A format can carry no row of a dataset; nothing is written, and what stood there is unchanged."""

    exit_status = LEFT_OVER


class ExportFailed(KbetlError):
    """A file or folder could not be written; what stood there before is unchanged."""


class BadRow(KbetlError):
    """A row of a source that cannot be a sample; the message is the reason, without the place."""


class UnreadableCode(KbetlError):
    """Source code that cannot be judged: it does not parse, is too large to follow, or holds no module."""


class SourceError(KbetlError):
    """A source of which nothing can be read: no such file, dataset or access, or no rows in it."""


class MissingField(KbetlError):
    """A sample lacks a field that a task asks for; nothing is filled in."""


class BadAnswer(KbetlError):
    """A text that is not what it should be: not JSON, not a completion, not an answer."""


class RequestFailed(KbetlError):
    """A request that brought no answer for one sample; the run goes on with the others."""

    is_declined = False
    """Whether a moderation refused what was asked: the outcome is `refused`, else `failed`."""


class Declined(RequestFailed):
    """A request that a moderation or a content filter refused."""

    is_declined = True


class Undecided(RequestFailed):
    """A request that was refused before any other succeeded: its own trouble, or everybody's."""


class TryAgain(RequestFailed):
    """A try that failed where a later one may not; raised and caught inside `client`."""

    def __init__(self, reason: str, *, counts: bool, paid_perhaps: bool = False, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.counts = counts
        """Whether it uses up one of the request's tries."""
        self.paid_perhaps = paid_perhaps
        self.wait_s = wait_s
        """Seconds that this request waits on its own; 0 where it waits with all others."""


class HubError(KbetlError):
    """The Hub cannot be reached, or did not take or give what was asked of it."""


class UnreadableFile(HubError):
    """A file of a dataset on the Hub that is not what its name says."""


class HubBusy(HubError):
    """A try at the Hub that failed where a later one may not; raised and caught inside `hub`."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        """Seconds that the Hub asks to wait, 0 if it names none."""


class ServiceError(KbetlError):
    """A batch service cannot be reached, or did not take or give what was asked of it."""

    def __init__(self, message: str, *, is_certain: bool = True) -> None:
        super().__init__(message)
        self.is_certain = is_certain
        """Whether nothing came of the request; if not, the service may have done it all the same."""


class RunStopped(KbetlError):
    """What would hit every sample alike (key, funds, model, no server, no disk): the run ends."""


class BudgetReached(RunStopped):
    """The budget does not suffice for the next request; what was answered is kept."""

    exit_status = LEFT_OVER


class Interrupted(KbetlError):
    """SIGINT or SIGTERM ended the command in order."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def exit_status_for(*left_over: object, failed: object = False) -> int:
    """The exit status of a command that came to its end: 1 if it `failed`, 3 if it left something over.

    `left_over` are counts of what this invocation left over: rows that it rejected and that were not known
    as rejected, outcomes that it recorded and that are not ok, what a budget kept back, rows that a format
    cannot carry. What was left over before is said, and is none of them.
    """
    if failed:
        return KbetlError.exit_status
    return LEFT_OVER if any(left_over) else 0


def exit_status_after(error: BaseException) -> int:
    """The exit status of a command that an exception ends."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.exit_status if isinstance(error, KbetlError) else 1

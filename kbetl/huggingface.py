"""The Hub's client, imported quietly, and what fails between here and the Hub."""

from __future__ import annotations

import os
import sys

from kbetl.text import plain_text


def quiet_imports(*, is_quiet: bool = False) -> None:
    """No progress bars where nobody watches, and no notices between our lines.

    Called before the first import of `huggingface_hub` or `datasets`, or it has no effect.
    """
    if is_quiet or not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")


def connection_failures(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """What a call of the Hub raises: OSError, the base class of the HTTP library in use, and `more`."""
    from huggingface_hub.errors import HfHubHTTPError

    return (*(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)), *more)


def token(*, is_quiet: bool = False) -> str | None:
    """Returns HF_TOKEN, or the token that `hf auth login` stored, or None."""
    quiet_imports(is_quiet=is_quiet)
    from huggingface_hub import get_token

    return get_token()


def explain(
    error: BaseException, *, page: str, missing: str | None, revision: str | None = None, refused: str
) -> str:
    """Returns what failed on the Hub and what to do, in one line without the token.

    `page` is the path of the repository's page; `missing` says that there is none to read, None for a write;
    `refused` introduces what the Hub or `datasets` says of a content that it does not accept.
    """
    from huggingface_hub import constants, errors

    reason = plain_text(str(error).strip().partition("\n")[0] or type(error).__name__)
    if isinstance(error, errors.OfflineModeIsEnabled):
        what = "HF_HUB_OFFLINE is set, so the Hub is not asked; unset it"
        what += "" if missing is None else ", or name a folder with the files"
    elif isinstance(error, errors.GatedRepoError):
        what = f"it is gated; accept its terms on the Hub ({constants.ENDPOINT}/{page}), then set HF_TOKEN"
    elif isinstance(error, errors.RevisionNotFoundError):
        what = f"it has no revision {plain_text(revision or 'main')!r}"
    elif isinstance(error, errors.RepositoryNotFoundError) and missing is not None:
        what = f"{missing} on the Hub; if it is private, set HF_TOKEN"
    elif isinstance(error, errors.HfHubHTTPError):
        message = f" ({plain_text(error.server_message)})" if error.server_message else ""
        advice = _advice(error.response.status_code, "write there" if missing is None else "read it")
        what = f"the Hub answered {error.response.status_code}{message}{advice}"
    elif isinstance(error, ValueError | RuntimeError | FileNotFoundError):
        what = f"{refused}: {reason}"
    else:
        what = f"the Hub cannot be reached ({reason}); is there a network?"
    return what.replace(token() or "\0", "***")


def _advice(status: int, right: str) -> str:
    """What to do about a status; nothing if asking again later is all there is."""
    if status in (401, 403):
        return f"; set HF_TOKEN to a token that may {right}"
    return f"; check the name, and that HF_TOKEN may {right}" if status == 404 else ""

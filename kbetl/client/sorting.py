"""Sorts what went wrong: does it cost time, a try, the sample, or the run?"""

from __future__ import annotations

import re
from collections.abc import Collection
from http import HTTPStatus
from typing import Literal

from kbetl.client.reading import ProviderError

Kind = Literal["throttled", "gateway", "again", "sample", "run"]
"""What an error reply costs.

throttled: time; gateway: time where the server behind it is away, else a try; again: a try, or time where
many get the same; sample: this sample; run: the run.
"""

_OUT_OF_FUNDS = re.compile(
    "insufficient_?(quota|funds|balance|credit)|billing|payment_required|out_of_credit", re.I
)
_BAD_KEY = re.compile("invalid_api_key|authentication|unauthorized", re.I)
_NO_MODEL = re.compile("model_not_found|no_such_model", re.I)
_THROTTLED = re.compile("rate_?limit|too_?many_?requests|resource_?exhausted|throttl", re.I)
_OVERLOADED = re.compile("overloaded|unavailable|capacity", re.I)
_FOR_ALL = frozenset({401, 402, 403, 404, 405, 407, 410, 501, 505})
_LATER = frozenset({429, 503, 521, 523, 529})
_SOON = frozenset({408, 409, 425})
_GATEWAY = frozenset({502, 504, 520, 522, 524, 530})
_TOO_LARGE = re.compile(r"request too large|(reduce|shorten) (the|your) (length|prompt|messages|input)", re.I)

_REFUSED_CODES = frozenset(
    {"unsupported_parameter", "unsupported_value", "unknown_parameter", "extra_forbidden"}
)
_REFUSED_WORDS = re.compile(
    r"unsupported (parameter|value|argument)|not supported (with|by|for|on) (this|the) model"
    r"|does(n't| not) support|(unrecogni[sz]ed|unknown) (request )?(argument|parameter|field)"
    r"|extra (inputs|fields)( are)? not permitted",
    re.I,
)

_ADVICE = {
    401: "check the key: it is missing, wrong or revoked",
    402: "top up the account or use another key, then run again: what was answered is kept",
    403: "this key may not use this model or address: check key, team and model",
    404: "check the model's name and the base URL",
    407: "check the proxy's user name and password in the environment",
}


def sort_error(status: int, error: ProviderError) -> Kind:
    """What an error with this HTTP status (not 2xx) means; its own code weighs more than the status."""
    if _out_of_funds(error) or _NO_MODEL.search(error.code) or _BAD_KEY.search(error.code):
        return "run"
    if status == 403 and error.flagged:
        return "sample"
    if status < 400 or status in _FOR_ALL:
        return "run"
    if status in _LATER:
        return "sample" if status == 429 and _TOO_LARGE.search(error.message) else "throttled"
    if status in _GATEWAY:
        return "gateway"
    if status >= 500 or status in _SOON:
        return "again"
    return "sample"


def status_of(error: ProviderError) -> int:
    """The HTTP status that an error object in a 200 reply stands for, by its own code and type."""
    if error.code.isdecimal() and 400 <= int(error.code) < 600:
        return int(error.code)
    names = f"{error.code} {error.type}"
    if _out_of_funds(error):
        return 402
    if _BAD_KEY.search(names):
        return 401
    if _THROTTLED.search(names):
        return 429
    if _OVERLOADED.search(names):
        return 503
    return 400 if error.code in _REFUSED_CODES or "context_length" in names else 500


def _out_of_funds(error: ProviderError) -> bool:
    return bool(_OUT_OF_FUNDS.search(error.code) or _OUT_OF_FUNDS.search(error.type))


def refused_parameter(status: int, error: ProviderError, sent: Collection[str]) -> str | None:
    """The one parameter of those sent that the model refuses; None where the error says no such thing."""
    if status not in (400, 422):
        return None
    if not {error.code, error.type} & _REFUSED_CODES and not _REFUSED_WORDS.search(error.message):
        return None
    if error.parameter:
        name = error.parameter.removeprefix("body.").split(".")[0]
        return name if name in sent else None
    quoted: list[str] = [
        name for name in re.findall(r"['\"`]([A-Za-z_]+)['\"`]", error.message) if name in sent
    ]
    if quoted:
        return quoted[0]
    words: set[str] = {word for word in re.findall(r"[A-Za-z_]{4,}", error.message) if word in sent}
    words -= {"stop", "user", "tools", "model", "messages"}
    return words.pop() if len(words) == 1 else None


def describe(host: str, status: int, error: ProviderError) -> str:
    """`HOST answered 401 Unauthorized: "what the provider says"`."""
    try:
        phrase = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = str(status)
    said = f': "{error.message}"' if error.message else ""
    codes = ", ".join(
        dict.fromkeys(each for each in (error.code, error.type) if each and each != str(status))
    )
    return f"{host} answered {phrase}{said}{f' ({codes})' if codes else ''}"


def advice(status: int, error: ProviderError) -> str:
    """What to do about an error that stops the run."""
    if _out_of_funds(error):
        status = 402
    elif _NO_MODEL.search(error.code):
        status = 404
    elif _BAD_KEY.search(error.code):
        status = 401
    if status < 400:
        return "a redirect is not followed, so that the key stays here: set the base URL to the right address"
    return _ADVICE.get(status, "check the base URL: it does not take chat completions")

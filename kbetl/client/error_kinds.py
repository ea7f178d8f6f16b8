"""Classifies the error that a provider sent, by its words and its HTTP status."""

from __future__ import annotations

import re
from collections.abc import Collection
from http import HTTPStatus
from typing import Literal

from kbetl.client.responses import ProviderError

ErrorKind = Literal[
    "key",
    "funds",
    "model",
    "unsure",
    "moderation",
    "too_long",
    "refused",
    "throttled",
    "gateway",
    "again",
]
"""The class of an error reply.

key, funds, model: every request gets it, the run stops. unsure: either every request gets it or this one
alone. moderation, too_long: this request alone. refused: this request, unless all get the same words.
throttled: all requests pause. gateway: all pause if the server behind it is down, else a retry. again: a
retry, or a pause for all if many requests get it.
"""
AFFECTS_ALL: Collection[ErrorKind] = ("key", "funds", "model")

_FUNDS_NAMES = re.compile(
    "insufficient_?(quota|funds|balance|credit|user_?quota)|billing|payment_?required|out_?of_?credit"
    "|exceeded_current_quota|arrearage|account_?overdue|(budget|credit)_?(exceeded|limit)",
    re.I,
)
_FUNDS_WORDS = re.compile(
    r"(insufficient|not enough|no (remaining|more)|out of|run out of|requires? more|add more)"
    r" (\w+ )?(balance|funds|credits?|quota)\b"
    r"|\b(balance|credits?|funds|quota) (is |are |has been |have been )?"
    r"(too low|insufficient|exhausted|depleted|used up|not enough|not sufficient)"
    r"|used all (\w+ ){0,2}credits|exceeded (\w+ ){0,3}(credits|credit limit|budget|spend(ing)? limit)"
    r"|(spend(ing)?|billing|budget|credit|key|hard) limit (has been |was |is )?(reached|exceeded)"
    r"|budget (has been )?exceeded|billing hard limit|payment required|account is in arrears"
    r"|account is in good standing"
    "|余额不足|额度不足|欠费|请充值",
    re.I,
)
# Out of funds if no wait is named; with a wait it is a rate limit, in the words of Gemini.
_QUOTA_WORDS = re.compile(r"exceeded your current quota", re.I)
_KEY_NAMES = re.compile("(invalid|incorrect|expired)_?api_?key|api_?key_?invalid|authentication|unauth", re.I)
_KEY = r"(api[ _-]?(secret )?key|access key|(auth|bearer|access)\w*[ _-]token|credentials?)"
_KEY_WORDS = re.compile(
    rf"\b(invalid|incorrect|wrong|missing|expired|revoked|unknown|malformed|no|bad)\W+(\w+\W+){{0,2}}?{_KEY}\b"
    rf"|\b{_KEY}\b[^.]{{0,40}}\b(invalid|expired|not valid|not found|incorrect|wrong|missing|required|revoked"
    r"|disabled|suspended|blocked|not (been )?provided|does not exist|doesn't exist|reported as leaked)"
    r"|authentication (\w+ )?(failed|fails|error|required)|login fail|authorized error"
    r"|(account|organi[sz]ation) (\S+ )?(is|has been|was) (suspended|deactivated|disabled|banned|restricted)",
    re.I,
)
_MODEL_NAMES = re.compile(
    "model_?not_?found|no_?such_?model|(invalid|unknown|unsupported)_?model|deployment_?not_?found"
    "|model_?(decommissioned|not_?supported|not_?exist)",
    re.I,
)
_MODEL_WORDS = re.compile(
    r"\b(model|deployment)\b[^.,;]{0,20}?\s?([`'\"]?[\w./:@-]{1,100}[`'\"]?)?,? "
    r"(does not exist|doesn't exist|do(es)? ?n[o']t exist|not exist|(is |was |could )?not (be )?found"
    r"|is not a valid model|has been (deprecated|decommissioned|retired))"
    r"|(no such|unknown|invalid) model\b|not a valid model( id)?|no endpoints? found for"
    r"|models?/\S+ is not found|(no|not have|denied) access to (the |this )?model\b",
    re.I,
)
_MODERATION_NAMES = re.compile(
    "content_?(filter|policy)|moderation|safety|sensitive|data_?inspection|prohibited_?content"
    "|responsible_?ai|invalid_?prompt|guardrail|input_?flagged",
    re.I,
)
_MODERATION_WORDS = re.compile(
    r"content[ -](management|policy|filter|moderation|safety|exists risk)|moderat(ed|ion)"
    r"|\bflagged\b|usage (policy|policies|guidelines)|safety (system|filter|check|polic|setting|reason)"
    r"|(inappropriate|prohibited|harmful|unsafe|disallowed|sensitive) (content|information|words?|material)"
    r"|(input|output|prompt|content|text) (\w+ )?(new_)?sensitive\b|considered high risk|guardrail"
    "|敏感|违规|不安全",
    re.I,
)
_TOO_LONG_NAMES = re.compile("context_?length|too_?(long|large)|string_above_max", re.I)
_TOO_LONG_WORDS = re.compile(
    r"request too large|(reduce|shorten) (the|your) (length|prompt|messages|input)"
    r"|(maximum|max|model'?s?) (\w+ )?context|context (length|window|size)|too many (\w+ )?tokens"
    r"|(prompt|input|request|messages?) (\w+ ){0,2}(is|are|was) too (long|large)"
    r"|(longer than|exceeds?) (\w+ ){0,4}(model length|token limit|number of tokens)"
    r"|tokens`? must be <=?|payload (size )?(exceeds|too large)|string too long",
    re.I,
)
_THROTTLED = re.compile(
    r"rate[ _-]?limit|too[ _]?many[ _]?requests|resource_?exhausted|throttl|concurrency limit"
    r"|quota_?exceeded",
    re.I,
)
_OVERLOADED = re.compile("overloaded|unavailable|capacity", re.I)
_BAD_REQUEST = re.compile("invalid_?(request|param|argument)|bad_?request|invalid params", re.I)
_UNSURE = frozenset({403, 404, 405, 410, 501, 505})
_LATER = frozenset({429, 503, 521, 523, 529})
_SOON = frozenset({408, 409, 425})
_GATEWAY = frozenset({502, 504, 520, 522, 524, 530})

_REFUSED_CODES = frozenset(
    {"unsupported_parameter", "unsupported_value", "unknown_parameter", "extra_forbidden"}
)
_REFUSED_WORDS = re.compile(
    r"unsupported (parameter|value|argument)|not supported (with|by|for|on) (this|the) model"
    r"|does(n't| not) support|(unrecogni[sz]ed|unknown|unexpected) (\w+ )?"
    r"(argument|parameter|field|key|name)\b|extra (inputs|fields|keys?)( are)? not (permitted|allowed)"
    r"|(is|are) (unsupported|not supported|deprecated for)"
    r"|extraneous key|not a (valid|recogni[sz]ed) (parameter|field|argument)|cannot find field"
    r"|is not permitted|not allowed here",
    re.I,
)

_ADVICE: dict[ErrorKind, str] = {
    "key": "check the key: it is missing, wrong or revoked",
    "funds": "top up the account or use another key, then run again: what was answered is kept",
    "model": "check the model's name and the base URL",
}
_STATUS_ADVICE = {
    403: "this key may not use this model or address: check key, team and model",
    404: "check the model's name and the base URL",
    407: "check the proxy's user name and password in the environment",
}


def classify_error(status: int, error: ProviderError) -> ErrorKind:
    """Returns the class of an error with this HTTP status (not 2xx); the provider's words come first."""
    by_words = _by_words(status, error)
    if by_words is not None:
        return by_words
    if status in _LATER:
        return "throttled"
    if status in _GATEWAY:
        return "gateway"
    if status < 400 or status in _UNSURE:
        return "unsure"
    if status >= 500 or status in _SOON:
        return "again"
    return "refused"


def _by_words(status: int, error: ProviderError) -> ErrorKind | None:
    """Returns the class that the provider's words name; None if they name none."""
    names, message = f"{error.code} {error.type}", error.message
    if status == 402 or _is_out_of_funds(names, error):
        return "funds"
    if status in (401, 407) or _KEY_NAMES.search(names) or _KEY_WORDS.search(message):
        return "key"
    if _MODEL_NAMES.search(names) or _MODEL_WORDS.search(message):
        return "model"
    if status in _LATER:
        return "too_long" if status == 429 and _TOO_LONG_WORDS.search(message) else None
    if error.flagged or _MODERATION_NAMES.search(names):
        return "moderation"
    if status >= 500:
        return None
    if _MODERATION_WORDS.search(message):
        return "moderation"
    if _THROTTLED.search(f"{names} {message}"):
        return "throttled"
    if status == 413 or _TOO_LONG_NAMES.search(names) or _TOO_LONG_WORDS.search(message):
        return "too_long"
    return None


def _is_out_of_funds(names: str, error: ProviderError) -> bool:
    if _FUNDS_NAMES.search(names) or _FUNDS_WORDS.search(error.message):
        return True
    return error.wait_s is None and bool(_QUOTA_WORDS.search(error.message))


_STATUS_OF: dict[ErrorKind, int] = {
    "key": 401,
    "funds": 402,
    "model": 404,
    "moderation": 400,
    "too_long": 400,
    "throttled": 429,
}


def status_of(error: ProviderError) -> int:
    """Returns the HTTP status that an error object in a 200 reply means, by its code and words."""
    if error.code.isdecimal() and 400 <= int(error.code) < 600:
        return int(error.code)
    found = _by_words(400, error)
    if found is not None:
        return _STATUS_OF[found]
    names = f"{error.code} {error.type}"
    if _OVERLOADED.search(names):
        return 503
    is_refused = error.code in _REFUSED_CODES or _REFUSED_WORDS.search(error.message)
    return 400 if is_refused or _BAD_REQUEST.search(f"{names} {error.message[:40]}") else 500


def unsupported_parameter(status: int, error: ProviderError, sent: Collection[str]) -> str | None:
    """Returns the one parameter, of those sent, that the model does not support; None if none is named."""
    if status not in (400, 422):
        return None
    if not {error.code, error.type} & _REFUSED_CODES and not _REFUSED_WORDS.search(error.message):
        return None
    known = {_plain(name): name for name in sent}
    if error.parameter:
        name = error.parameter.removeprefix("body.").split(".")[0]
        return known.get(_plain(name))
    quoted = [known[name] for name in map(_plain, _QUOTED.findall(error.message)) if name in known]
    if quoted:
        return quoted[0]
    words = {known[name] for name in map(_plain, _NAMED.findall(error.message)) if name in known}
    words -= {"stop", "user", "tools", "model", "messages"}
    return words.pop() if len(words) == 1 else None


_QUOTED = re.compile(r"['\"`\[]([A-Za-z_]+)['\"`\]]")
_NAMED = re.compile(r"[A-Za-z_]{4,}")


def _plain(name: str) -> str:
    """Returns a parameter's name without its spelling: `topK` and `top_k` give the same."""
    return name.replace("_", "").lower()


def error_text(host: str, status: int, error: ProviderError) -> str:
    """Returns `HOST answered 401 Unauthorized: "what the provider says"`."""
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
    """Returns what to do about an error that stops the run."""
    if status == 407:
        return _STATUS_ADVICE[407]
    found = classify_error(status, error)
    if found in _ADVICE and not (found == "model" and status == 403):
        return _ADVICE[found]
    if status < 400:
        return "a redirect is not followed, so that the key stays here: set the base URL to the right address"
    return _STATUS_ADVICE.get(status, "check the base URL: it does not take chat completions")

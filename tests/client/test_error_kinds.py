"""What errors are about, by status and body: a table of how providers and gateways word them."""

from __future__ import annotations

import json

import pytest

from kbetl.client.error_kinds import classify_error, status_of, unsupported_parameter
from kbetl.client.responses import HttpResponse, ProviderError, read_completion, read_error
from kbetl.client.retry_after import retry_after_s

SENT = ("max_tokens", "temperature", "top_k", "presence_penalty", "seed", "reasoning_effort", "stop")
QUOTA = "You exceeded your current quota, please check your plan and billing details."
RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "4.5s"}
HTML = "<html><head><title>403 Forbidden</title></head><body>Request blocked: SQL found</body></html>"


def openai(message, code=None, kind=None, **more):
    return {"error": {"message": message, "code": code, "type": kind, **more}}


def google(code, message, status, *details):
    return [{"error": {"code": code, "message": message, "status": status, "details": list(details)}}]


def minimax(code, message):
    return {"id": "x", "choices": None, "base_resp": {"status_code": code, "status_msg": message}}


DIALECTS = [
    # key
    ("key", 401, openai("Incorrect API key provided: sk-..", "invalid_api_key")),
    ("key", 401, ""),
    ("key", 400, google(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT")),
    ("key", 400, google(400, "API key expired. Please renew the API key.", "INVALID_ARGUMENT")),
    ("key", 403, google(403, "Your API key was reported as leaked.", "PERMISSION_DENIED")),
    ("key", 403, {"message": "Missing API key"}),
    ("key", 403, {"error": "Invalid credentials"}),
    ("key", 500, openai("Authentication failed for the upstream")),
    ("key", 403, openai("Your account has been suspended")),
    ("key", 400, openai("This organization has been disabled.", None, "invalid_request_error")),
    ("key", 200, minimax(1004, "login fail: Please carry the API secret key in the request")),
    ("key", 200, minimax(2049, "invalid api key")),
    ("key", 200, {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]}),
    # funds
    ("funds", 402, ""),
    ("funds", 402, openai("This request requires more credits, or fewer max_tokens.", 402)),
    ("funds", 429, openai(QUOTA, "insufficient_quota", "insufficient_quota")),
    ("funds", 429, openai(QUOTA)),
    ("funds", 429, openai("Insufficient balance (including overdraft).", "insufficient_funds")),
    ("funds", 400, openai("Your credit balance is too low to access the Anthropic API.")),
    ("funds", 403, {"code": 30001, "message": "Sorry, your account balance is insufficient"}),
    ("funds", 403, openai("Key limit exceeded (total limit). Manage it using the settings.", 403)),
    ("funds", 403, openai("Your team has either used all available credits or reached its limit.")),
    ("funds", 403, openai("user quota is not enough", "insufficient_user_quota", "new_api_error")),
    ("funds", 429, {"error": {"code": "1113", "message": "余额不足或无可用资源包,请充值。"}}),
    ("funds", 429, openai("Your account is suspended", None, "exceeded_current_quota_error")),
    ("funds", 400, openai("Access denied, your account is in arrears", "Arrearage")),
    ("funds", 400, openai("Budget has been exceeded! Current cost: 0.1, Max budget: 0.05")),
    ("funds", 500, openai("upstream: Insufficient Balance")),
    ("funds", 200, minimax(1008, "insufficient balance")),
    ("funds", 200, openai("Insufficient credits", 402)),
    # model
    ("model", 404, openai("The model `gpt-9` does not exist.", "model_not_found")),
    ("model", 404, openai("The model `gpt-9` does not exist or you do not have access to it.")),
    ("model", 404, openai('model "qwen9:7b" not found, try pulling it first')),
    ("model", 400, openai("openai/gpt-9 is not a valid model ID", 400)),
    ("model", 400, openai("Model Not Exist", "invalid_request_error")),
    ("model", 403, openai("Your team has no access to this model")),
    ("model", 404, openai("No endpoints found for openai/gpt-9.", 404)),
    ("model", 404, openai("The API deployment for this resource does not exist.", "DeploymentNotFound")),
    ("model", 400, openai("The model `llama2` has been decommissioned", "model_decommissioned")),
    ("model", 429, openai("model not found")),
    ("model", 500, openai("Model 'x' does not exist")),
    ("model", 404, google(404, "models/gemini-9 is not found for API version v1", "NOT_FOUND")),
    # a parameter of those sent
    ("top_k", 400, google(400, 'Invalid JSON payload. Unknown name "top_k": Cannot find field.', "X")),
    ("top_k", 400, google(400, 'Unknown name "topK" at generation_config: Cannot find field.', "X")),
    ("max_tokens", 400, openai("Use another.", "unsupported_parameter", param="max_tokens")),
    ("max_tokens", 400, openai("Unsupported parameter: 'max_tokens' is not supported with this model.")),
    ("top_k", 400, openai("Unrecognized request argument supplied: top_k")),
    ("top_k", 422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "top_k"], "msg": "Extra"}]}),
    (
        "top_k",
        422,
        {"message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "top_k"], "msg": "Extra"}]}},
    ),
    ("top_k", 400, openai("top_k: Extra inputs are not permitted")),
    ("top_k", 400, openai("property 'top_k' is unsupported")),
    ("presence_penalty", 400, openai("Model grok-4 does not support parameter presencePenalty.")),
    ("temperature", 400, openai("`temperature` is deprecated for this model.")),
    ("seed", 400, openai("unexpected keyword argument 'seed'")),
    ("top_k", 400, openai("Malformed input request: extraneous key [top_k] is not permitted")),
    ("reasoning_effort", 200, openai("Unknown parameter: 'reasoning_effort'.", "unknown_parameter")),
    # moderation
    ("moderation", 400, openai("The prompt triggering content management policy.", "content_filter")),
    ("moderation", 403, openai("flagged", 403, metadata={"reasons": ["x"], "flagged_input": "y"})),
    ("moderation", 403, openai("Your chosen model requires moderation and your input was flagged", 403)),
    ("moderation", 403, openai("Content violates usage guidelines.")),
    ("moderation", 400, openai("Your prompt was flagged as violating our usage policy.", "invalid_prompt")),
    ("moderation", 400, openai("Output blocked by content filtering policy", None, "invalid_request")),
    ("moderation", 400, openai("Content Exists Risk", "invalid_request_error")),
    ("moderation", 400, openai("The request was rejected because it was considered high risk")),
    ("moderation", 400, openai("Input data may contain inappropriate content.", "data_inspection_failed")),
    ("moderation", 400, {"error": {"code": "1301", "message": "系统检测到输入内容可能包含不安全或敏感内容"}}),
    ("moderation", 200, minimax(1026, "input new_sensitive")),
    ("moderation", 200, openai("blocked", "content_policy_violation")),
    # too long
    ("too_long", 400, openai("This model's maximum context length is 512 tokens.")),
    ("too_long", 400, openai("x", "context_length_exceeded")),
    ("too_long", 400, openai("prompt is too long: 210000 tokens > 200000 maximum")),
    ("too_long", 413, ""),
    ("too_long", 422, {"error": "Input validation error: `inputs` tokens must be <= 4096. Given: 5000"}),
    ("too_long", 400, openai("the request exceeds the available context size", None, "exceed_context")),
    ("too_long", 400, openai("Request payload size exceeds the limit: 20971520 bytes")),
    ("too_long", 429, openai("Request too large for m on tokens per min: Limit 10000, Requested 12000")),
    ("too_long", 200, openai("input is too long", "context_length_exceeded")),
    # throttled
    ("throttled", 429, ""),
    ("throttled", 429, openai("Rate limit reached for `m`: add a payment method to raise your limit.")),
    ("throttled", 429, google(429, QUOTA, "RESOURCE_EXHAUSTED", RETRY_INFO)),
    ("throttled", 429, google(429, "Resource has been exhausted (e.g. check quota).", "RESOURCE_EXHAUSTED")),
    ("throttled", 403, google(403, "Rate Limit Exceeded", "rateLimitExceeded")),
    ("throttled", 503, openai("The content filter is not available")),
    ("throttled", 503, "<html>Down for a moment</html>"),
    ("throttled", 529, openai("Overloaded", None, "overloaded_error")),
    ("throttled", 200, minimax(1002, "rate limit exceeded(RPM)")),
    ("throttled", 200, openai("slow", "rate_limit_exceeded")),
    ("throttled", 200, openai("busy", None, "overloaded_error")),
    # a server's fault
    ("gateway", 502, "<html>Bad gateway</html>"),
    ("gateway", 504, ""),
    ("again", 500, openai("Internal server error", 500, "InternalServerError")),
    ("again", 500, "<html>flagged: moderation of the upstream</html>"),
    ("again", 408, ""),
    ("again", 200, minimax(1000, "unknown error")),
    # one request's, or everybody's
    ("unsure", 403, HTML),
    ("unsure", 403, openai("Forbidden")),
    ("unsure", 404, {"detail": "Not Found"}),
    ("unsure", 405, ""),
    ("unsure", 307, ""),
    ("refused", 400, openai("Invalid value for 'messages'", None, "invalid_request_error")),
    ("refused", 400, openai("'invalid token at position 7' in a case-sensitive pattern")),
    ("refused", 422, ""),
    ("refused", 200, minimax(2013, "invalid params, messages must not be empty")),
    # told by a provider behind a gateway
    ("funds", 400, openai("Provider returned error", 400, metadata={"raw": "insufficient balance"})),
    (
        "too_long",
        400,
        openai(
            "Provider returned error",
            400,
            metadata={"raw": json.dumps(openai("maximum context length is 512"))},
        ),
    ),
]
"""What it is about, or the parameter of SENT; status; body."""


def error_of(status: int, body: object) -> tuple[int, ProviderError]:
    """The error that a reply tells, and the status that it stands for."""
    data = (body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)).encode()
    if status != 200:
        return status, read_error(data)
    found = read_completion(HttpResponse(200, {}, data, 1.0), "host")
    assert isinstance(found, ProviderError), found
    return status_of(found), found


@pytest.mark.parametrize(("kind", "status", "body"), DIALECTS)
def test_error_is_about_what_its_words_and_its_status_say(kind: str, status: int, body: object):
    status, error = error_of(status, body)
    assert (unsupported_parameter(status, error, SENT) or classify_error(status, error)) == kind


@pytest.mark.parametrize("text", ["class Key", "def balance(self): quota", "select * from models"])
def test_code_that_an_error_repeats_is_not_about_key_funds_or_model(text: str):
    """Gateways repeat what they refuse; that a sample speaks of such things stops no run."""
    assert classify_error(*error_of(400, openai(f"cannot parse input: {text}"))) == "refused"
    assert classify_error(*error_of(403, HTML.replace("SQL", text))) == "unsure"


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (google(429, "slow", "RESOURCE_EXHAUSTED", {"@type": "x"}, RETRY_INFO), 4.5),
        (google(429, "Please retry in 34.074824224s.", "RESOURCE_EXHAUSTED"), 34.074824224),
        (openai("Limit 3, Used 3. Please try again in 1.2s. Visit our site."), 1.2),
        (openai("Please try again in 6m0s."), 360),
        (openai("Please try again in 20ms."), 0.02),
        (openai("Please retry after 21 seconds."), 21),
        (openai("Rate limited: retry after 20s"), 20),
        (openai("Too fast, wait 2 minutes"), 120),
        (openai("slow down", retry_after=7), 7),
        (openai("slow down", retry_after="7.5"), 7.5),
        (openai("slow down", retry_after_ms=1500), 1.5),
        ({"message": "You are being rate limited.", "retry_after": 0.5}, 0.5),
        (openai("slow", metadata={"headers": {"Retry-After": "3"}}), 3),
        (openai("slow", metadata={"retry_after_seconds": 12}), 12),
        (openai("slow", retry_after=-1), None),
        (openai("slow", retry_after=None), None),
        (openai("slow", retry_after=True), None),
        (openai("slow", retry_after=[3]), None),
        (openai("try again later"), None),
        (openai("I tried to retry 3 times"), None),
    ],
)
def test_wait_that_the_body_alone_tells_is_found(body: object, seconds: float | None):
    _, error = error_of(429, body)
    assert error.wait_s == (None if seconds is None else pytest.approx(seconds))
    assert retry_after_s({}, error.wait_s) == error.wait_s
    assert retry_after_s({"retry-after": "9"}, error.wait_s) == 9

"""Sends HTTP requests; returns the response or the reason for none. The only module that uses aiohttp."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import ssl
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from kbetl.client.endpoint import Endpoint, Limits
from kbetl.client.redaction import Redactor
from kbetl.client.responses import HttpResponse, one_line
from kbetl.client.sse import StreamAccumulator
from kbetl.client.unpacking import ACCEPTED, PIECE_BYTES, BrokenEncoding, BufferLimit, pieces
from kbetl.errors import ConfigError

EVENT_STREAM = "text/event-stream"
# From this size on aiohttp warns about a body that is one bytes object.
_LARGE_BYTES = 1 << 20
# Memory of all bodies that are being read; beyond it two are read further at a time.
_IN_FLIGHT_BYTES = 256 * 2**20


class NoResponse(NamedTuple):
    """Why a request got no response."""

    reason: str
    was_sent: bool
    """Whether the request may have reached the server, and so may be billed."""
    affects_all: bool = False
    """Whether every request would fail so: a proxy that requires a password."""
    was_silent: bool = False
    """Whether the server accepted the request and sent nothing until the timeout."""
    exceeded_timeout: bool = False
    """Whether the request ran into its time limit."""


class Transport:
    """An HTTP session with one endpoint, without cookies and redirects. The limiter bounds connections."""

    def __init__(
        self, endpoint: Endpoint, limits: Limits, on_text: Callable[[], None] = lambda: None
    ) -> None:
        """`on_text` is called when text of an answer arrives; blank text and comments do not count."""
        self._on_text = on_text
        self._url = URL(endpoint.url)
        self._body_max_bytes = limits.body_max_bytes
        self._is_streamed = endpoint.is_streamed
        proxy = _proxy_of(endpoint)
        self._redacted = Redactor([*endpoint.secrets, *(() if proxy is None else proxy.secrets)])
        self._proxy: dict[str, Any] = {} if proxy is None else proxy.arguments
        # Headers of the session would be sent to a proxy with CONNECT, the key among them.
        self._headers = CIMultiDict({"Content-Type": "application/json", "Accept": "application/json"})
        if endpoint.is_streamed:
            self._headers["Accept"] = f"{EVENT_STREAM}, application/json"
        self._headers["Accept-Encoding"] = ACCEPTED
        self._headers.update(endpoint.headers)
        self._buffer_limit = BufferLimit(_IN_FLIGHT_BYTES)
        if proxy is not None:
            self._headers.update(proxy.headers)
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=limits.timeout_s,
                sock_connect=limits.connect_timeout_s,
                sock_read=limits.idle_timeout_s,
            ),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def post(self, data: bytes) -> HttpResponse | NoResponse:
        """Posts a request body once; returns the response, also an incomplete one, or why there is none."""
        started = time.perf_counter()
        body = data if len(data) < _LARGE_BYTES else io.BytesIO(data)
        try:
            response = await self._session.post(
                self._url, data=body, headers=self._headers, allow_redirects=False, **self._proxy
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return no_response(error)
        if self._is_streamed and response.content_type == EVENT_STREAM:
            return await self._streamed(response, started)
        chunks: list[bytes] = []
        truncated, exceeded_timeout = None, False
        try:
            truncated = await self._read(response, chunks)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            size_bytes, ending = sum(map(len, chunks)), no_response(error)
            truncated, exceeded_timeout = _broke_off("body", size_bytes, ending), ending.exceeded_timeout
        except asyncio.CancelledError:
            response.close()
            raise
        if truncated is not None:
            response.close()
        latency_ms = (time.perf_counter() - started) * 1000
        headers, body = self._redacted.headers(response.headers), self._redacted(b"".join(chunks))
        return HttpResponse(response.status, headers, body, latency_ms, truncated, exceeded_timeout)

    async def _read(self, response: aiohttp.ClientResponse, chunks: list[bytes]) -> str | None:
        """Appends the body to `chunks`; returns why it is incomplete, None if it is complete."""
        with self._buffer_limit.buffer() as buffer:
            async for chunk in pieces(response):
                await buffer.reserve(len(chunk))
                chunks.append(chunk)
                if response.status < 300 and not chunk.isspace():
                    self._on_text()
                if buffer.size_bytes > self._body_max_bytes:
                    chunks[:] = [b"".join(chunks)[:PIECE_BYTES]]  # enough for the error message
                    return self._too_long(buffer.size_bytes)
        return None

    async def _streamed(self, response: aiohttp.ClientResponse, started: float) -> HttpResponse:
        """Returns the response that a stream of events adds up to, `truncated` if it breaks off."""
        stream, truncated, size_bytes, texts, exceeded_timeout = StreamAccumulator(), None, 0, 0, False
        try:
            with self._buffer_limit.buffer() as buffer:
                async for chunk in pieces(response):
                    await buffer.reserve(len(chunk))
                    stream.feed(chunk)
                    size_bytes = buffer.size_bytes
                    if stream.texts > texts:
                        texts = stream.texts
                        self._on_text()
                    truncated = stream.fault or self._too_long(size_bytes)
                    if truncated is not None:
                        break
            stream.end()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            ending = no_response(error)
            truncated, exceeded_timeout = _broke_off("stream", size_bytes, ending), ending.exceeded_timeout
        except asyncio.CancelledError:
            response.close()
            raise
        if truncated is None and not stream.is_complete:
            truncated = f"the stream ended after {size_bytes} bytes, before the answer did"
        elif stream.is_complete and stream.fault is None:
            truncated, exceeded_timeout = (
                None,
                False,
            )  # only what follows the answer is missing, such as usage
        if truncated is not None:
            response.close()
        latency_ms = (time.perf_counter() - started) * 1000
        body = self._redacted(stream.body())
        headers = self._redacted.headers(response.headers)
        return HttpResponse(response.status, headers, body, latency_ms, truncated, exceeded_timeout)

    def _too_long(self, size_bytes: int) -> str | None:
        if size_bytes <= self._body_max_bytes:
            return None
        return f"the body is longer than {self._body_max_bytes} bytes and was not read further"


class _Proxy(NamedTuple):
    """The proxy for an endpoint, and how its login is sent."""

    arguments: dict[str, Any]
    """Arguments of each aiohttp request. For https, the login is sent with CONNECT."""
    headers: dict[str, str]
    """Headers of each request. For http, the login is one of them."""
    secrets: tuple[str, ...] = ()
    """The password, and the login as it is sent."""


def _proxy_of(endpoint: Endpoint) -> _Proxy | None:
    """Returns the proxy that the environment names for this endpoint, respecting `no_proxy`; None if none.

    aiohttp's `trust_env` is not used: it also reads ~/.netrc, whose password would be sent to a host
    for which the user gave no key. Raises ConfigError if the proxy's address is no http address.
    """
    parts = urlsplit(endpoint.url)
    proxies = urllib.request.getproxies()
    address = proxies.get(parts.scheme) or proxies.get("all")
    if not address or urllib.request.proxy_bypass(parts.netloc):
        return None
    address = address if "://" in address else f"http://{address}"
    try:
        proxy = URL(address)
    except ValueError:
        proxy = URL()
    if proxy.scheme not in ("http", "https") or not proxy.host:
        raise ConfigError(
            f"the proxy that the environment names for {parts.scheme} addresses is no http proxy; "
            f"set {parts.scheme}_proxy to http://host:port, or no_proxy to {endpoint.host}"
        )
    if proxy.user is None:
        return _Proxy({"proxy": proxy}, {})
    login = base64.b64encode(f"{proxy.user}:{proxy.password or ''}".encode()).decode()
    headers = {"Proxy-Authorization": f"Basic {login}"}
    secrets = (login, proxy.password or "")
    proxy = proxy.with_user(None)
    if parts.scheme == "https":
        return _Proxy({"proxy": proxy, "proxy_headers": headers}, {}, secrets)
    return _Proxy({"proxy": proxy}, headers, secrets)


def no_response(error: Exception) -> NoResponse:
    """Returns an aiohttp exception in our words, because its own text may hold a URL with a password."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return NoResponse(
            f"its certificate is not trusted ({_ssl_reason(error.certificate_error)})", was_sent=False
        )
    if isinstance(error, aiohttp.ClientSSLError):
        return NoResponse(f"the TLS handshake failed ({_ssl_reason(error.os_error)})", was_sent=False)
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return NoResponse(f"the proxy cannot be reached ({_os_reason(error.os_error)})", was_sent=False)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return NoResponse(f"the host name cannot be resolved ({_os_reason(error.os_error)})", was_sent=False)
    if isinstance(error, aiohttp.ClientConnectorError):
        return NoResponse(f"no connection ({_os_reason(error.os_error)})", was_sent=False)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return NoResponse(
            f"the proxy answered {error.status}", was_sent=False, affects_all=error.status in (401, 403, 407)
        )
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return NoResponse("no connection in time", was_sent=False)
    is_late = isinstance(error, TimeoutError)
    # aiohttp raises ServerTimeoutError for silence; any other timeout is that of the request
    exceeded_timeout = is_late and not isinstance(error, aiohttp.ServerTimeoutError)
    return NoResponse(
        _broken_reason(error),
        was_sent=True,
        was_silent=is_late and not exceeded_timeout,
        exceeded_timeout=exceeded_timeout,
    )


def _broke_off(what: str, size_bytes: int, ending: NoResponse) -> str:
    return f"the {what} broke off after {size_bytes} bytes: {ending.reason}"


def _broken_reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ServerTimeoutError):
        return "it stayed silent for too long"
    if isinstance(error, TimeoutError):
        return "the whole request took longer than --request-timeout"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection ended early or the encoding is broken"
    if isinstance(error, aiohttp.ClientResponseError):
        return "what it sent is no HTTP"
    if isinstance(error, BrokenEncoding):
        return str(error)
    if isinstance(error, OSError):
        return f"the connection broke ({_os_reason(error)})"
    return f"the exchange broke ({type(error).__name__})"


def _os_reason(error: OSError) -> str:
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return one_line(error.strerror or type(error).__name__, 120).lower()


def _ssl_reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return one_line(error.verify_message, 120)
    reason = getattr(error, "reason", None)
    return one_line(reason, 120) if isinstance(reason, str) else type(error).__name__


class FileTransport(Transport):
    """An HTTP session for the other paths of an endpoint: files, batches, metrics. It retries nothing."""

    def __init__(self, endpoint: Endpoint, limits: Limits) -> None:
        super().__init__(endpoint, limits)
        self._base = URL(endpoint.base_url.rstrip("/"))
        self._plain_headers = CIMultiDict(self._headers)
        del self._plain_headers["Content-Type"]

    async def get(self, path: str, parameters: Mapping[str, str]) -> HttpResponse | NoResponse:
        """Gets a path with query parameters."""
        url = self._base.joinpath(*path.split("/")).with_query(parameters)
        return await self._exchange("GET", url, headers=self._plain_headers)

    async def post_json(self, path: str, data: bytes) -> HttpResponse | NoResponse:
        """Posts a JSON body."""
        return await self._exchange(
            "POST", self._base.joinpath(*path.split("/")), data=data, headers=self._headers
        )

    async def post_file(
        self, path: str, file: Path, name: str, fields: Mapping[str, str]
    ) -> HttpResponse | NoResponse:
        """Posts a file as a form, read from the disk as it is sent. Raises OSError if it cannot be read."""
        with file.open("rb") as opened:
            form = aiohttp.FormData(dict(fields))
            form.add_field("file", opened, filename=name, content_type="application/jsonl")
            url = self._base.joinpath(*path.split("/"))
            return await self._exchange("POST", url, data=form, headers=self._plain_headers)

    async def download(self, path: str, target: Path) -> HttpResponse | NoResponse:
        """Writes a body of status 200 to `target` and returns a response without body; else the error."""
        url = self._base.joinpath(*path.split("/"))
        return await self._exchange("GET", url, target, headers=self._plain_headers)

    async def _exchange(
        self, method: str, url: URL, target: Path | None = None, **arguments: Any
    ) -> HttpResponse | NoResponse:
        started = time.perf_counter()
        chunks: list[bytes] = []
        truncated = None
        try:
            async with self._session.request(
                method, url, allow_redirects=False, **arguments, **self._proxy
            ) as response:
                try:
                    if target is None or response.status != 200:
                        truncated = await self._read(response, chunks)
                    else:
                        await self._save(response, target)
                except (aiohttp.ClientError, TimeoutError) as error:
                    truncated = f"the body broke off: {no_response(error).reason}"
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            return no_response(error)
        latency_ms = (time.perf_counter() - started) * 1000
        body = self._redacted(b"".join(chunks))
        return HttpResponse(
            response.status, self._redacted.headers(response.headers), body, latency_ms, truncated
        )

    async def _save(self, response: aiohttp.ClientResponse, target: Path) -> None:
        """Writes the body to `target` without our own secrets, line by line: no secret has a line break."""
        partial_line = b""
        with target.open("wb") as file:
            async for chunk in pieces(response):
                lines, line_break, rest = chunk.rpartition(b"\n")
                if line_break:
                    file.write(self._redacted(partial_line + lines + line_break))
                    partial_line = rest
                else:
                    partial_line += chunk
            file.write(self._redacted(partial_line))

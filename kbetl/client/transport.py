"""One HTTP exchange: a body out, a reply or the reason for none back. The only place that knows aiohttp."""

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
from kbetl.client.unpacking import ACCEPTED, PIECE_BYTES, BrokenEncoding, Room, pieces
from kbetl.errors import ConfigError

EVENT_STREAM = "text/event-stream"
_LARGE_BYTES = 1 << 20
"""From here on aiohttp wants a body in parts; answers are read in such parts at most."""


_IN_FLIGHT_BYTES = 256 * 2**20
"""What all bodies that are being read may hold; beyond it two go on at a time."""


class NoResponse(NamedTuple):
    """An exchange that brought no reply."""

    reason: str
    was_sent: bool
    """Whether the request may have reached the server, and so may have been paid for."""
    for_all: bool = False
    """Whether it would be the same for every request: a proxy that wants a password."""
    was_silent: bool = False
    """Whether the server took the request and let the time pass."""
    was_overlong: bool = False
    """Whether the whole request took longer than it may."""


class Transport:
    """An HTTP session to one endpoint. No cookies, no redirects, no limit on connections but the gate's."""

    def __init__(
        self, endpoint: Endpoint, limits: Limits, on_text: Callable[[], None] = lambda: None
    ) -> None:
        """`on_text` is called when text of an answer comes; blanks and comments are none."""
        self._on_text = on_text
        self._url = URL(endpoint.url)
        self._body_max_bytes = limits.body_max_bytes
        self._is_streamed = endpoint.is_streamed
        proxy = _proxy_of(endpoint)
        self._redacted = Redactor([*endpoint.secrets, *(() if proxy is None else proxy.secrets)])
        self._proxy: dict[str, Any] = {} if proxy is None else proxy.arguments
        # Headers of the session would go to a proxy as well, ahead of an https exchange: the key with them.
        self._headers = CIMultiDict({"Content-Type": "application/json", "Accept": "application/json"})
        if endpoint.is_streamed:
            self._headers["Accept"] = f"{EVENT_STREAM}, application/json"
        self._headers["Accept-Encoding"] = ACCEPTED
        self._headers.update(endpoint.headers)
        self._room = Room(_IN_FLIGHT_BYTES)
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
        """Sends one request, once."""
        started = time.perf_counter()
        body = data if len(data) < _LARGE_BYTES else io.BytesIO(data)
        try:
            response = await self._session.post(
                self._url, data=body, headers=self._headers, allow_redirects=False, **self._proxy
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return no_reply(error)
        if self._is_streamed and response.content_type == EVENT_STREAM:
            return await self._streamed(response, started)
        chunks: list[bytes] = []
        cut, is_overlong = None, False
        try:
            cut = await self._read(response, chunks)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            size_bytes, ending = sum(map(len, chunks)), no_reply(error)
            cut, is_overlong = _broke_off("body", size_bytes, ending), ending.was_overlong
        except asyncio.CancelledError:
            response.close()
            raise
        if cut is not None:
            response.close()
        latency_ms = (time.perf_counter() - started) * 1000
        headers, body = self._redacted.headers(response.headers), self._redacted(b"".join(chunks))
        return HttpResponse(response.status, headers, body, latency_ms, cut, is_overlong)

    async def _read(self, response: aiohttp.ClientResponse, chunks: list[bytes]) -> str | None:
        """Gathers the body; why it is not whole, or None. Unlike `read` it keeps the start of a cut one."""
        with self._room.place() as place:
            async for chunk in pieces(response):
                await place.take(len(chunk))
                chunks.append(chunk)
                if response.status < 300 and not chunk.isspace():
                    self._on_text()
                if place.size_bytes > self._body_max_bytes:
                    chunks[:] = [b"".join(chunks)[:PIECE_BYTES]]  # nobody can read it; the rest is of no use
                    return self._too_long(place.size_bytes)
        return None

    async def _streamed(self, response: aiohttp.ClientResponse, started: float) -> HttpResponse:
        """The reply that a stream of events makes, put together; cut where it breaks off."""
        folding, cut, size_bytes, texts, is_overlong = StreamAccumulator(), None, 0, 0, False
        try:
            with self._room.place() as place:
                async for chunk in pieces(response):
                    await place.take(len(chunk))
                    folding.feed(chunk)
                    size_bytes = place.size_bytes
                    if folding.texts > texts:
                        texts = folding.texts
                        self._on_text()
                    cut = folding.fault or self._too_long(size_bytes)
                    if cut is not None:
                        break
            folding.end()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            ending = no_reply(error)
            cut, is_overlong = _broke_off("stream", size_bytes, ending), ending.was_overlong
        except asyncio.CancelledError:
            response.close()
            raise
        if cut is None and not folding.is_whole:
            cut = f"the stream ended after {size_bytes} bytes, before the answer did"
        elif folding.is_whole and folding.fault is None:
            cut, is_overlong = None, False  # only what follows the answer is missing, such as its usage
        if cut is not None:
            response.close()
        latency_ms = (time.perf_counter() - started) * 1000
        body = self._redacted(folding.body())
        headers = self._redacted.headers(response.headers)
        return HttpResponse(response.status, headers, body, latency_ms, cut, is_overlong)

    def _too_long(self, size_bytes: int) -> str | None:
        if size_bytes <= self._body_max_bytes:
            return None
        return f"the body is longer than {self._body_max_bytes} bytes and was not read further"


class _Proxy(NamedTuple):
    """Where a proxy is, and how its login goes out."""

    arguments: dict[str, Any]
    """Of each request: the login goes to the proxy with CONNECT, ahead of an https exchange."""
    headers: dict[str, str]
    """Of each request as well: an http request is handed to the proxy itself, login and all."""
    secrets: tuple[str, ...] = ()
    """The password, and the login as it is sent."""


def _proxy_of(endpoint: Endpoint) -> _Proxy | None:
    """The proxy that the environment names for this endpoint; `no_proxy` counts.

    Read once: aiohttp's own `trust_env` reads it for each request, and ~/.netrc with it, whose
    password would go to a host that was given no key.
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


def no_reply(error: Exception) -> NoResponse:
    """An exception of the exchange in our words: its own text may hold addresses with passwords."""
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
            f"the proxy answered {error.status}", was_sent=False, for_all=error.status in (401, 403, 407)
        )
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return NoResponse("no connection in time", was_sent=False)
    is_late = isinstance(error, TimeoutError)
    # aiohttp has a class of its own for the silences that it measures; the rest is the whole request's
    is_overlong = is_late and not isinstance(error, aiohttp.ServerTimeoutError)
    return NoResponse(
        _broken_reason(error),
        was_sent=True,
        was_silent=is_late and not is_overlong,
        was_overlong=is_overlong,
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
    """The same session for other paths of the same endpoint; each exchange happens once."""

    def __init__(self, endpoint: Endpoint, limits: Limits) -> None:
        super().__init__(endpoint, limits)
        self._base = URL(endpoint.base_url.rstrip("/"))
        self._plain_headers = CIMultiDict(self._headers)
        del self._plain_headers["Content-Type"]

    async def get(self, path: str, parameters: Mapping[str, str]) -> HttpResponse | NoResponse:
        """Asks for something."""
        url = self._base.joinpath(*path.split("/")).with_query(parameters)
        return await self._exchange("GET", url, headers=self._plain_headers)

    async def post_json(self, path: str, data: bytes) -> HttpResponse | NoResponse:
        """Sends a JSON body."""
        return await self._exchange(
            "POST", self._base.joinpath(*path.split("/")), data=data, headers=self._headers
        )

    async def post_file(
        self, path: str, file: Path, name: str, fields: Mapping[str, str]
    ) -> HttpResponse | NoResponse:
        """Sends a file as a form, from the disk. Raises OSError where it cannot be read."""
        with file.open("rb") as opened:
            form = aiohttp.FormData(dict(fields))
            form.add_field("file", opened, filename=name, content_type="application/jsonl")
            url = self._base.joinpath(*path.split("/"))
            return await self._exchange("POST", url, data=form, headers=self._plain_headers)

    async def download(self, path: str, target: Path) -> HttpResponse | NoResponse:
        """Writes a body of status 200 to `target`; the reply's own is empty then, or says the error."""
        url = self._base.joinpath(*path.split("/"))
        return await self._exchange("GET", url, target, headers=self._plain_headers)

    async def _exchange(
        self, method: str, url: URL, target: Path | None = None, **arguments: Any
    ) -> HttpResponse | NoResponse:
        started = time.perf_counter()
        chunks: list[bytes] = []
        cut = None
        try:
            async with self._session.request(
                method, url, allow_redirects=False, **arguments, **self._proxy
            ) as response:
                try:
                    if target is None or response.status != 200:
                        cut = await self._read(response, chunks)
                    else:
                        await self._save(response, target)
                except (aiohttp.ClientError, TimeoutError) as error:
                    cut = f"the body broke off: {no_reply(error).reason}"
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            return no_reply(error)
        latency_ms = (time.perf_counter() - started) * 1000
        body = self._redacted(b"".join(chunks))
        return HttpResponse(response.status, self._redacted.headers(response.headers), body, latency_ms, cut)

    async def _save(self, response: aiohttp.ClientResponse, target: Path) -> None:
        """Line by line, without our own secrets: what a service echoes is read into the store later."""
        begun = b""  # of a line that is not whole yet; no secret holds a line break
        with target.open("wb") as file:
            async for chunk in pieces(response):
                whole, line_break, rest = chunk.rpartition(b"\n")
                if line_break:
                    file.write(self._redacted(begun + whole + line_break))
                    begun = rest
                else:
                    begun += chunk
            file.write(self._redacted(begun))

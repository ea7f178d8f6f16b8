"""Exchanges with the files and batches of a service: multipart out, files back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from kbetl.client.endpoint import Endpoint, Limits
from kbetl.client.reading import Reply
from kbetl.client.unpacking import pieces
from kbetl.client.wire import NoReply, Wire, no_reply


class FilesWire(Wire):
    """The same session for other paths of the same endpoint; each exchange happens once."""

    def __init__(self, endpoint: Endpoint, limits: Limits) -> None:
        super().__init__(endpoint, limits)
        self._base = URL(endpoint.base_url.rstrip("/"))
        self._plain_headers = CIMultiDict(self._headers)
        del self._plain_headers["Content-Type"]

    async def get(self, path: str, parameters: Mapping[str, str]) -> Reply | NoReply:
        """Asks for something."""
        url = self._base.joinpath(*path.split("/")).with_query(parameters)
        return await self._exchange("GET", url, headers=self._plain_headers)

    async def post_json(self, path: str, data: bytes) -> Reply | NoReply:
        """Sends a JSON body."""
        return await self._exchange(
            "POST", self._base.joinpath(*path.split("/")), data=data, headers=self._headers
        )

    async def post_file(self, path: str, file: Path, name: str, fields: Mapping[str, str]) -> Reply | NoReply:
        """Sends a file as a form, from the disk. Raises OSError where it cannot be read."""
        with file.open("rb") as opened:
            form = aiohttp.FormData(dict(fields))
            form.add_field("file", opened, filename=name, content_type="application/jsonl")
            url = self._base.joinpath(*path.split("/"))
            return await self._exchange("POST", url, data=form, headers=self._plain_headers)

    async def download(self, path: str, target: Path) -> Reply | NoReply:
        """Writes a body of status 200 to `target`; the reply's own is empty then, or says the error."""
        url = self._base.joinpath(*path.split("/"))
        return await self._exchange("GET", url, target, headers=self._plain_headers)

    async def _exchange(
        self, method: str, url: URL, target: Path | None = None, **arguments: Any
    ) -> Reply | NoReply:
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
        return Reply(response.status, self._redacted.headers(response.headers), body, latency_ms, cut)

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

"""The least that each stage has to do, written plainly; each runs as a process of its own.

python -m tests.bench.floors NAME ARGUMENT...
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

GOOD_REWARD = 0.85
COMMIT_S = 0.05
BATCH_BYTES = 16 * 2**20


def ingest(source: str, database: str) -> None:
    """Parse, canonical text, hash, one insert a row: 16 KB pages, a rollback journal."""
    import orjson

    store = sqlite3.connect(database, isolation_level=None)
    store.execute("pragma page_size = 16384")
    store.execute("create table rows (hash text primary key, name text, reward real, row text)")
    insert, size = "insert or ignore into rows values (?, ?, ?, cast(? as text))", 0
    store.execute("begin")
    with open(source, "rb") as file:
        for line in file:
            row = orjson.loads(line)
            key = hashlib.sha256(orjson.dumps(row, option=orjson.OPT_SORT_KEYS)).hexdigest()
            store.execute(insert, (key, row["info"]["module_name"], row["reward"], line))
            size += len(line)
            if size > BATCH_BYTES:
                store.execute("commit")
                store.execute("begin")
                size = 0
    store.execute("commit")


def hash_lines(source: str) -> None:
    """Reads and hashes each line."""
    with open(source, "rb") as file:
        for line in file:
            hashlib.sha256(line).digest()


def questions(source: str) -> Iterator[str]:
    import orjson

    template = (Path(__file__).parents[2] / "data" / "tasks" / "difficulty.md").read_text().split("+++")[2]
    with open(source, "rb") as file:
        for line in file:
            row = orjson.loads(line)
            if row["reward"] > GOOD_REWARD:
                text = template
                for name in ("module_name", "python_code"):
                    text = text.replace(f"{{{{ {name} }}}}", row["info"][name])
                yield text.replace("{{ completion }}", row["completion"][0]["content"])


def ask(source: str, url: str, concurrency: str, database: str = "") -> None:
    """Sends each question by aiohttp; with a database, keeps question and answer, a commit every 50 ms."""
    asyncio.run(_ask(questions(source), url, int(concurrency), database))


async def _ask(questions: Iterator[str], url: str, concurrency: int, database: str) -> None:
    import aiohttp
    import orjson

    waiting: list[tuple[str, bytes, bytes, asyncio.Future[None]]] = []
    store = sqlite3.connect(database or ":memory:", isolation_level=None)
    store.execute("pragma page_size = 16384")
    store.execute("pragma journal_mode = wal")
    store.execute("pragma synchronous = full")
    store.execute("create table answers (hash text primary key, request text, response text)")

    async def work(session: aiohttp.ClientSession) -> None:
        for question in questions:
            body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": question}]})
            headers = {"Content-Type": "application/json"}
            async with session.post(f"{url}/chat/completions", data=body, headers=headers) as reply:
                response = await reply.read()
            assert "high" in orjson.loads(response)["choices"][0]["message"]["content"]
            if database:
                durable = asyncio.get_running_loop().create_future()
                waiting.append((hashlib.sha256(body).hexdigest(), body, response, durable))
                await durable

    def commit() -> None:
        batch = waiting[:]
        waiting.clear()
        store.execute("begin")
        rows = ((key, body.decode(), text.decode()) for key, body, text, _ in batch)
        store.executemany("insert or ignore into answers values (?, ?, ?)", rows)
        store.execute("commit")
        for *_, durable in batch:
            durable.set_result(None)

    async def write() -> None:
        while True:
            await asyncio.sleep(COMMIT_S)
            commit()

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        writer = asyncio.create_task(write())
        await asyncio.gather(*(work(session) for _ in range(concurrency)))
        writer.cancel()


def tokens(source: str, tokenizer: str) -> None:
    """Counts the tokens of all messages of each row, 64 rows at a time."""
    from tokenizers import Tokenizer

    reader, texts = Tokenizer.from_file(f"{tokenizer}/tokenizer.json"), []
    with open(source, "rb") as file:
        for line in file:
            row = json.loads(line)
            said = row["completion"][0]
            texts.append(row["prompt"][0]["content"] + said["reasoning_content"] + said["content"])
            if len(texts) == 64:
                sum(len(each) for each in reader.encode_batch_fast(texts))
                texts = []
    sum(len(each) for each in reader.encode_batch_fast(texts))


def copy(source: str, target: str) -> None:
    """Copies the bytes."""
    with open(source, "rb") as reader, open(target, "wb") as writer:
        shutil.copyfileobj(reader, writer, 2**20)


def parquet(source: str, target: str) -> None:
    """A JSONL file as Parquet by pyarrow, in pieces."""
    from pyarrow import json as arrow_json
    from pyarrow import parquet as arrow_parquet

    options = arrow_json.ReadOptions(block_size=16 * 2**20)
    reader = arrow_json.open_json(source, read_options=options)
    with reader, arrow_parquet.ParquetWriter(target, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)


FLOORS = (ingest, hash_lines, ask, tokens, copy, parquet)

if __name__ == "__main__":
    next(each for each in FLOORS if each.__name__ == sys.argv[1])(*sys.argv[2:])

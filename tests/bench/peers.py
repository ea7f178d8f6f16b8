"""The same work by other tools, as their documentation shows it; each runs as a process of its own.

    python -m tests.bench.peers NAME ARGUMENT...

`pip install -e '.[bench]'` installs them; one that is not there is left out.
"""

from __future__ import annotations

import asyncio
import json
import sys

from tests.bench.floors import questions


def ingest_sqlite_utils(source: str, database: str) -> None:
    """Rows by the hash of their content."""
    import sqlite_utils

    with open(source) as file:
        sqlite_utils.Database(database)["rows"].insert_all(
            (json.loads(line) for line in file), hash_id="id", ignore=True
        )


def ingest_duckdb(source: str, database: str) -> None:
    """Rows without equal ones."""
    import duckdb

    duckdb.connect(database).execute(
        "create table rows as select distinct * from read_json(?, format = 'newline_delimited')", [source]
    )


def ingest_datasets(source: str, database: str) -> None:
    """All rows, without a key."""
    import datasets

    datasets.load_dataset("json", data_files=source, split="train", cache_dir=f"{database}.cache")


def ask_openai(source: str, url: str, concurrency: str, _: str = "") -> None:
    """The original way: all questions gathered behind a semaphore, answers in memory."""
    from openai import AsyncOpenAI

    async def ask() -> None:
        client, limit = AsyncOpenAI(base_url=url, api_key="none"), asyncio.Semaphore(int(concurrency))

        async def one(question: str) -> str | None:
            async with limit:
                reply = await client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": question}]
                )
            return reply.choices[0].message.content

        await asyncio.gather(*(one(question) for question in questions(source)))

    asyncio.run(ask())


def tokens_transformers(source: str, tokenizer: str) -> None:
    """The original way: one text after the other."""
    from transformers import AutoTokenizer

    reader = AutoTokenizer.from_pretrained(tokenizer)
    with open(source) as file:
        for line in file:
            row = json.loads(line)
            len(reader.apply_chat_template([*row["prompt"], *row["completion"]], tokenize=True))


def jsonl_datasets(source: str, target: str) -> None:
    """A data set written as JSONL."""
    import datasets

    datasets.load_dataset("json", data_files=source, split="train", cache_dir=f"{target}.cache").to_json(
        target
    )


def parquet_datasets(source: str, target: str) -> None:
    """A data set written as Parquet."""
    import datasets

    datasets.load_dataset("json", data_files=source, split="train", cache_dir=f"{target}.cache").to_parquet(
        target
    )


def parquet_pandas(source: str, target: str) -> None:
    """A table in memory written as Parquet."""
    import pandas

    pandas.read_json(source, lines=True).to_parquet(target)


PEERS = (
    ingest_sqlite_utils,
    ingest_duckdb,
    ingest_datasets,
    ask_openai,
    tokens_transformers,
    jsonl_datasets,
    parquet_datasets,
    parquet_pandas,
)
"""The work, then the tool."""

if __name__ == "__main__":
    next(each for each in PEERS if each.__name__ == sys.argv[1])(*sys.argv[2:])

"""Finds the price of a model's tokens, in kbetl.toml or in the price list of genai-prices.

Amounts are whole picodollars (1e-12 US dollars), so that a price per token is an integer and sums of many
small costs are exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kbetl import config
from kbetl.errors import ConfigError

PUSD_PER_USD = 10**12
_PUSD_PER_TOKEN = 10**6
# US dollars per million tokens; a higher price is a typing error.
_MAX_USD = 1e6

_INPUT = "input-usd-per-million-tokens"
_CACHED = "cached-input-usd-per-million-tokens"
_OUTPUT = "output-usd-per-million-tokens"


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens."""

    input_usd: float
    cached_input_usd: float
    """Price of prompt tokens that the server had in its cache."""
    output_usd: float
    """Price of completion tokens, reasoning included."""
    source: str
    """`kbetl.toml`, or the price list and its version."""
    below_prompt_tokens: int | None = None
    """The price holds only for prompts with fewer tokens; None if it holds for all."""

    def cost_pusd(self, fresh_tokens: int, cached_tokens: int, completion_tokens: int) -> int:
        """Returns the cost in picodollars of uncached and cached prompt tokens and of completion tokens."""
        return (
            fresh_tokens * _per_token(self.input_usd)
            + cached_tokens * _per_token(self.cached_input_usd)
            + completion_tokens * _per_token(self.output_usd)
        )

    def most_pusd(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Returns the most, in picodollars, that the tokens can cost, cached or not."""
        return max(
            self.cost_pusd(prompt_tokens, 0, completion_tokens),
            self.cost_pusd(0, prompt_tokens, completion_tokens),
        )

    def covers(self, prompt_tokens: int) -> bool:
        """Whether the price holds for a prompt of this length."""
        return self.below_prompt_tokens is None or prompt_tokens < self.below_prompt_tokens


def _per_token(usd_per_million: float) -> int:
    return round(usd_per_million * _PUSD_PER_TOKEN)


def usd(pusd: float) -> float:
    """Converts picodollars to US dollars."""
    return pusd / PUSD_PER_USD


def pusd_of(dollars: float) -> int:
    """Converts US dollars to picodollars."""
    return round(dollars * PUSD_PER_USD)


def find_price(model: str, base_url: str) -> Price | None:
    """Returns the price of a model in kbetl.toml, else in the price list for this address, else None.

    The price of the same model at another host is not used. Raises ConfigError for an invalid kbetl.toml.
    """
    own = check_prices(config.load_toml().get("prices", {})).get(model)
    return own or _listed(model, base_url)


def how_to_price(model: str) -> str:
    """Returns what to write into kbetl.toml, for messages."""
    return f'put [prices."{model}"] with {_INPUT} and {_OUTPUT} into {config.TOML}'


def check_prices(tables: Any) -> dict[str, Price]:
    """Returns the prices of kbetl.toml by model. Raises ConfigError for an invalid one."""
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ConfigError(f'{config.TOML}: prices are tables, one for each model: [prices."owner/model"]')
    return {model: _own(model, table) for model, table in tables.items()}


def _own(model: str, table: Mapping[str, Any]) -> Price:
    where = f"{config.TOML}: [prices.{model!r}]"
    named = {key.replace("_", "-"): value for key, value in table.items()}
    unknown = next((key for key in named if key not in (_INPUT, _CACHED, _OUTPUT)), None)
    if unknown is not None:
        raise ConfigError(f"{where} has no {unknown!r}; it knows {_INPUT}, {_CACHED} and {_OUTPUT}")
    for key in (_INPUT, _OUTPUT):
        if key not in named:
            raise ConfigError(f"{where} lacks {key}")
    for key, value in named.items():
        if type(value) not in (int, float) or not (math.isfinite(value) and 0 <= value <= _MAX_USD):
            raise ConfigError(f"{where} {key} is {value!r}; it must be a number from 0 to {_MAX_USD:,.0f}")
    given = {key: float(value) for key, value in named.items()}
    return Price(given[_INPUT], given.get(_CACHED, given[_INPUT]), given[_OUTPUT], str(config.TOML))


def _listed(model: str, base_url: str) -> Price | None:
    """Returns the price in genai-prices (the extra `kbetl[prices]`), without network; None if not listed."""
    try:
        import genai_prices
    except ImportError:
        return None
    try:
        found = genai_prices.calc_price(
            genai_prices.Usage(input_tokens=1, output_tokens=1), model, provider_api_url=base_url
        )
    except (LookupError, ValueError):
        return None
    listed = found.model_price
    if listed.input_mtok is None or listed.output_mtok is None or listed.requests_kcount is not None:
        return None  # not priced by tokens alone
    cached = listed.input_mtok if listed.cache_read_mtok is None else listed.cache_read_mtok
    prices: list[Any] = [listed.input_mtok, cached, listed.output_mtok]
    starts = [tier.start for price in prices for tier in getattr(price, "tiers", ())]
    source = f"genai-prices {genai_prices.__version__}: {found.provider.id}, {found.model.id}"
    input_usd, cached_input_usd, output_usd = (float(getattr(price, "base", price)) for price in prices)
    return Price(input_usd, cached_input_usd, output_usd, source, min(starts, default=None))

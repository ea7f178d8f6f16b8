"""What would stop a run before it asks, found without a sample."""

from __future__ import annotations

from kbetl import offline
from kbetl.asking.addresses import check_address, endpoint_at
from kbetl.enrich.options import Options
from kbetl.enrich.planning import check_choosing, model_name
from kbetl.store import Store, check_conditions
from kbetl.store.datasets import source_ids
from kbetl.tasks import load_task


def check_ready(options: Options, store: Store | None = None) -> None:
    """Raises what a run with these options would raise before it asks, key and headers included.

    Without a store its sources are not looked at.
    """
    check_choosing(options)
    check_address(options.base_url)
    task = load_task(options.task)
    task.with_parameters(options.parameters)
    model = model_name(options.model, task.name)
    check_conditions([each for each in (task.where, options.where) if each is not None])
    if store is not None:
        source_ids(store, options.sources)
    if model != offline.MODEL:
        endpoint_at(options.base_url, options.api_key_var, options.headers)

"""One HTML file with the figures of a store: `kbetl report`. Queries become figures, figures a page."""

"""Figures as plain inline SVG: bars, columns, curves, each with its table. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kbetl.report.markup import Content, Markup, cut, details, join, paragraph, table, tag

# Width of a figure in units of its own; the page scales it.
WIDTH = 720
# The last one is grey: for what is beyond the others, and what there is nothing to say of.
COLOURS = 6
_NAME_WIDTH, _COUNT_WIDTH, _BAR = 190, 120, 22
_PLOT_HEIGHT, _LEFT, _TOP, _BOTTOM = 180, 46, 18, 34
_NAME_CHARACTERS = 28


@dataclass(frozen=True, slots=True)
class Bar:
    """One horizontal bar."""

    name: str
    value: float
    text: str
    """What stands outside the bar: the count with its unit."""
    colour: int = 0


@dataclass(frozen=True, slots=True)
class Columns:
    """A histogram: for each bin its lower edge, and how many of each series are in it."""

    edges: Sequence[float]
    """One more than there are bins."""
    series: Mapping[str, Sequence[int]]
    """Counts by name of the series, one for each bin, in the order in which they are stacked."""
    unit: str
    mark: float | None = None
    """Where a line stands, such as the threshold; None: nowhere."""
    colours: Sequence[int] = range(COLOURS)
    """The colour of each series."""


def figure(title: str, drawing: Markup, data: Markup, *notes: str, legend: Markup | None = None) -> Markup:
    """Returns a drawing with its title, legend, notes, and the table of its numbers folded below."""
    caption = tag("figcaption", title)
    scrolled = tag("div", drawing, class_="scroll", tabindex="0", role="region", aria_label=title)
    said = [paragraph(note, class_="note") for note in notes]
    return tag("figure", caption, legend, scrolled, *said, details("Table of this figure", data))


def bars(title: str, rows: Sequence[Bar]) -> Markup:
    """Returns horizontal bars with names on the left and counts outside, on the right."""
    widest = max((row.value for row in rows), default=0) or 1
    space = WIDTH - _NAME_WIDTH - _COUNT_WIDTH
    drawn = []
    for number, row in enumerate(rows):
        y = number * (_BAR + 6) + 4
        width = space * row.value / widest
        drawn += [
            _text(_NAME_WIDTH - 8, y + 15, cut_name(row.name), "end"),
            tag(
                "rect",
                x=_NAME_WIDTH,
                y=y,
                width=_at(width and max(width, 1)),
                height=_BAR,
                class_=_colour(row.colour),
            ),
            _text(_NAME_WIDTH + width + 6, y + 15, row.text),
        ]
    return _svg(title, len(rows) * (_BAR + 6) + 8, drawn)


def columns(title: str, given: Columns, *, width: int = WIDTH, height: int = _PLOT_HEIGHT) -> Markup:
    """Returns a stacked histogram with an axis, a count above each column, and a line at the mark."""
    totals = [sum(counts) for counts in zip(*given.series.values(), strict=True)]
    highest = max(totals, default=0) or 1
    step = (width - _LEFT - 10) / max(len(totals), 1)
    base = _TOP + height
    drawn = [*_height_axis(highest, height, width)]
    for number, total in enumerate(totals):
        x, y = _LEFT + number * step, float(base)
        for series, counts in enumerate(given.series.values()):
            tall = height * counts[number] / highest
            y -= tall
            if tall:
                drawn.append(
                    tag(
                        "rect",
                        x=_at(x + 1),
                        y=_at(y),
                        width=_at(step - 2),
                        height=_at(tall),
                        class_=_colour(_nth(given.colours, series)),
                    )
                )
        if total and width == WIDTH:
            drawn.append(_text(x + step / 2, y - 3, f"{total:,}", "middle", "count"))
    drawn += _bin_axis(given.edges, step, base, width)
    if given.mark is not None and given.edges[0] <= given.mark <= given.edges[-1]:
        x = _LEFT + (given.mark - given.edges[0]) / (given.edges[-1] - given.edges[0]) * step * len(totals)
        drawn += [
            _line(x, _TOP - 8, x, base, "mark"),
            _text(x + 4, _TOP - 6, f"{given.mark:g}", class_="count"),
        ]
    drawn.append(_text(_LEFT + (width - _LEFT) / 2, base + 30, given.unit, "middle", "unit"))
    return _svg(title, base + _BOTTOM, drawn, width=width)


def curves(
    title: str, lines: Mapping[str, Sequence[tuple[int, float]]], marks: Iterable[int], unit: str
) -> Markup:
    """Returns cumulative curves, points of (x, share 0 to 1), over a logarithmic axis; lines at the marks."""
    every = [x for points in lines.values() for x, _ in points]
    low, high = math.log2(min(every)), math.log2(max(*every, min(every) + 1))
    base, space = _TOP + _PLOT_HEIGHT, WIDTH - _LEFT - 20

    def across(x: float) -> float:
        return _LEFT + (math.log2(x) - low) / (high - low) * space

    drawn = []
    for percent in (0, 25, 50, 75, 100):
        y = base - _PLOT_HEIGHT * percent / 100
        drawn += [
            _line(_LEFT, y, WIDTH - 20, y, "grid"),
            _text(_LEFT - 6, y + 4, f"{percent} %", "end", "tick"),
        ]
    for power in range(math.ceil(low), math.floor(high) + 1):
        drawn += [_line(across(2**power), base, across(2**power), base + 4, "axis")]
        drawn += [_text(across(2**power), base + 16, f"{2**power:,}", "middle", "tick")]
    for colour, points in enumerate(lines.values()):
        path = " ".join(f"{_at(across(x))},{_at(base - _PLOT_HEIGHT * share)}" for x, share in points)
        drawn.append(tag("polyline", points=path, class_=f"curve {_stroke(colour)}"))
    for mark in marks:
        if 2**low <= mark <= 2**high:
            drawn += [_line(across(mark), _TOP - 6, across(mark), base, "mark")]
            drawn += [_text(across(mark) - 3, _TOP - 6, f"{mark:,}", "end", "count")]
    drawn.append(_text(_LEFT + space / 2, base + 31, unit, "middle", "unit"))
    return _svg(title, base + _BOTTOM, drawn)


def legend(counts: Mapping[str, str], colours: Sequence[int] = range(COLOURS)) -> Markup:
    """Returns the names of the series with their colours and counts, in their order."""
    return tag(
        "ul",
        *(
            tag(
                "li",
                tag("span", "", class_=f"key {_key(_nth(colours, series))}"),
                f"{cut(name, 60)}{count and ' '}{count}",
            )
            for series, (name, count) in enumerate(counts.items())
        ),
        class_="legend",
    )


def bins(lowest: float, highest: float, most: int = 20) -> list[float]:
    """Returns the edges of at most so many bins of a round width, which cover the range.

    >>> bins(0, 0.4, 4)
    [0.0, 0.1, 0.2, 0.3, 0.4]
    """
    rough = (highest - lowest) / most or 0.05
    power = 10 ** math.floor(math.log10(rough))
    for factor in (1, 2, 2.5, 5, 10, 20):
        width = factor * power
        first = math.floor(lowest / width + 1e-9)
        count = max(1, math.ceil(highest / width - first - 1e-9))
        if count <= most:
            break
    return [round((first + number) * width, 12) for number in range(count + 1)]


def columns_table(title: str, given: Columns) -> Markup:
    """Returns the numbers of a histogram."""
    names = ["from", "to", *given.series]
    rows: list[list[Content]] = [
        [f"{low:g}", f"{high:g}", *(counts[number] for counts in given.series.values())]
        for number, (low, high) in enumerate(zip(given.edges, given.edges[1:], strict=False))
    ]
    return table(title, names, rows)


def cut_name(name: str) -> str:
    """A name as it fits beside a bar."""
    return name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"


def _svg(title: str, height: float, drawn: Iterable[Markup], *, width: int = WIDTH) -> Markup:
    box = f"0 0 {width} {_at(height)}"
    content = join(drawn, "\n")
    return tag(
        "svg",
        tag("title", title),
        content,
        viewBox=box,
        role="img",
        class_="wide" if width == WIDTH else "small",
    )


def _height_axis(highest: float, height: int, width: int) -> Iterable[Markup]:
    for tick in bins(0, highest, 4):
        if tick <= highest and (tick == int(tick)):
            y = _TOP + height - height * tick / highest
            yield _line(_LEFT, y, width - 10, y, "grid")
            yield _text(_LEFT - 6, y + 4, f"{tick:,.0f}", "end", "tick")


def _bin_axis(edges: Sequence[float], step: float, base: float, width: int) -> Iterable[Markup]:
    every = max(1, math.ceil(40 / step))
    yield _line(_LEFT, base, width - 10, base, "axis")
    for number in range(0, len(edges), every):
        x = _LEFT + number * step
        yield _line(x, base, x, base + 4, "axis")
        yield _text(x, base + 16, f"{edges[number]:g}", "middle", "tick")


def _text(x: float, y: float, text: str, anchor: str | None = None, class_: str | None = None) -> Markup:
    return tag("text", text, x=_at(x), y=_at(y), text_anchor=anchor, class_=class_)


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return tag("line", x1=_at(x1), y1=_at(y1), x2=_at(x2), y2=_at(y2), class_=class_)


def _at(value: float) -> str:
    """A coordinate in tenths: the same bytes on every machine, and few of them."""
    return f"{value:.1f}".removesuffix(".0")


def _nth(colours: Sequence[int], number: int) -> int:
    """The colour of a series; grey beyond the colours that there are."""
    return colours[number] if number < len(colours) else COLOURS - 1


def _colour(number: int) -> str:
    return f"f{min(number, COLOURS - 1)}"


def _stroke(number: int) -> str:
    return f"s{min(number, COLOURS - 1)}"


def _key(number: int) -> str:
    return f"k{min(number, COLOURS - 1)}"

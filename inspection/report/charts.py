"""Charts as inline SVG: a histogram, bars, and lines. Colours come from the page's style sheet."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 360, 190  # user units; about the pixels of a card, so that the text keeps its size
LEFT, RIGHT, TOP, BOTTOM = 40, 10, 12, 34  # room for the axes
COLOURS = 8  # the style sheet has .c0 to .c7

ROUND = (1, 2, 2.5, 5)  # steps that a reader counts in
CLOSE = (1, 1.2, 1.6, 2, 2.5, 3, 4, 5, 6, 8)  # tops of an axis, so that the highest bar fills most of it

Point = tuple[float, float]


def histogram(counts: Sequence[int], edges: Sequence[float], label: str, colour: int = 0) -> Markup:
    """Bars of `counts`. Bar i spans edges[i] to edges[i + 1]. label: what the numbers along the bottom are."""
    frame = Frame(edges[0], edges[-1], 0, nice_ceiling(max(counts, default=0), CLOSE))
    shape = Markup(
        '<rect class="c{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="1.5"><title>{}</title></rect>'
    )
    parts = [_axes(frame, label, whole=True)]
    for i, count in enumerate(counts):
        left, right = frame.x(edges[i]), frame.x(edges[i + 1])
        margin, height = 0.06 * (right - left), HEIGHT - BOTTOM - frame.y(count)
        height = max(height, 1.5 if count else 0)  # a rare value is still seen
        title = f"{span(edges[i], edges[i + 1])}: {count:,}"
        parts.append(
            shape.format(colour, left + margin, HEIGHT - BOTTOM - height, right - left - 2 * margin, height, title)
        )
    return _svg(parts, f"Histogram of {label}: {sum(counts):,} values", HEIGHT)


def bars(items: Sequence[tuple[str, float]], label: str, colour: int = 0) -> Markup:
    """One horizontal bar an item, its name before it and its value behind it, in the order given."""
    row, names, values = 22, 112, 52
    top = max((value for _, value in items), default=0) or 1
    name_shape = Markup('<title>{}</title><text class="name" x="{}" y="{}" text-anchor="end">{}</text>')
    bar_shape = Markup(
        '<rect class="c{}" x="{}" y="{}" width="{:.1f}" height="14" rx="2"/><text x="{:.1f}" y="{}">{}</text>'
    )
    parts = []
    for i, (name, value) in enumerate(items):
        y, length = i * row, max((WIDTH - names - values) * value / top, 1.5)
        shown = name if len(name) <= 17 else name[:16] + "…"
        text = name_shape.format(f"{name}: {number(value)}", names - 8, y + 15, shown)
        bar = bar_shape.format(colour, names, y + 4, length, names + length + 6, y + 15, number(value))
        parts.append(Markup("<g>{}{}</g>").format(text, bar))
    return _svg(parts, f"Bars of {label}: {len(items)} items", max(len(items), 1) * row)


def lines(
    series: Mapping[str, Sequence[Point]],
    label: str,
    limits: tuple[Point, Point] | None = None,
    styles: Mapping[str, str] | None = None,
) -> Markup:
    """One line a series of (x, y) points; label says what x is. A y that is NaN or infinite is left out.

    limits: the lower left and the upper right corner of the frame; without them it holds all points and y = 0.
    styles: the class of each series in the style sheet; without them each has a colour of its own.
    """
    series = {name: thin([point for point in line if math.isfinite(point[1])]) for name, line in series.items()}
    points = [point for line in series.values() for point in line]
    if not points:
        return _svg([Markup('<text x="180" y="95" text-anchor="middle">no values</text>')], f"No {label}", HEIGHT)
    (x0, y0), (x1, y1) = limits or _around(points)
    frame = Frame(x0, x1, y0, y1)
    parts = [_axes(frame, label, whole=False)]
    shape = Markup('<polyline class="{}" points="{}"><title>{}</title></polyline>')
    for i, (name, line) in enumerate(series.items()):
        drawn = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in line)
        parts.append(shape.format(styles[name] if styles else f"l{i % COLOURS}", drawn, name))
    return _svg(parts, f"Lines over {label}: {', '.join(series)}", HEIGHT)


def outlines(
    shares: Mapping[str, Sequence[float]], edges: Sequence[float], label: str, styles: Mapping[str, str]
) -> Markup:
    """One outline a series over the same bins, as percent. Bin i spans edges[i] to edges[i + 1]."""
    top = nice_ceiling(max((share for each in shares.values() for share in each), default=0), CLOSE)
    frame = Frame(edges[0], edges[-1], 0, top)
    shape = Markup('<polyline class="{}" points="{}"><title>{}</title></polyline>')
    parts = [_axes(frame, label, whole=True)]
    for name, each in shares.items():
        corners = [(edge, share) for i, share in enumerate(each) for edge in edges[i : i + 2]]
        around = [(edges[0], 0.0), *corners, (edges[-1], 0.0)]
        drawn = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in around)
        parts.append(shape.format(styles[name], drawn, name))
    return _svg(parts, f"Percent by {label}: {', '.join(shares)}", HEIGHT)


def grouped(items: Sequence[tuple[str, Mapping[str, float]]], label: str, styles: Mapping[str, str]) -> Markup:
    """For each item one horizontal bar a series, one below the other, with its percent behind it."""
    thick, names, values = 11, 112, 52
    top = max((share for _, each in items for share in each.values()), default=0) or 1
    name_shape = Markup('<title>{}</title><text class="name" x="{}" y="{}" text-anchor="end">{}</text>')
    bar_shape = Markup('<rect class="{}" x="{}" y="{}" width="{:.1f}" height="{}"/><text x="{:.1f}" y="{}">{}</text>')
    parts, y = [], 0
    for name, each in items:
        shown = name if len(name) <= 17 else name[:16] + "…"
        title = f"{name}: " + ", ".join(f"{side} {number(share)} %" for side, share in each.items())
        drawn = [name_shape.format(title, names - 8, y + 4 + thick, shown)]
        for i, (side, share) in enumerate(each.items()):
            length, at = (WIDTH - names - values) * share / top, y + 2 + i * thick
            text = f"{number(share)} %"
            drawn.append(
                bar_shape.format(styles[side], names, at, length, thick - 1, names + length + 6, at + thick - 2, text)
            )
        parts.append(Markup("<g>{}</g>").format(Markup("").join(drawn)))
        y += thick * max(len(each), 1) + 8
    return _svg(parts, f"Percent by {label}: {len(items)} items", max(y, 1))


def thin(line: Sequence[Point], most: int = 240) -> list[Point]:
    """At most `most` points: the mean of each run of neighbours, so that a long training stays a small page."""
    step = math.ceil(len(line) / most) or 1
    runs = [line[i : i + step] for i in range(0, len(line), step)]
    return [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]


def nice_ceiling(value: float, steps: Sequence[float] = ROUND) -> float:
    """The smallest of `steps` × 10ⁿ that is at least `value`. 1 for nothing, or for what is too small to divide by."""
    if not sys.float_info.min <= value < math.inf:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return float(next(step * power for step in (*steps, 10) if step * power >= value * (1 - 1e-9)))


def number(value: float) -> str:
    """A number for a reader: thousands separated, large ones shortened, small ones with three digits."""
    for limit, unit, suffix in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= limit:
            return f"{value / unit:.3g}{suffix}"
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:.3g}"


def span(low: float, high: float) -> str:
    return number(low) if high == low + 1 and float(low).is_integer() else f"{number(low)} to {number(high)}"


def ticks(low: float, high: float, most: int, whole: bool) -> list[float]:
    """Round numbers from low to high, no more than about `most`. whole: no fractions where both ends have none."""
    step = nice_ceiling((high - low) / most)
    if whole and float(low).is_integer() and float(high).is_integer():
        step = float(math.ceil(step))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def _around(points: Sequence[Point]) -> tuple[Point, Point]:
    """The corners of a frame around the points and y = 0."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low, high = min(xs), max(xs)
    return (low, min(0.0, *ys)), (high if high > low else low + 1, nice_ceiling(max(ys), CLOSE))


@dataclass(frozen=True)
class Frame:
    """Where a value lies in the picture."""

    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - self.x0) / (self.x1 - self.x0)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - self.y0) / (self.y1 - self.y0)


def _axes(frame: Frame, label: str, whole: bool) -> Markup:
    """Lines and numbers for y, numbers and the label for x. whole: the values are counts."""
    line = Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>')
    text = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    parts = []
    for tick in ticks(frame.y0, frame.y1, 4, whole):
        y = frame.y(tick)
        parts.append(line.format(LEFT, WIDTH - RIGHT, y, y) + text.format(LEFT - 6, y + 3.5, "end", number(tick)))
    for tick in ticks(frame.x0, frame.x1, 5, whole):
        parts.append(text.format(frame.x(tick), HEIGHT - BOTTOM + 14, "middle", number(tick)))
    return Markup("").join([*parts, text.format((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "middle", label)])


def _svg(parts: Sequence[Markup], label: str, height: float) -> Markup:
    shape = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
    return shape.format(WIDTH, height, label, Markup("").join(parts))

"""`report.html`: one self-contained page with the numbers, the curves and the samples.

Nothing is loaded from anywhere: styles are inline, curves are SVG, every text is
escaped, and a content security policy forbids the rest.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.artefact import damaged, read_json_lines

WIDTH, HEIGHT, MARGIN = 720, 240, 48
COLORS = ("#1f6f8b", "#c8553d", "#588157", "#7b5ea7", "#8d6e63", "#333333")

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}
th,td{border-bottom:1px solid #ddd;padding:.3rem .8rem;text-align:left;vertical-align:top}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}
h1{font-weight:600} h2{margin-top:2.5rem;font-weight:600}
svg{width:100%;height:auto} svg text{font-size:12px;fill:#555}
pre{white-space:pre-wrap;background:#f6f6f4;padding:.8rem}
""".strip()


@dataclass(frozen=True)
class Series:
    """One curve: its name and its points (x, y); points that are not finite are left out."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Table:
    """A table: its header and its rows; cells that are numbers are set right."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Section:
    """A heading with what stands under it, in order.

    `drawing` is SVG of our own making, put in as it is.
    """

    title: str
    text: str = ""
    table: Table | None = None
    curves: Sequence[Series] = ()
    axis: str = ""
    drawing: str = ""
    samples: Sequence[Mapping[str, str]] = ()


def page(title: str, sections: Sequence[Section]) -> str:
    """The whole page as HTML."""
    body = "\n".join(_section(section) for section in sections)
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta http-equiv='Content-Security-Policy' "
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>"]
    if section.text:
        parts.append(f"<p>{html.escape(section.text)}</p>")
    if section.curves:
        parts.append(chart(section.curves, section.axis))
    if section.drawing:
        parts.append(section.drawing)
    if section.table:
        parts.append(_table(section.table))
    parts += [_sample(sample) for sample in section.samples]
    return "\n".join(parts)


def _table(table: Table) -> str:
    numeric = [
        all(
            isinstance(row[i], (int, float)) for row in table.rows if row[i] is not None
        )
        for i in range(len(table.header))
    ]
    head = "".join(_cell("th", name, numeric[i]) for i, name in enumerate(table.header))
    rows = (
        "".join(_cell("td", value, numeric[i]) for i, value in enumerate(row))
        for row in table.rows
    )
    lines = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>\n{lines}</table>"


def _cell(tag: str, value: Any, numeric: bool) -> str:
    css = " class='number'" if numeric else ""
    return f"<{tag}{css}>{html.escape(show(value))}</{tag}>"


def show(value: Any) -> str:
    """A value for a person: counts with separators, fractions with four digits."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _sample(sample: Mapping[str, str]) -> str:
    lines = "\n".join(f"{name}: {text}" for name, text in sample.items())
    return f"<pre>{html.escape(lines)}</pre>"


def chart(curves: Sequence[Series], axis: str) -> str:
    """Curves over one pair of axes, as SVG; `axis` names x and y."""
    finite = [
        Series(c.name, [(x, y) for x, y in c.points if math.isfinite(x + y)])
        for c in curves
    ]
    points = [point for curve in finite for point in curve.points]
    if not points:
        return "<p>No points yet.</p>"
    scale = _Scale(points)
    lines = [_curve(curve, i, scale) for i, curve in enumerate(finite) if curve.points]
    return (
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{html.escape(axis)}'>"
        f"{scale.axes(axis)}{''.join(lines)}</svg>"
    )


class _Scale:
    """Maps points to the drawing; a flat curve gets a band of its own height."""

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        xs, ys = zip(*points, strict=True)
        self.x0, self.x1 = _band(xs)
        self.y0, self.y1 = _band(ys)

    def x(self, value: float) -> float:
        share = (value - self.x0) / (self.x1 - self.x0)
        return MARGIN + share * (WIDTH - 2 * MARGIN)

    def y(self, value: float) -> float:
        share = (value - self.y0) / (self.y1 - self.y0)
        return HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN)

    def axes(self, axis: str) -> str:
        left, right = MARGIN, WIDTH - MARGIN
        top, bottom = MARGIN, HEIGHT - MARGIN
        labels = (
            (left - 6, bottom, "end", self.y0),
            (left - 6, top + 4, "end", self.y1),
            (left, bottom + 16, "start", self.x0),
            (right, bottom + 16, "end", self.x1),
        )
        texts = "".join(
            f"<text x='{x}' y='{y}' text-anchor='{anchor}'>{value:.4g}</text>"
            for x, y, anchor, value in labels
        )
        frame = f"M{left} {top}V{bottom}H{right}"
        return (
            f"<path d='{frame}' fill='none' stroke='#bbb'/>{texts}"
            f"<text x='{WIDTH / 2}' y='{HEIGHT - 10}' text-anchor='middle'>"
            f"{html.escape(axis)}</text>"
        )


def _band(values: Sequence[float]) -> tuple[float, float]:
    """The least and the largest, apart also where all are one number of any size."""
    low = min(values)
    return low, max(*values, low + 1e-9, math.nextafter(low, math.inf))


def _curve(curve: Series, index: int, scale: _Scale) -> str:
    color = COLORS[index % len(COLORS)]
    path = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in curve.points)
    legend = (
        f"<text x='{MARGIN + 8 + index * 120}' y='{MARGIN - 16}' style='fill:{color}'>"
        f"{html.escape(curve.name)}</text>"
    )
    line = (
        f"<polyline points='{path}' fill='none' stroke='{color}' stroke-width='1.5'/>"
    )
    return line + legend


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`; a line cut by a kill is left out.

    Raises:
        IntegrityError: a line is no object with a number as its `step`; it is named.
    """
    records = read_json_lines(path)
    for number, record in enumerate(records, start=1):
        if not is_number(record.get("step")):
            found = f"{record.get('step')!r:.40}"
            raise damaged(f"{path}:{number}", "a number as `step`", found)
    return records


def is_number(value: object) -> bool:
    """Whether a value is one that a curve can show; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def curve(
    records: Sequence[Mapping[str, Any]], key: str, name: str | None = None
) -> Series:
    """The values of `key` over `step`; null, as of a loss that was NaN, is left out."""
    values = [(r["step"], r.get(key)) for r in records]
    points = [
        (_float(step), _float(value)) for step, value in values if is_number(value)
    ]
    return Series(name or key, points)


def _float(value: Any) -> float:
    """A number; infinite for an integer that is beyond all that a curve shows."""
    try:
        return float(value)
    except OverflowError:
        return math.inf

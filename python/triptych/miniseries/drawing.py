"""`ladder.html` and `ladder.svg`: points, fitted curves by size, and the prediction."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from triptych.reporting import COLORS, Section, Table, page
from triptych.scaling import ScalingLaw

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 420, 56, 150, 20, 48
CURVE_POINTS = 40
MARGIN_SHARE = 0.06  # of the losses' range, above and below
STYLE = "font:12px system-ui,sans-serif;fill:#555"


def ladder_svg(result: Mapping[str, Any]) -> str:
    """Loss over tokens, both of `ladder.json`; the tokens on a logarithmic axis."""
    return _Drawing(result).svg()


def ladder_page(result: Mapping[str, Any]) -> str:
    """The whole report as HTML; nothing is loaded from anywhere."""
    return page("triptych ladder", list(_sections(result)))


class _Drawing:
    """Maps tokens and losses to the drawing."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        self.points: Sequence[Mapping[str, Any]] = result["points"]
        self.prediction: Mapping[str, Any] = result["prediction"]
        self.target: Mapping[str, Any] | None = result.get("target")
        fields = ScalingLaw.__dataclass_fields__
        law = {k: v for k, v in result["law"].items() if k in fields}
        self.law = ScalingLaw(**law, source="")
        tokens = [x["tokens"] for x in (*self.points, self.prediction)]
        self.tokens: tuple[float, float] = (min(tokens) / 1.3, max(tokens) * 1.3)
        losses = [x["loss"] for x in self.points]
        losses += [self.prediction["low"], self.prediction["high"]]
        losses += [self.target["loss"]] if self.target else []
        margin = MARGIN_SHARE * (max(losses) - min(losses)) or 1.0
        self.losses: tuple[float, float] = (min(losses) - margin, max(losses) + margin)

    def svg(self) -> str:
        sizes = sorted({point["parameters"] for point in self.points})
        parts = [self._axes()]
        for index, size in enumerate(sizes):
            color = COLORS[index % len(COLORS)]
            parts += [self._curve(size, color), self._label(size, color)]
            parts += [
                _dot(self.x(p["tokens"]), self.y(p["loss"]), color)
                for p in self.points
                if p["parameters"] == size
            ]
        parts += self._predicted()
        return (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' "
            "role='img' aria-label='held-out loss over tokens, by size'>"
            f"{''.join(parts)}</svg>"
        )

    def x(self, tokens: float) -> float:
        low, high = (math.log(end) for end in self.tokens)
        return LEFT + (math.log(tokens) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, loss: float) -> float:
        low, high = self.losses
        return HEIGHT - BOTTOM - (loss - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def _axes(self) -> str:
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        frame = f"M{LEFT} {TOP}V{bottom}H{right}"
        marks = [
            _text(self.x(tokens), bottom + 16, _count(tokens), "middle")
            for tokens in _ticks(*self.tokens)
        ]
        marks += [
            _text(LEFT - 6, self.y(loss) + 4, f"{loss:.2f}", "end")
            for loss in _levels(*self.losses)
        ]
        title = _text((LEFT + right) / 2, HEIGHT - 10, "tokens", "middle")
        side = _text(LEFT - 6, TOP - 6, "nats a token", "start")
        path = f"<path d='{frame}' fill='none' stroke='#bbb'/>"
        return f"{path}{''.join(marks)}{title}{side}"

    def _curve(self, size: int, color: str, dashes: str = "") -> str:
        low, high = map(math.log, self.tokens)
        tokens = [
            math.exp(low + (high - low) * i / CURVE_POINTS)
            for i in range(CURVE_POINTS + 1)
        ]
        places = [(self.x(t), self.y(self.law.loss(size, t))) for t in tokens]
        inside = [(x, y) for x, y in places if TOP <= y <= HEIGHT - BOTTOM]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in inside)
        dash = f" stroke-dasharray='{dashes}'" if dashes else ""
        return f"<polyline points='{path}' fill='none' stroke='{color}'{dash}/>"

    def _label(self, size: int, color: str) -> str:
        end = self.y(self.law.loss(size, self.tokens[1])) + 4
        text = f"{_count(size)} parameters"
        return _text(WIDTH - RIGHT + 6, end, text, "start", color)

    def _predicted(self) -> list[str]:
        found = self.prediction
        x, size = self.x(found["tokens"]), found["parameters"]
        low, high = self.y(found["low"]), self.y(found["high"])
        bar = (
            f"<path d='M{x:.1f} {low:.1f}V{high:.1f}M{x - 5:.1f} {low:.1f}h10"
            f"M{x - 5:.1f} {high:.1f}h10' stroke='#111' fill='none'/>"
        )
        parts = [self._curve(size, "#111", "4 3"), self._label(size, "#111"), bar]
        if self.target is not None:
            parts.append(_dot(x, self.y(self.target["loss"]), "#111"))
        return parts


def _dot(x: float, y: float, color: str) -> str:
    return f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5' fill='{color}'/>"


def _text(x: float, y: float, text: str, anchor: str, color: str = "#555") -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' "
        f"style='{STYLE};fill:{color}'>{html.escape(text)}</text>"
    )


def _count(value: float) -> str:
    """A count for an axis: 50k, 1.2M."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _ticks(low: float, high: float) -> Iterable[float]:
    """1, 2 and 5 times the powers of ten between."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = (step * 10.0**power for power in powers for step in (1, 2, 5))
    return (value for value in values if low <= value <= high)


def _levels(low: float, high: float) -> Iterable[float]:
    return (low + (high - low) * (i + 0.5) / 5 for i in range(5))


def _sections(result: Mapping[str, Any]) -> Iterable[Section]:
    yield Section(
        title="Prediction",
        text=" ".join([sentence(result), *result["warnings"]]),
        drawing=ladder_svg(result),
    )
    keys = ("name", "parameters", "tokens", "epochs", "learning_rate", "batch_tokens")
    measured = ("loss", "bits_per_byte", "residual")
    yield Section(
        title="Runs",
        text="Parameters are those of matrix products, the head among them and the "
        "table of embeddings not. The residual is the logarithm of the loss minus the "
        "law's: about the share by which they differ.",
        table=Table(
            [name.replace("_", " ") for name in (*keys, *measured)],
            [[point[key] for key in (*keys, *measured)] for point in result["points"]],
        ),
    )
    law, ends = result["law"], result["intervals"]
    yield Section(
        title="Law",
        text="L(N, D) = E + A / N^alpha + B / D^beta, in nats a token. Constants of few "
        "runs are vague, and change together: what they predict is less so.",
        table=Table(
            ["constant", "value", "from", "to"],
            [[name.replace("_", " "), law[name], *ends[name]] for name in ends],
        ),
    )


def sentence(result: Mapping[str, Any]) -> str:
    """What was predicted, and how it came out where it was trained."""
    found, target = result["prediction"], result.get("target")
    text = (
        f"{found['parameters']:,} parameters trained on {found['tokens']:,} tokens: "
        f"{found['loss']:.4f} nats a token, {found['level']:.0%} interval "
        f"{found['low']:.4f} to {found['high']:.4f}."
    )
    if target is None:
        return text
    where = "inside" if target["inside"] else "outside"
    return (
        f"{text} Trained, it came to {target['loss']:.4f}: the prediction was "
        f"{target['error']:+.2%} off, and the loss is {where} the interval."
    )

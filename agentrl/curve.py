"""A learning curve as an SVG file, drawn without a plotting library so that a demo needs none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 280, 48, 16, 36, 40
COLORS = ("#1f6feb", "#bf8700", "#1a7f37", "#8250df")
FONT = 'font-family="sans-serif" font-size="12"'
BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 24, high: float = 1.0) -> str:
    """Draw values of 0..high as one line of blocks; long series are averaged into `width` of them.

    >>> sparkline([0, 0.5, 1])
    '▁▅█'
    """
    if not values:
        return ""
    count = min(width, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in zip(edges, edges[1:], strict=False)]
    return "".join(BLOCKS[min(7, max(0, round(7 * m / high)))] for m in means)


def curve_svg(
    title: str, series: Mapping[str, Sequence[tuple[float, float]]], *, x_label: str = "step"
) -> str:
    """Draw shares of 0..1 over steps.

    Args:
        title: Stands above the picture.
        series: Name to points (x, y), y in 0..1.
        x_label: What x counts.
    """
    right = max((x for points in series.values() for x, _ in points), default=1.0) or 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14" fill="#1f2328">{escape(title)}</text>',
        *(_grid_line(share) for share in (0, 0.25, 0.5, 0.75, 1)),
        *(_tick(x, right) for x in sorted({0, round(right / 2), round(right)})),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "middle", x_label),
    ]
    for index, (name, points) in enumerate(series.items()):
        parts += _line(name, points, right, COLORS[index % len(COLORS)], index)
    return "\n".join([*parts, "</svg>", ""])


def _x(value: float, right: float) -> float:
    return round(LEFT + value / right * (WIDTH - LEFT - RIGHT), 1)


def _y(share: float) -> float:
    return round(TOP + (1 - min(1.0, max(0.0, share))) * (HEIGHT - TOP - BOTTOM), 1)


def _grid_line(share: float) -> str:
    y = _y(share)
    line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="#d1d9e0"/>'
    return line + _text(LEFT - 8, y + 4, "end", f"{share:g}")


def _tick(value: float, right: float) -> str:
    return _text(_x(value, right), HEIGHT - 22, "middle", f"{value:g}")


def _text(x: float, y: float, anchor: str, words: str, color: str = "#59636e") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{color}">{escape(words)}</text>'


def _line(
    name: str, points: Sequence[tuple[float, float]], right: float, color: str, index: int
) -> list[str]:
    path = " ".join(f"{_x(x, right)},{_y(y)}" for x, y in points)
    label_x, label_y = WIDTH - RIGHT - 4, HEIGHT - BOTTOM - 10 - 16 * index
    return [
        f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2" stroke-linejoin="round"/>',
        _text(label_x, label_y, "end", name, color),
    ]

"""Lines over axes that are both logarithmic, side by side, as SVG."""

import html
import math

WIDTH, HEIGHT = 320, 300
LEFT, TOP, RIGHT, BOTTOM = 64, 72, 24, 56
# Room beside the first and the last point for what is written over them.
PAD = 18
INK, GREY, LIGHT = "#1b6ca8", "#767676", "#e4e4e4"


def decades(values):
    """The powers of ten around some values, at least two."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return list(range(low, max(high, low + 1) + 1))


def number(value):
    """As short as it can be told with two digits."""
    digits = max(0, 1 - math.floor(math.log10(value)))
    short = f"{value:,.{digits}f}"
    return short.rstrip("0").rstrip(".") if digits else short


def text(x, y, what, size=12, anchor="middle", fill="#222", more=""):
    """One line of text."""
    attributes = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{fill}"'
    return f"<text {attributes} {more}>{html.escape(what)}</text>"


def panel(left, name, points, rows):
    """One plot: its name is that of its x axis; `rows` are the decades of y."""
    # From the first point to the last, so that there is room for the numbers below.
    low, high = math.log10(points[0][0]), math.log10(points[-1][0])
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x, y):
        across = (math.log10(x) - low) / (high - low)
        up = (math.log10(y) - rows[0]) / (rows[-1] - rows[0])
        return left + LEFT + PAD + across * (width - 2 * PAD), TOP + (1 - up) * height

    parts = []
    for column in range(math.ceil(low), math.floor(high) + 1):
        x, bottom = place(10**column, 10.0 ** rows[0])
        parts.append(f'<path d="M{x:.1f} {TOP}V{bottom:.1f}" stroke="{LIGHT}"/>')
        parts.append(text(x, bottom + 18, number(10.0**column), 11))
    for row in rows:
        x, y = left + LEFT, place(points[0][0], 10.0**row)[1]
        parts.append(f'<path d="M{x:.1f} {y:.1f}h{width}" stroke="{LIGHT}"/>')
        parts.append(text(x - 8, y + 4, number(10.0**row), 11, "end"))
    parts.append(text(left + LEFT + width / 2, HEIGHT - 14, name))
    # What grows in proportion is parallel to this, through the largest.
    x, y = points[-1]
    share = max(points[0][0] / x, 10.0 ** rows[0] / y)
    (x1, y1), (x2, y2) = place(x * share, y * share), place(x, y)
    line = f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"
    parts.append(f'<path d="{line}" stroke="{GREY}" stroke-dasharray="4 4" fill="none"/>')
    places = [place(x, y) for x, y in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts.append(f'<polyline points="{line}" stroke="{INK}" stroke-width="2" fill="none"/>')
    for (x, y), (_, value) in zip(places, points):
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{INK}"/>')
        parts.append(text(x, y - 9, number(value), 11, fill=INK, more='font-weight="bold"'))
    return parts


def plot(title, y_name, panels):
    """An SVG of some panels, (name of x, [(x, y), ...]) each, with one scale of y."""
    rows = decades([y for _, points in panels for _, y in points])
    width = WIDTH * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" '
        f'height="{HEIGHT}" font-family="sans-serif" role="img">',
        f"<title>{html.escape(title)}</title>",
        f'<rect width="{width}" height="{HEIGHT}" fill="#fff"/>',
        text(width / 2, 26, title, 15),
        text(width / 2, 46, "dashed: in proportion", 11, fill=GREY),
    ]
    middle = TOP + (HEIGHT - TOP - BOTTOM) / 2
    parts.append(text(16, middle, y_name, more=f'transform="rotate(-90 16 {middle:.1f})"'))
    for place, (name, points) in enumerate(panels):
        parts += panel(place * WIDTH, name, points, rows)
    return "\n".join([*parts, "</svg>", ""])

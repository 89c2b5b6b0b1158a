"""Colours of classes: the same in every picture and on every page; pure."""

from __future__ import annotations

import colorsys

#: Most people can distinguish them, also beside each other: the first ten are those of Tableau 10 (2016), a little
#: stronger.
_PALETTE = (
    "#2f6fde", "#e8590c", "#2b9348", "#d6336c", "#7048e8", "#0c8599", "#c99700", "#9c4221", "#5c7cfa", "#c2255c",
    "#1098ad", "#66a80f", "#ae3ec9", "#e03131", "#087f5b", "#b08900",
)  # fmt: skip

_GOLDEN = 0.6180339887498949


def colour_of(number: int) -> str:
    """The colour of class `number`, as ``#rrggbb``."""
    if number < len(_PALETTE):
        return _PALETTE[number]
    hue, light = (number * _GOLDEN) % 1, (0.42, 0.5, 0.36)[number % 3]
    rgb = colorsys.hls_to_rgb(hue, light, 0.7)
    return "#" + "".join(f"{round(255 * c):02x}" for c in rgb)


def ink_on(colour: str) -> str:
    """Black or white, whichever is read better on `colour`: WCAG 2.2, relative luminance and contrast."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return "#000000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#ffffff"

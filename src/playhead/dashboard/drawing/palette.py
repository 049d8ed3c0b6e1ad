"""The colours of charts: told apart by the colour-blind, and readable on light and dark.

Categories are those of Okabe and Ito, "Color Universal Design" (2008), without its yellow, which
is lost on white. Amounts go from a pale to a deep blue-green whose lightness falls evenly.
"""

__all__ = ["AMOUNTS", "AXIS", "CATEGORIES", "GRID", "LEVELS", "MUTED", "RISK"]

CATEGORIES = (
    "#3b82c4", "#e69f00", "#1f9e77", "#cc79a7", "#d55e00", "#56b4e9", "#7b61c9", "#8a8f98",
)  # fmt: skip
AMOUNTS = ("#e3f0ee", "#a9d5cf", "#62b3ac", "#2a8a86", "#0f5f63")
RISK = ("#f3efe6", "#f5d28c", "#ec9b4d", "#d55e00", "#8f2d06")
LEVELS = {"HIGH": "#d04a02", "MEDIUM": "#e69f00", "LOW": "#3b82c4"}
AXIS = "#8691a3"
"""Of text beside axes: as readable on white as on the dark ground."""
GRID = "rgba(134, 145, 163, 0.22)"
MUTED = "#a8b1bf"

"""Benchmarks: commands that print a table with ratios measured in the same run.

playhead bench NAME            (from a checkout)
python -m benchmarks.NAME
"""

NAMES = (
    "speed",
    "batch",
    "freshness",
    "query",
    "recovery",
    "growth",
    "log",
    "load",
    "generate",
    "demo",
    "gateway",
    "live",
    "dashboards",
    "spark",
    "cleaning",
    "kafka",
    "stream",
)

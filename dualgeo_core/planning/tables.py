"""A plan as rows of text, for a terminal and for Markdown."""

from collections.abc import Sequence

from dualgeo_core.planning.plan import Plan
from dualgeo_core.planning.rates import Rates

HEADER = ("Asset", "Time", "Disk", "Memory", "Bound by", "What would help")
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def plan_rows(plan: Plan) -> list[tuple[str, ...]]:
    """One row per asset, and one for all assets: the sum of times and disk, the largest memory."""
    rows = [
        (row.asset, duration(row.seconds), size(row.disk), size(row.memory), row.bound_by, row.advice)
        for row in plan.assets
    ]
    return [*rows, ("all", duration(plan.seconds), size(plan.disk), size(plan.memory), "", "")]


def plan_text(plan: Plan) -> list[str]:
    """The rows as lines with aligned columns."""
    rows = [HEADER, *plan_rows(plan)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def plan_markdown(plan: Plan, rates: Rates) -> str:
    """The rows as a Markdown table, and where the rates come from."""
    rows: Sequence[Sequence[str]] = [HEADER, ["---"] * len(HEADER), *plan_rows(plan)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{table}\n\nRates: {origin(rates)}."


def origin(rates: Rates) -> str:
    """The machine on which the rates were measured, and on how many photos."""
    machine = rates.machine
    gpus = f"{machine['gpus']} x {machine['gpu']}" if machine["gpu"] else "no GPU"
    cores = f"{machine['cores']} cores" if machine["cores"] != 1 else "1 core"
    return f"{machine['processor']}, {cores}, {machine['memory_gb']} GB, {gpus}; {rates.photos} photos"


def duration(seconds: float) -> str:
    """The two largest units of a time, such as `3 h 20 min`."""
    parts: list[str] = []
    rest = round(seconds)
    for length, unit in _UNITS:
        count, rest = divmod(rest, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def size(number: float) -> str:
    """Bytes in the unit that suits them, such as `12.3 GB`."""
    unit, name = next(
        ((unit, name) for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")) if number >= unit), (1e3, "kB")
    )
    return f"{number / unit:.1f} {name}"

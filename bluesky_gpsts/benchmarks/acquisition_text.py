"""Text of the acquisition benchmark."""

from typing import Any

from bluesky_gpsts.benchmarks.strategies import ACQUISITIONS, STRATEGIES


def text(result: dict[str, Any]) -> str:
    """Text of a report: per map one line for each strategy, then goals and notes."""
    limit = result["protocol"]["limit"]
    cells: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    conditions: list[str] = []
    for row in result["rows"]:
        metric, _, part = row["metric"].rpartition(", ")
        if not metric.startswith(("spectra to r", "r after")):
            continue
        case, _, condition = row["case"].rpartition("; ")
        if condition not in conditions:
            conditions.append(condition)
        cell = cells.setdefault(case, {}).setdefault(row["method"], {}).setdefault(condition, {})
        cell[part if metric.startswith("spectra") else "r"] = row["value"]

    def shown(value: float) -> str:
        return f">{limit}" if value > limit else f"{value:.0f}"

    lines = [
        f"Spectra to a sustained r of 0.95: median [p10 to p90] over {result['protocol']['seeds']} "
        f"seeds; in brackets the median r after {limit}",
    ]
    order = [*ACQUISITIONS, *(name for name in STRATEGIES if name not in ACQUISITIONS)]
    for case, methods in cells.items():
        lines += ["", case]
        lines.append(" " * 32 + "".join(f"{c:30}" for c in conditions).rstrip())
        for method in sorted(methods, key=order.index):
            parts = []
            for condition in conditions:
                known = methods[method].get(condition)
                if known is None:
                    parts.append("")
                    continue
                spread = f"[{shown(known['p10'])} to {shown(known['p90'])}]"
                parts.append(f"{shown(known['median'])} {spread}  ({known['r']:.3f})")
            lines.append(f"  {method:30}" + "".join(f"{part:30}" for part in parts).rstrip())
    lines += ["", "Goals"]
    for row in result["rows"]:
        if "goal" in row:
            sign = "ok " if row["met"] else "NO "
            compare = "<=" if row["metric"].startswith(("spectra", "times")) else ">="
            lines.append(
                f"  {sign} {row['case']}, {row['method']}: {row['metric']} = {row['value']:.4g} "
                f"({compare} {row['goal']:.4g}, n = {row['n']})"
            )
    if result["notes"]:
        lines += ["", *result["notes"]]
    return "\n".join(lines)

"""What `latency.py` measured, beside what was asked of it: targets, tables and the plot."""

from typing import Any

from drawing import Panel, draw

Asked = tuple[str, int, int, int]
"""Size, resolution, pairs and steps of whole queries."""
FASTER, FASTER_END_TO_END, GROWTH, RELEASED_GROWTH, AGREEMENT = 10.0, 8.0, 4.0, 8.0, 0.25
PROMPT = "prefix, compiled prompt"
SHOWN = ("released, guidance 1.5", "released", "joint", "prefix", "causal", PROMPT, "causal, compiled prompt")
COLOURS = ("#b2182b", "#ef8a62", "#999999", "#80b1d3", "#b3de69", "#2166ac", "#1b7837")
MEMORY_AGREEMENT = 0.1
Row = dict[str, Any]


def ratios(figures: Row, asked: Asked) -> dict[str, dict[str, float]]:
    """Measured ratios and those of the FLOPs, by name.

    Those of the transformer and from end to end are of the whole queries; guidance doubles the released way's forward
    passes, and ours without guidance stands against both. Growth is from the fewest pairs of the cells to the most.
    """
    size, px, count, steps = asked
    cells = {c["pairs"]: c for c in figures["cells"] if (c["size"], c["resolution"]) == (size, px)}
    gflop, whole = cells[count]["query_gflop"][str(steps)], figures["whole"]
    theirs, ours, vae = whole["released"], whole[PROMPT], whole["vae_gflop"]
    once = vae["encode"] + vae["decode"]
    seconds = {
        "released": theirs["forward"],
        "released with guidance 1.5": theirs["forward"] + theirs["null forward"],
    }
    works = dict(zip(seconds, (gflop["released"], gflop["released, guidance 1.5"]), strict=True))
    around, pairs_vae = theirs["encode query"] + theirs["decode"], 2 * count * vae["encode"]
    ours_s = ours["transformer"] + ours["encode query"] + ours["decode"]
    found = {}
    for name, value in seconds.items():
        end, work = (value + around) / ours_s, works[name] + once
        found[f"{name} / ours, transformer"] = (value / ours["transformer"], works[name] / gflop[PROMPT])
        found[f"{name} / ours, end to end, its pairs encoded for the query"] = (
            end + theirs["encode pairs"] / ours_s,
            (work + pairs_vae) / (gflop[PROMPT] + once),
        )
        found[f"{name} / ours, end to end, pairs encoded beforehand"] = (end, work / (gflop[PROMPT] + once))
    least, most = cells[min(cells)], cells[max(cells)]
    for way in (PROMPT, "causal, compiled prompt", "released", "joint"):
        name = f"{way}, growth from {min(cells)} to {max(cells)} pairs"
        pair = [most[key][str(steps)][way] / least[key][str(steps)][way] for key in ("query_s", "query_gflop")]
        found[name] = tuple(pair)
    return {name: {"measured": a, "by_flops": b, "measured_over_flops": a / b} for name, (a, b) in found.items()}


def find_targets(figures: Row, asked: Asked) -> list[Row]:
    """What was asked, what was found, whether it was met; files the ratios among the figures."""
    figures["ratios"] = found = ratios(figures, asked)
    limits = {
        "released / ours, transformer": (">=", FASTER),
        "released / ours, end to end, its pairs encoded for the query": (">=", FASTER_END_TO_END),
        "released / ours, end to end, pairs encoded beforehand": (">=", FASTER_END_TO_END),
        **{name: ("<=", GROWTH) for name in found if name.startswith(f"{PROMPT}, growth")},
        **{name: (">=", RELEASED_GROWTH) for name in found if name.startswith("released, growth")},
    }
    rows = []
    for name, (sign, limit) in limits.items():
        value = found[name]["measured"]
        met = value >= limit if sign == ">=" else value <= limit
        rows.append({"target": name, "found": value, "asked": f"{sign} {limit:g}", "met": met})
    for name in limits:
        value = found[name]["measured_over_flops"]
        met = abs(value - 1) <= AGREEMENT
        between = f"{1 - AGREEMENT:g} to {1 + AGREEMENT:g}"
        rows.append({"target": f"{name}: over that of FLOPs", "found": value, "asked": between, "met": met})
    memory = figures["prompt_memory"]
    value = memory["measured_mib"] / memory["planned_mib"]
    met = abs(value - 1) <= MEMORY_AGREEMENT
    between = f"{1 - MEMORY_AGREEMENT:g} to {1 + MEMORY_AGREEMENT:g}"
    return [*rows, {"target": "peak memory, over that of lavindit plan", "found": value, "asked": between, "met": met}]


def list_tables(figures: Row, targets: list[Row]) -> str:
    """Everything as Markdown."""
    lines = ["| Target | Asked | Found | |", "|---|---|---|---|"]
    for row in targets:
        verdict = "met" if row["met"] else "missed"
        lines.append(f"| {row['target']} | {row['asked']} | {row['found']:.2f} | {verdict} |")
    lines += ["", "| Ratio | Measured | By FLOPs | |", "|---|---|---|---|"]
    for name, ratio in figures["ratios"].items():
        agreement = f"{ratio['measured_over_flops'] - 1:+.0%}"
        lines.append(f"| {name} | {ratio['measured']:.2f} | {ratio['by_flops']:.2f} | {agreement} |")
    for way in ("released", PROMPT):
        parts = {name: value for name, value in figures["whole"][way].items() if name != "n"}
        told = ", ".join(f"{name} {value:.3g} s" for name, value in parts.items())
        lines += ["", f"Whole query, {way} (n = {figures['whole'][way]['n']}): {told}"]
    for row in figures["batches"]:
        told = ", ".join(f"{times['20']:.3g} s in a batch of {n}" for n, times in row["seconds_a_query"].items())
        lines += ["", f"{row['size']}, {row['resolution']} px, {row['pairs']} pairs, a query of 20 steps: {told}"]
    for size, px in dict.fromkeys((c["size"], c["resolution"]) for c in figures["cells"]):
        cells = [c for c in figures["cells"] if (c["size"], c["resolution"]) == (size, px)]
        for steps in cells[0]["query_s"]:
            lines += _table(
                f"{size}, {px} px, {steps} steps: seconds a query, transformer",
                [c["pairs"] for c in cells],
                {way: [c["query_s"][steps][way] for c in cells] for way in cells[0]["query_s"][steps]},
            )
        calls = cells[0]["calls"]
        peaks = {f"peak MiB, {name}": [c["calls"][name]["peak_mib"] for c in cells] for name in calls}
        peaks |= {f"prompt MiB, {mode}": [c["prompt_mib"][mode] for c in cells] for mode in cells[0]["prompt_mib"]}
        peaks |= {
            f"compile, seconds, {name.split()[0]}": [c["calls"][name]["s"] for c in cells]
            for name in calls
            if name.endswith("read pairs")
        }
        lines += _table(f"{size}, {px} px: memory of a call, prompts", [c["pairs"] for c in cells], peaks)
    return "\n".join(lines)


def _table(title: str, pairs: list[int], rows: dict[str, list[float]]) -> list[str]:
    lines = ["", f"{title}, by pairs", "", f"| | {' | '.join(map(str, pairs))} |", "|---" * (len(pairs) + 1) + "|"]
    return lines + [f"| {name} | {' | '.join(f'{x:.3g}' for x in values)} |" for name, values in rows.items()]


def plot(cells: list[Row], asked: Asked) -> str:
    """Seconds a query by pairs, both axes logarithmic, as SVG: the size, resolution and steps of whole queries."""
    size, px, _, steps = asked
    rows = [c for c in cells if (c["size"], c["resolution"]) == (size, px)]
    lines = {way: [(c["pairs"], c["query_s"][str(steps)][way]) for c in rows] for way in SHOWN}
    title = f"{size}, {px} px, {steps} steps"
    panel = Panel(title, lines, "pairs", "seconds of the transformer a query", log_x=True, log_y=True)
    return draw([panel], colours=dict(zip(SHOWN, COLOURS, strict=True)))

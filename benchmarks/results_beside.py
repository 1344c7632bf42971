"""The tables and plots of docs/results.md that have the model beside what one would use instead, each of one result."""

from drawing import Panel, draw
from results_tables import MISSING, Data, metric, millions, number, table


def autoregressive(data: Data) -> list[str]:
    """Of `autoregressive_baseline.py`."""
    rows = [
        [name, metric(row), number(row["ours"]["answer"], row["ours"]["stderr"]),
            number(row["autoregressive"]["answer"], row["autoregressive"]["stderr"]),
            number(row["ours"]["ceiling"]), number(row["autoregressive"]["ceiling"]), row["ours_is"] or MISSING]
        for name, row in data["figures"]["tasks"].items()
    ]  # fmt: skip
    found, parameters = data["figures"]["summary"], data["parameters"]
    marks = ", ".join(f"{mark} on {count}" for mark, count in found["ours_is"].items())
    minutes, theirs = data["ours"].get("minutes"), data["autoregressive"]["minutes"]
    said = (
        f"Ours is ahead on {found['ours_ahead']} of {found['tasks']} tasks; noise counted, it is {marks}. Parameters: "
        f"{millions(parameters['ours'])} ours, {millions(parameters['autoregressive'])} the baseline's; with the "
        f"autoencoders {millions(parameters['our_vae'])} and {millions(parameters['tokenizer'])} more."
    )
    if minutes is not None:
        said += (
            f" Minutes of training: {minutes:.0f} ours, with the validation that ends it; {theirs:.0f} the baseline's."
        )
    header = ["Task", "Figure", "Ours", "Autoregressive", "Our ceiling", "Its ceiling", "Ours is"]
    return [table(header, rows), said]


def autoregressive_latency(data: Data) -> list[str]:
    """Of `autoregressive_baseline.py --latency`."""
    cells = data["figures"]["cells"]
    rows = [
        [str(cell["resolution"]), str(cell["pairs"]), *(number(s) for s in cell["query_s"].values())] for cell in cells
    ]
    times = [row["query_s"] for row in data["figures"]["baseline_takes_times_as_long"]]
    spread = [
        [name, number(min(row[name] for row in times)), number(max(row[name] for row in times))] for name in times[0]
    ]
    return [
        table(["px", "Pairs", *cells[0]["query_s"]], rows),
        "How many times as long the baseline takes, at least and at most over the cells:",
        table(["Ours, against the baseline", "Least", "Most"], spread),
    ]


def draw_autoregressive_latency(data: Data) -> str:
    """Seconds a query by pairs, a panel a resolution."""
    cells = data["figures"]["cells"]
    panels = []
    for px in dict.fromkeys(cell["resolution"] for cell in cells):
        own = [cell for cell in cells if cell["resolution"] == px]
        lines = {way: [(cell["pairs"], cell["query_s"][way]) for cell in own] for way in own[0]["query_s"]}
        panels.append(Panel(f"{px} px: seconds a query", lines, "pairs", log_x=True, log_y=True))
    return draw(panels, 2)


def of_lead(row: Data) -> str:
    """A gap as a share of the specialist's lead over the mean target."""
    mean = row["ours"]["baselines"].get("mean_target")
    if mean is None or row["gap"] is None or row["answer"] == mean:
        return MISSING
    return f"{100 * row['gap'] / abs(row['answer'] - mean):.0f} %"


def specialists(data: Data) -> list[str]:
    """Of `specialists.py`."""
    rows = []
    for name, row in data["figures"].items():
        ours = row["ours"]
        rows.append([
            name + (" (never trained on by ours)" if row["held_out"] else ""), metric(row),
            number(row["answer"], row["stderr"]), number(ours["answer"], ours["stderr"]), number(ours["ceiling"]),
            number(row["gap"], row["gap_stderr"]), of_lead(row), f"{row['minutes']:.1f}",
            millions(row["parameters"]), str(row["n"]),
        ])  # fmt: skip
    ahead = sum(row["gap"] is not None and row["gap"] > 0 for row in data["figures"].values())
    header = ["Task", "Figure", "Specialist", "Ours", "Our ceiling", "Gap", "Of its lead", "Minutes", "Parameters", "n"]
    return [
        table(header, rows),
        f"The gap is above 0 where the specialist is better: on {ahead} of {len(rows)} tasks. Of its lead: the gap as "
        "a share of the specialist's lead over the mean target.",
        "Why they differ. A specialist spends all of its parameters and minutes on one task and knows from its weights "
        "what is asked; ours shares them among all tasks and reads from the pairs what is asked, every time anew. A "
        "specialist answers in pixels, with the query's own pixels at hand through its skip connections, and is "
        "trained on their error; ours answers in the latents of a VAE that keeps one number in twelve of an image, in "
        "tokens of 16 px, so its ceiling bounds it, and in deraining it is given back what the VAE loses of the query. "
        "Against that, ours needs no training for a further task.",
    ]


def latency(data: Data) -> list[str]:
    """Of `latency.py`."""
    rows = [
        [row["target"], str(row["asked"]), f"{row['found']:.2f}", "met" if row["met"] else "missed"]
        for row in data["targets"]
    ]
    return [table(["Target", "Asked", "Found", ""], rows)]

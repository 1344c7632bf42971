"""The tables and plots of docs/results.md, each of one result."""

from collections.abc import Mapping, Sequence
from typing import Any

from drawing import Panel, draw, note_of

Data = Mapping[str, Any]
MISSING = "-"
PROXY = "lpips_proxy"
COMPARED = {
    "nearest_target": "Nearest target",
    "mean_target": "Mean target",
    "best_constant": "Best constant",
    "query": "Query unchanged",
}


def number(value: float | None, stderr: float | None = None) -> str:
    """A figure, and its standard error."""
    if value is None:
        return MISSING
    return f"{value:.3g}" + (f" ± {stderr:.2g}" if stderr is not None else "")


def metric(row: Data) -> str:
    """Its name, unit and direction."""
    unit = "" if row["unit"] == "1" else f" {row['unit']}"
    return f"`{row['metric']}`{unit} {'↑' if row['direction'] == 'max' else '↓'}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """As Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def millions(count: float) -> str:
    """Of parameters."""
    return f"{count / 1e6:.2f} M"


def released(data: Data, name: str | None = None) -> list[str]:
    """A result.json of `lavindit benchmark`: its headlines, or a metric."""
    beaten = sum(beats_both(figure_of(task, name)) for task in data["tasks"])
    said = f"Better than nearest and mean target on {beaten} of {len(data['tasks'])} tasks."
    return [released_table(data, name), said]


def perceptual(data: Data) -> list[str]:
    """A result.json of tasks that generate pictures, measured where `LAVINDIT_PERCEPTUAL` names weights."""
    return released(data, PROXY)


def figure_of(task: Data, name: str | None = None) -> Data:
    """A task's figure of that metric; None: its headline."""
    return next(one for one in task["figures"] if (one["headline"] if name is None else one["metric"] == name))


def released_table(data: Data, name: str | None = None) -> str:
    """One figure a task beside all baselines, with as many decimals as the answer; the headlines, or a metric."""
    rows = []
    for task in data["tasks"]:
        figure = figure_of(task, name)
        digits = decimals(figure["answer"])
        others = [figure["baselines"].get(baseline) for baseline in COMPARED]
        rows.append([
            task["task"] + (" (held out)" if task["held_out"] else ""), metric(figure), spread(figure, digits),
            *(fixed(value, digits) for value in (*others, figure["ceiling"])), str(task["n"]),
        ])  # fmt: skip
    return table(["Task", "Figure", "Answer", *COMPARED.values(), "VAE ceiling", "n"], rows)


def beats_both(figure: Data) -> bool:
    """Whether the answer is better than the nearest and the mean target."""
    sign, answer = 1 if figure["direction"] == "max" else -1, figure["answer"]
    others = [figure["baselines"].get(name) for name in ("nearest_target", "mean_target")]
    return answer is not None and all(x is not None and sign * (answer - x) > 0 for x in others)


def decimals(value: float | None) -> int:
    """Enough for three digits."""
    size = abs(value or 0.0)
    return 1 if size >= 10 or size == 0 else 2 if size >= 1 else 3


def fixed(value: float | None, digits: int) -> str:
    """A figure with so many decimals."""
    return MISSING if value is None else f"{value:.{digits}f}"


def spread(figure: Data, digits: int) -> str:
    """A figure, ± its standard error over queries, [standard deviation over draws]."""
    parts = [fixed(figure["answer"], digits)]
    parts += [f"± {figure['stderr']:.{digits}f}"] if figure.get("stderr") is not None else []
    parts += [f"[{figure['draw_std']:.{digits + 1}f}]"] if figure.get("draw_std") is not None else []
    return " ".join(parts)


def model_size(data: Data) -> list[str]:
    """Of `model_size.py`."""
    rows = data["figures"]["rows"]
    sizes = [
        [row["size"], str(row["seed"]), millions(row["parameters"]), str(row["steps"]), f"{row['train_s'] / 60:.0f}",
            f"{row['held_out_loss']['all']:.4f}"]
        for row in rows
    ]  # fmt: skip
    tasks = [
        [name, metric(one), *(number(row["tasks"][name]["answer"], row["tasks"][name]["stderr"]) for row in rows)]
        for name, one in rows[0]["tasks"].items()
    ]
    summary = data["figures"]["summary"]
    falls = "The loss falls with every step in size." if summary["loss_falls"] else "Larger is not always better here."
    steps = "; ".join(
        f"from {step['from']} to {step['to']} (seed {step['seed']}) the loss changes by {step['loss']:+.4f} and "
        f"{step['tasks_better']} of {step['tasks']} headlines are better, {step['tasks_better_beyond_noise']} of them "
        "beyond the noise"
        for step in summary["steps"]
    )
    names = [f"{row['size']}, seed {row['seed']}" for row in rows]
    return [
        table(["Size", "Seed", "Parameters", "Steps", "Minutes", "Held-out loss"], sizes),
        table(["Task", "Figure", *names], tasks),
        f"{falls} {steps[:1].upper()}{steps[1:]}." if steps else falls,
    ]


def recipe(data: Data) -> list[str]:
    """Of `recipe.py`."""
    trained = {(row["variant"], row["seed"]): row for row in data["figures"]["rows"]}
    names = next(iter(trained.values()))["tasks"]
    whole = [
        [name, metric(one), *(number(row["tasks"][name]["answer"], row["tasks"][name]["stderr"])
            for (variant, _), row in trained.items() if variant == "whole")]
        for name, one in names.items()
    ]  # fmt: skip
    rows = [
        [row["undone"], str(row["seed"]), str(trained[row["undone"], row["seed"]]["steps"]),
            number(row["loss_without_over_with"]), *(number(row["gains"][name]) for name in names),
            f"{row['beyond_noise']} of {len(names)}", f"{row['worse_beyond_noise']} of {len(names)}"]
        for row in data["figures"]["comparison"]
    ]  # fmt: skip
    seeds = [f"Seed {seed}" for variant, seed in trained if variant == "whole"]
    steps = ", ".join(str(row["steps"]) for (variant, _), row in trained.items() if variant == "whole")
    return [
        f"{data['minutes']:g} minutes each; the recipe takes {steps} steps. Its headlines:",
        table(["Task", "Figure", *seeds], whole),
        "What each choice is worth: its gain in the headline, in its unit, above 0 where the recipe is better; and on "
        "how many tasks the recipe is better, or worse, by more than the noise.",
        table(["Undone", "Seed", "Steps", "Loss", *names, "Better with", "Worse with"], rows),
    ]


def context_length(data: Data) -> list[str]:
    """Of `context_length.py`."""
    tasks = data["figures"]["tasks"]
    counts = sorted(next(iter(tasks.values()))["pairs"], key=int)
    rows = []
    for name, row in tasks.items():
        held_out = " (not trained on)" if row["trained"] is False else ""
        found = [number(row["pairs"][count]["answer"]) for count in counts]
        rise = row["rise"]
        rows.append([name + held_out, metric(row["pairs"][counts[0]]), *found, number(rise["gain"], rise["stderr"])])
    summary = data["figures"]["summary"]
    return [
        table(["Task", "Figure", *(f"K = {count}" for count in counts), "Gain"], rows),
        f"From {counts[0]} to {counts[-1]} pairs quality rises on {summary['rising']} of {summary['tasks']} tasks, on "
        f"{summary['rising_beyond_stderr']} by more than a standard error; a gain above 0 is better.",
    ]


def steps(data: Data) -> list[str]:
    """Of `steps.py`."""
    figures = data["figures"]
    counts = sorted({row["nfe"] for own in figures.values() for row in own["settings"].values()})
    rows = []
    for name, own in figures.items():
        even = {row["nfe"]: row for key, row in own["settings"].items() if key.startswith("euler_uniform")}
        found = [number(even[count]["answer"], even[count]["stderr"]) if count in even else MISSING for count in counts]
        rows.append([name, metric(own), *found, (own["default"] or MISSING).replace("_", " ")])
    return [
        table(["Task", "Figure", *(f"NFE {count}" for count in counts), "Chosen"], rows),
        "The columns are Euler's even steps; the plot has Heun, midpoint and the tuned grids, too.",
    ]


def draw_steps(data: Data) -> str:
    """A panel a task: the headline by evaluations, a line for each solver and kind of grid."""
    panels = []
    for name, own in data["figures"].items():
        lines: dict[str, list[tuple[float, float | None]]] = {}
        for key, row in own["settings"].items():
            lines.setdefault(" ".join(key.split("_")[:2]), []).append((row["nfe"], row["answer"]))
        panels.append(Panel(name, lines, "evaluations", note_of(own), log_x=True))
    return draw(panels, 4)


def unseen_task(data: Data) -> list[str]:
    """Of `unseen_task.py`."""
    compared = {name: title for name, title in COMPARED.items() if name != "best_constant"}
    rows = [
        [row["task"], metric(row), str(row["pairs"]), str(row["seed"]), number(row["with"], row["with_stderr"]),
            number(row["without"], row["without_stderr"]),
            *(number(row["baselines"].get(name)) for name in compared), str(row["n"])]
        for row in data["figures"]["comparison"]
    ]  # fmt: skip
    header = ["Task", "Figure", "Pairs", "Seed", "Trained with", "Trained without", *compared.values(), "n"]
    trained = {row["arm"]: row for row in data["figures"]["rows"]}
    names = ", ".join(trained["without"]["trained_tasks"])
    most = max(row["pairs"] for row in data["figures"]["comparison"])
    return [
        table(header, rows),
        " ".join(unseen_said(row, compared) for row in data["figures"]["comparison"] if row["pairs"] == most),
        f"Steps of each training: {data['steps']}. Trained on in both: {names}.",
    ]


def unseen_said(row: Data, compared: Mapping[str, str]) -> str:
    """What a model that was not trained on a task is better than, and what it lacks."""
    unit = "" if row["unit"] == "1" else f" {row['unit']}"
    asked = f"{row['task']}, {row['pairs']} pairs, seed {row['seed']}"
    gains = {compared[name].lower(): gain for name, gain in row["gain_over_baselines"].items() if name in compared}
    if row["lost_unseen"] is None or None in gains.values():
        return f"{asked}: not measured."
    said = [
        f"{word} {' and '.join(names)}"
        for word, wanted in (("better than", True), ("not better than", False))
        if (names := [title for title, gain in gains.items() if (gain > 0) == wanted])
    ]
    worth = f"{number(row['lost_unseen'])}{unit}"
    return f"{asked}: without training on it {', '.join(said)}; training on it is worth {worth}."

"""Numbers and verdicts in words: what the terminal, the Markdown and the HTML page say alike."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lavindit.report.figure import (
    BASELINES,
    BEST_CONSTANT,
    FURTHER_BASELINES,
    MEAN_FILL,
    MEAN_TARGET,
    NEAREST_TARGET,
    QUERY,
    QUERY_VAE,
    Figure,
)
from lavindit.report.schema import Application, RunResult, TaskResult

Verdict = Literal["both", "one", "none", "unknown"]

RIVALS = (NEAREST_TARGET, MEAN_TARGET)
BASELINE_NAMES = {
    NEAREST_TARGET: "nearest target",
    MEAN_TARGET: "mean target",
    BEST_CONSTANT: "best constant",
    QUERY: "unchanged query",
    QUERY_VAE: "query through the VAE",
    MEAN_FILL: "mean fill",
}
VERDICT_NAMES: dict[Verdict, str] = {
    "both": "beats both",
    "one": "beats one of two",
    "none": "beats neither",
    "unknown": "not known",
}
LEGEND = {
    "Answer": "mean over the queries (and draws of context) ± its standard error over the queries; in brackets its "
    "standard deviation from one draw of context and noise to another.",
    "Nearest target": "copies the target of the context pair whose input is nearest to the query.",
    "Mean target": "the mean of the context targets.",
    "Best constant": "one fixed picture for all queries: black, white, mid-gray, the mean colour of training targets, "
    "or the mean or the median of each of their pixels; whichever scores best on these targets.",
    "Unchanged query": "gives the query back as it is; only where input and target are comparable.",
    "Query through the VAE": "the unchanged query, encoded and decoded.",
    "Mean fill": "the query, with the mean colour of what is visible in place of what is hidden.",
    "Ceiling": "the truth through the VAE and back: what a perfect transformer would score.",
    "Held out": "the model was never trained on this task.",
}


def columns_of(figures: Sequence[Figure]) -> list[str]:
    """The baselines that a table of figures shows: those of every test, and what else these are compared with."""
    return [*BASELINES, *(name for name in FURTHER_BASELINES if any(name in f.baselines for f in figures))]


def title_of(baseline: str) -> str:
    """The head of a baseline's column."""
    name = BASELINE_NAMES.get(baseline, baseline)
    return name[:1].upper() + name[1:]


def format_number(value: float | None, sign: bool = False, like: float | None = None) -> str:
    """About four significant digits with a fixed number of decimals per magnitude; "n/a" for None.

    Args:
        value: The number.
        sign: Show a plus too.
        like: Take as many decimals as this number would get, so that a column reads evenly.
    """
    if value is None:
        return "n/a"
    plus = "+" if sign else ""
    size = abs(like or value)
    if size >= 1e6 or (size < 0.001 and value != 0):
        return f"{value:{plus}.2e}"
    decimals = 1 if size >= 100 else 2 if size >= 10 else 3 if size >= 1 else 4
    return f"{value:{plus}.{decimals}f}"


def format_baseline(figure: Figure, baseline: str) -> tuple[str, str]:
    """The baseline and the signed margin to it, "" where that is unknown."""
    margin = figure.margin(baseline)
    value = format_number(figure.baselines.get(baseline), like=figure.answer)
    return value, "" if margin is None else format_number(margin, sign=True, like=figure.answer)


def format_error(figure: Figure) -> str:
    """The standard error with ±, "" where it is unknown."""
    if figure.answer is None or figure.stderr is None:
        return ""
    return f"±{format_number(figure.stderr, like=figure.answer)}"


def format_ceiling(figure: Figure) -> str:
    """The ceiling with the decimals of the answer."""
    return format_number(figure.ceiling, like=figure.answer)


def format_seconds(seconds: float | None) -> str:
    """Three significant digits, without the unit."""
    return "n/a" if seconds is None else f"{seconds:.3g}"


def describe_asking(application: Application) -> str:
    """Who answered, shown what, and in what time."""
    asked, parts = application.asked, []
    if asked:
        pairs = asked.get("pairs")
        parts += [f"by {asked.get('model')}", f"{pairs} {'pair' if pairs == 1 else 'pairs'} ({asked.get('context')})"]
    if application.seconds is not None:
        parts.append(f"answered in {format_seconds(application.seconds)} s")
    return ", ".join(parts)


def format_answer(figure: Figure) -> str:
    """The answer ± its standard error, and its spread over draws of context in brackets, without the unit."""
    return f"{format_number(figure.answer)} {format_error(figure)} {format_spread(figure)}".rstrip()


def format_spread(figure: Figure) -> str:
    """Standard deviation over draws of context, in brackets; "" where there was one draw."""
    if figure.answer is None or figure.draw_std is None:
        return ""
    return f"[{format_number(figure.draw_std, like=figure.answer)}]"


def format_metric(figure: Figure) -> str:
    """Name, unit and an arrow towards better."""
    unit = "" if figure.unit in ("", "1") else f" ({figure.unit})"
    return f"{figure.metric}{unit} {format_arrow(figure)}"


def format_arrow(figure: Figure) -> str:
    """Where better is."""
    return "↑" if figure.direction == "max" else "↓"


def format_value(value: Any) -> str:
    """A value of the settings, the machine and so on."""
    if value is None:
        return "n/a"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(format_value(item) for item in value)
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def flatten(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Key and value, nested keys joined by a dot; what is the same for several keys is said once for all of them."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        several = list(value.values()) if isinstance(value, dict) else []
        if len(several) > 1 and not isinstance(several[0], dict) and all(one == several[0] for one in several):
            rows.append((f"{prefix}{key}", f"{format_value(several[0])} (all {len(several)})"))
        elif isinstance(value, dict) and value:
            rows += flatten(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", format_value(None if value == {} else value)))
    return rows


def judge(result: TaskResult) -> Verdict:
    """Whether the answer beats the first two baselines on the headline metric."""
    wins = [result.beats(baseline) for baseline in RIVALS]
    if any(win is None for win in wins):
        return "unknown"
    return "both" if all(wins) else "one" if any(wins) else "none"


def loses_to_query(result: TaskResult) -> bool:
    """The answer is no better than the query as it was given: both baselines beaten is then no success."""
    return result.beats(QUERY) is False


def shortfall(result: TaskResult) -> float | None:
    """The worse of the two margins to the first two baselines, as far as they are known."""
    margins = [margin for baseline in RIVALS if (margin := result.margin(baseline)) is not None]
    return min(margins, default=None)


def compare(figure: Figure, baseline: str) -> str:
    """E.g. "better by 0.2100 m than the mean target"; says so when that may be chance, or is not known."""
    name = BASELINE_NAMES.get(baseline, baseline)
    margin = figure.margin(baseline)
    if margin is None:
        return f"not compared with the {name}"
    if margin == 0:
        return f"equal to the {name}"
    chance = " (within two standard errors)" if figure.stderr is not None and abs(margin) < 2 * figure.stderr else ""
    unit = {"1": "", "%": " percentage points"}.get(figure.unit, f" {figure.unit}".rstrip())
    amount = format_number(abs(margin), like=figure.answer) + unit
    return f"{'better' if margin > 0 else 'worse'} by {amount} than the {name}{chance}"


def describe_headline(result: TaskResult) -> str:
    """What the answer scores on the headline metric, and on how many queries."""
    figure = result.headline
    better = "higher" if figure.direction == "max" else "lower"
    unit = "" if figure.unit in ("", "1") else f" {figure.unit}"
    queries = f"{result.n} {'query' if result.n == 1 else 'queries'}"
    pairs = f"{result.pairs} {'pair' if result.pairs == 1 else 'pairs'}"
    score = f"{format_answer(figure)}{unit}" if figure.answer is not None else "no figure"
    draws = f", in {result.draws} draws of context and noise" if result.draws > 1 else ""
    return f"{figure.metric}: {score} on {queries}, {pairs} shown with each{draws} ({better} is better)."


def describe_verdict(result: TaskResult) -> str:
    """Whether the first two baselines are beaten, by how much or by how much not; then the unchanged query."""
    figure = result.headline
    opening = {
        "both": "Beats both baselines",
        "one": "Beats one of the two baselines",
        "none": "Beats neither baseline",
        "unknown": "Not all baselines are known",
    }[judge(result)]
    text = f"{opening}: {compare(figure, NEAREST_TARGET)}, {compare(figure, MEAN_TARGET)}."
    others = [name for name in columns_of([figure]) if name not in RIVALS and figure.baselines.get(name) is not None]
    if others:
        text += f" Also {'; '.join(compare(figure, name) for name in others)}."
    if is_limited(figure):
        text += " The ceiling is no better than an answer or a baseline: the VAE limits this task, not the transformer."
    return text


def describe_making(result: TaskResult) -> str:
    """How the answers were sampled, and what the best constant is; "" where the result does not say."""
    sampling, parts = result.sampling, []
    if sampling:
        parts.append(f"Answered in {describe_sampling(sampling)}.")
    if result.constant:
        parts.append(f"Best constant: {result.constant}.")
    return " ".join(parts)


def describe_sampling(sampling: Mapping[str, Any]) -> str:
    """Solver, steps and whatever differs from the plainest choice, e.g. "8 steps (euler), guidance 2.5"."""
    steps, times = sampling.get("steps"), sampling.get("times") or []
    text = f"{steps} {'step' if steps == 1 else 'steps'} ({sampling.get('solver')})"
    if times:
        text += f" at {', '.join(f'{time:.3g}' for time in times)}"
    plainest = {"guidance": 1, "posterior": "mean", "start": "noise"}
    plainest |= {} if times else {"grid": "uniform", "shift": 1}
    said = {name: sampling.get(name, usual) for name, usual in plainest.items()}
    return ", ".join([text, *(f"{name} {format_value(v)}" for name, v in said.items() if v != plainest[name])])


def is_limited(figure: Figure) -> bool:
    """The truth through the VAE scores no better than the answer or a baseline: nothing can be read off the verdict."""
    others = [value for value in (figure.answer, *figure.baselines.values()) if value is not None]
    if figure.ceiling is None or not others:
        return False
    return figure.ceiling <= max(others) if figure.direction == "max" else figure.ceiling >= min(others)


def is_uncertain(result: TaskResult) -> bool:
    """Both baselines are beaten, one of them by less than two standard errors of the answer."""
    margins, error = [result.margin(baseline) for baseline in RIVALS], result.headline.stderr
    return error is not None and judge(result) == "both" and min(m for m in margins if m is not None) < 2 * error


def describe_run(result: RunResult) -> str:
    """On how many tasks both baselines are beaten, the held-out ones counted apart."""
    if not result.tasks:
        shown = len(result.applications)
        return f"{shown} {'answer' if shown == 1 else 'answers'} on other pictures." if shown else "No task was scored."

    def count(wins: list[bool]) -> str:
        return f"{sum(wins)} of {len(wins)}"

    trained = [judge(task) == "both" for task in result.tasks if not task.held_out]
    held_out = [judge(task) == "both" for task in result.tasks if task.held_out]
    parts = [f"{count(trained)} trained tasks"] if trained else []
    parts += [f"{count(held_out)} held-out tasks"] if held_out else []
    text = f"The answers beat both baselines, nearest target and mean target, on {' and '.join(parts)}."
    uncertain = sum(is_uncertain(task) for task in result.tasks)
    if uncertain:
        text += f" On {uncertain} of them one is beaten by less than two standard errors, which may be chance."
    against_constant = [win for task in result.tasks if (win := task.beats(BEST_CONSTANT)) is not None]
    if against_constant:
        text += f" They beat the best constant on {count(against_constant)} tasks."
    against_query = [win for task in result.tasks if (win := task.beats(QUERY)) is not None]
    if against_query:
        text += f" They beat the unchanged query on {count(against_query)} tasks where the two are comparable."
    return text


def describe_origin(result: RunResult) -> list[tuple[str, str]]:
    """What identifies the run, besides model, data, settings and machine."""
    return [
        ("seed", str(result.seed)),
        ("commit", result.commit or "n/a"),
        ("lavindit", result.lavindit_version),
        ("created", result.created),
    ]

"""One metric of one task, for the answer and for what it is compared with."""

from dataclasses import dataclass, field
from typing import Literal

from lavindit.report.records import Record, finite

NEAREST_TARGET = "nearest_target"
MEAN_TARGET = "mean_target"
BEST_CONSTANT = "best_constant"
QUERY = "query"
BASELINES = (NEAREST_TARGET, MEAN_TARGET, BEST_CONSTANT, QUERY)
"""What every test is compared with, in the order of the columns."""

QUERY_VAE = "query_vae"
MEAN_FILL = "mean_fill"
FURTHER_BASELINES = (QUERY_VAE, MEAN_FILL)
"""What only the tasks are compared with that name it (`Task.baselines`)."""

CODEC = "codec"
PCA_MIXTURE = "pca_mixture"
PCA_OWN = "pca_own"


@dataclass(frozen=True)
class Figure(Record):
    """One metric of one task, for the answer and for what it is compared with.

    Numbers that are not finite count as not measured and become None.

    Attributes:
        metric: Key of the metric.
        unit: Unit, "1" for none.
        direction: "min" where smaller is better, "max" where larger is.
        headline: The figure that the task is judged by first.
        answer: Mean over the queries, and over the draws of context. In the test of a VAE: of the truth through it.
        stderr: Standard error of `answer` over the queries.
        baselines: Same metric for "nearest_target" (the target of the context pair whose input is nearest to
            the query), "mean_target" (the mean of the context targets), "best_constant" (one fixed picture, chosen on
            training targets), "query" (the query unchanged; only where input and target are comparable), and of the
            tasks that name them "query_vae" (the query through the VAE and back) and "mean_fill" (what is hidden in
            the query filled with the mean of what is not). In the test of a VAE: "codec" (the truth through the codec
            and back; left out where the picture is the truth), or for a modality "pca_mixture" and "pca_own", see
            `ModalityResult`.
        ceiling: Same metric for the truth through the VAE and back.
        draw_std: Standard deviation of `answer` from one draw of context (and noise) to another; None for one draw.
        std: Standard deviation over the samples; None where the figure is no mean over them, or it is not known.
    """

    metric: str
    unit: str
    direction: Literal["min", "max"]
    headline: bool
    answer: float | None
    stderr: float | None = None
    baselines: dict[str, float | None] = field(default_factory=dict)
    ceiling: float | None = None
    draw_std: float | None = None
    std: float | None = None

    def __post_init__(self) -> None:
        for name in ("answer", "stderr", "draw_std", "ceiling", "std"):
            object.__setattr__(self, name, finite(getattr(self, name)))
        object.__setattr__(self, "baselines", {key: finite(value) for key, value in self.baselines.items()})

    def margin(self, baseline: str) -> float | None:
        """By how much the answer is better than the baseline, in `unit`: negative when worse, None if unknown."""
        return self.gain_over(self.baselines.get(baseline))

    def gain_over(self, other: float | None) -> float | None:
        """By how much the answer is better than another value of the metric; None if either is unknown."""
        if self.answer is None or other is None:
            return None
        return self.answer - other if self.direction == "max" else other - self.answer

    def beats(self, baseline: str) -> bool | None:
        """Whether the answer is strictly better than the baseline; None if either is unknown."""
        margin = self.margin(baseline)
        return None if margin is None else margin > 0

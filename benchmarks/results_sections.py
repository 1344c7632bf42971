"""The sections of docs/results.md: what each says, which table it has, and what it does not show."""

from collections.abc import Callable
from dataclasses import dataclass

from results_beside import (
    autoregressive,
    autoregressive_latency,
    draw_autoregressive_latency,
    latency,
    specialists,
)
from results_tables import (
    Data,
    context_length,
    draw_steps,
    model_size,
    perceptual,
    recipe,
    released,
    steps,
    unseen_task,
)


@dataclass(frozen=True)
class Section:
    """One result on the page.

    Attributes:
        title: Heading.
        stem: Name of the JSON file without its suffix; its plot has the same.
        command: What makes it, in short.
        says: What was compared.
        render: Tables and sentences of a result.
        limits: What it does not show.
        draw: The plot as SVG, where the script that makes the result draws none.
    """

    title: str
    stem: str
    command: str
    says: str
    render: Callable[[Data], list[str]]
    limits: str
    draw: Callable[[Data], str] | None = None


SECTIONS = (
    Section(
        "The released model", "nano", "lavindit benchmark full --model nano --out RUN` and a copy of `RUN/result.json",
        "Every task on scenes that no training has seen, one set of weights, the pairs being all that says what is "
        "asked.", released,
        "How it does on photographs, or on anything else than the embedded world; and one training is one seed.",
    ),
    Section(
        "Generated pictures, perceptually", "nano_perceptual",
        "LAVINDIT_PERCEPTUAL=FILE lavindit benchmark full --model nano --draws 1 --task ... --out RUN` and a copy of "
        "`RUN/result.json",
        "A picture of a depth or normal map or of a pose is one of many that would be right, so nearness pixel by "
        "pixel says little. `lpips_proxy` compares features of a VGG16 under the weights of LPIPS; it is not LPIPS "
        "([metrics.md](metrics.md)), and less is better.", perceptual,
        "Whether the pictures look real: it measures how near they are to the true one. Clips are not measured.",
    ),
    Section(
        "Beside an autoregressive model", "autoregressive", "python benchmarks/autoregressive_baseline.py",
        "The way of large vision models (LVM): tokens of a codebook, a decoder that continues visual sentences. Same "
        "mixture, equal parameters, equal training time, the same queries, pairs and metrics.", autoregressive,
        "How the two compare after longer training, at larger size or on clips, which the baseline here does not "
        "answer. It is our own baseline at nano size, not the published model, and its recipe was chosen of far fewer "
        "trials than ours ([benchmarks/README.md](../benchmarks/README.md)).", None,
    ),
    Section(
        "Seconds a query, beside the autoregressive model", "autoregressive_latency",
        "python benchmarks/autoregressive_baseline.py --latency",
        "Seconds from picture to picture, by resolution and pairs. \"cached\": the pairs were read before, for all "
        "queries; \"anew\": for each query; \"released\": everything in every step.", autoregressive_latency,
        "Batches, GPUs and kernels made for either way. Times of one machine compare with one another alone.",
        draw_autoregressive_latency,
    ),
    Section(
        "Beside specialists", "specialists", "python benchmarks/specialists.py --result RUN --run RUNS",
        "A U-Net of as many parameters, trained on one task alone, without pairs; tested on the same queries.",
        specialists,
        "The best that a specialist can do: these are plain networks, trained for minutes of one core, with one "
        "learning rate for all tasks. Nano was trained for 140 minutes on two cores, 13 minutes of a core for each of "
        "its 22 tasks.",
    ),
    Section(
        "By model size", "model_size", "python benchmarks/model_size.py --run RUNS --steps N",
        "The same training of three sizes of the transformer: same steps, episodes, schedule and learning rate.",
        model_size,
        "Equal time, in which a smaller model takes more steps, or sizes beyond these. The learning rate was not "
        "chosen for each size, and few seeds do not tell small differences from chance.",
    ),
    Section(
        "By number of pairs", "context_length", "python benchmarks/context_length.py --model nano",
        "The same queries with 1 to 8 pairs; a shorter context is the beginning of the longer one.", context_length,
        "Contexts longer than those of training, or chosen rather than drawn. What nearest and mean target gain from "
        "more pairs is in the plot: a rise is not by itself the model's merit.",
    ),
    Section(
        "What pays in training", "recipe", "python benchmarks/recipe.py --run RUNS --minutes M",
        "The recipe of nano, and the recipe with one choice made otherwise, in equal time. Loss: geometric mean over "
        "tasks of the held-out loss without the choice over that with it, above 1 where the choice pays.", recipe,
        "Longer trainings, in which choices that cost time at first may pay, and the other way round; choices that are "
        "undone together. The learning rate is that of the recipe for all.",
    ),
    Section(
        "What a compiled prompt saves", "latency", "python benchmarks/latency.py",
        "A query with its prompt compiled beside the released way, which computes all pairs anew in every step; "
        "random weights.", latency,
        "Quality: these are times. Every cell by pairs, size and resolution is in the JSON.",
    ),
    Section(
        "By steps of the solver", "steps", "python benchmarks/steps.py --model nano",
        "The same noise, integrated with more or fewer evaluations of the network (NFE); the setting that is chosen "
        "for a task has fewest evaluations within a standard error of the best.", steps,
        "That more steps would make up for less training: the figures saturate where the model's own error begins.",
        draw_steps,
    ),
    Section(
        "Tasks that were never trained on", "unseen_task", "python benchmarks/unseen_task.py",
        "Two trainings in equal steps, with and without three tasks; both are asked these tasks by pairs alone. Looked "
        "at, the answers without the training are those of what is nearest among the trained tasks: foreground comes "
        "in the colours of instances, normals come as the query in some of the pairs' colours, without its surfaces.",
        unseen_task,
        "Tasks unlike any that were trained: parts of these occur in others, as `unseen_task.py` says. The three are "
        "left out together, so it is not told what each alone would cost.",
    ),
)  # fmt: skip

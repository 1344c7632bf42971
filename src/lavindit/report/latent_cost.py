"""What the test of a VAE found, as tables and words that the terminal, the Markdown and the HTML page show alike."""

from collections.abc import Sequence
from dataclasses import dataclass

from lavindit.report.figure import CODEC, PCA_MIXTURE, PCA_OWN, Figure
from lavindit.report.schema import ModalityResult, Reconstruction, RunResult, TaskResult
from lavindit.report.wording import format_error, format_metric, format_number

PCA_NAMES = {PCA_MIXTURE: "PCA, mixture", PCA_OWN: "PCA, own"}
LEGEND = {
    "n": "pictures or clips that differ; one that several tasks show counts once.",
    "±": "standard error over the pictures; in brackets their standard deviation.",
    "PCA, mixture": "the first principal components of 8x8 blocks, as many as the latent has channels, fitted on "
    "training pictures of all tasks, weighted as in training; below it by how much the VAE is better (+) or worse (-).",
    "PCA, own": "the same, fitted on training pictures of this row's kind alone, which is harder to beat; below other "
    "figures than PSNR what these components score.",
    "Clips": "the components take them frame by frame, and so keep about four times as many numbers as the latent.",
    "dt_rmse": "error of the change from frame to frame, root mean square, in grey levels of 8 bits.",
    "Codec alone": "the truth through its codec and back, without the VAE.",
    "Cost": "by how much the VAE is worse than that: what the latent space costs this task.",
}


@dataclass(frozen=True)
class Cell:
    """A place of a table: what it says, what stands small below it, and whether that is good news."""

    text: str
    small: str = ""
    good: bool | None = None


@dataclass(frozen=True)
class Table:
    """A table of cells; the first column names its row."""

    title: str
    header: list[str]
    rows: list[list[Cell]]


def tables_of(result: RunResult, every_figure: bool) -> list[Table]:
    """Images, clips and codecs; those without a row are left out.

    Args:
        result: The test of a VAE.
        every_figure: Show all figures of the codecs and not only the headlines.
    """
    images = [modality for modality in result.modalities if modality.frames == 1]
    clips = [modality for modality in result.modalities if modality.frames > 1]
    tables = [
        _modality_table("Images through the VAE", images),
        _modality_table("Clips through the VAE", clips),
        _codec_table(result.tasks, every_figure),
    ]
    return [table for table in tables if table.rows]


def describe_latent_cost(result: RunResult) -> str:
    """On how many kinds of pictures the VAE beats principal components of their own, and where it fares worst."""
    margins = {
        name_of(modality): margin
        for modality in result.modalities
        if (margin := modality.figures[0].margin(PCA_OWN)) is not None
    }
    pictures = sum(modality.n for modality in result.modalities)
    kinds = len(result.modalities)
    text = f"{pictures} pictures of {kinds} {'kind' if kinds == 1 else 'kinds'} through the VAE and back."
    if not margins:
        return text
    wins = sum(margin > 0 for margin in margins.values())
    worst, best = min(margins, key=margins.__getitem__), max(margins, key=margins.__getitem__)
    text += f" It keeps more than as many principal components of their own do on {wins} of {len(margins)} kinds:"
    return f"{text} from {margins[worst]:+.2f} dB ({worst}) to {margins[best]:+.2f} dB ({best})."


def name_of(modality: ModalityResult) -> str:
    """What the pictures show, and that they are clips."""
    return modality.modality if modality.frames == 1 else f"{modality.modality}, {modality.frames} frames"


def describe_picture(picture: Reconstruction) -> str:
    """The caption of an example."""
    psnr = "" if picture.psnr is None else f": {picture.psnr:.2f} dB"
    return f"{picture.sample_id}{psnr}"


def parts_of(picture: Reconstruction) -> list[tuple[str, str]]:
    """Label and path of an example's pictures."""
    return [
        ("truth", picture.truth),
        ("through the VAE", picture.rebuilt),
        (f"error, {picture.gain:g} times", picture.error),
    ]


def _modality_table(title: str, modalities: Sequence[ModalityResult]) -> Table:
    """A row a kind, a column a figure that any of them has; those of the components stand beside PSNR."""
    metrics = list(dict.fromkeys(figure.metric for modality in modalities for figure in modality.figures))
    heads = {f.metric: format_metric(f) for modality in modalities for f in modality.figures}
    header = ["Pictures", "n"]
    for metric in metrics:
        header += [heads[metric], *(PCA_NAMES.values() if metric == "psnr" else [])]
    rows = []
    for modality in modalities:
        row = [Cell(name_of(modality)), Cell(str(modality.n))]
        for metric in metrics:
            figure = modality.figure(metric)
            row.append(_figure_cell(figure, with_rivals=metric != "psnr"))
            row += [_rival_cell(figure, rival) for rival in PCA_NAMES] if metric == "psnr" else []
        rows.append(row)
    return Table(title, header, rows)


def _figure_cell(figure: Figure | None, with_rivals: bool) -> Cell:
    """A figure; small below it its error and spread, or what the components of its own pictures score."""
    if figure is None:
        return Cell("n/a")
    value = format_number(figure.answer)
    if with_rivals:
        rival = figure.baselines.get(PCA_OWN)
        return Cell(value, "" if rival is None else f"PCA {format_number(rival, like=figure.answer)}")
    spread = "" if figure.std is None else f" [{format_number(figure.std, like=figure.answer)}]"
    return Cell(value, format_error(figure) + spread)


def _rival_cell(figure: Figure | None, rival: str) -> Cell:
    """What the components score, and by how much the VAE is better."""
    if figure is None or (margin := figure.margin(rival)) is None:
        return Cell("n/a")
    value = format_number(figure.baselines[rival], like=figure.answer)
    return Cell(value, format_number(margin, sign=True, like=figure.answer), margin > 0)


def _codec_table(tasks: Sequence[TaskResult], every_figure: bool) -> Table:
    header = ["Task", "Metric", "Through the VAE", "Codec alone", "Cost", "n"]
    rows = []
    for task in tasks:
        for figure in task.figures if every_figure else [task.headline]:
            name = Cell(task.task, "held out" if task.held_out else "")
            answer = Cell(format_number(figure.answer), format_error(figure))
            rows.append([name, Cell(format_metric(figure)), answer, *_codec_cells(figure), Cell(str(task.n))])
    return Table("Codecs through the VAE", header, rows)


def _codec_cells(figure: Figure) -> list[Cell]:
    """What the codec costs alone and what the VAE adds; nothing where the picture is the truth itself."""
    margin = figure.margin(CODEC)
    if margin is None:
        return [Cell("no codec" if CODEC not in figure.baselines else "n/a"), Cell("")]
    # Rounding in single precision is not worth its digits.
    floor = figure.baselines[CODEC]
    floor = 0.0 if floor is not None and abs(floor) < 1e-5 else floor
    return [Cell(format_number(floor, like=figure.answer)), Cell(format_number(-margin, like=figure.answer))]

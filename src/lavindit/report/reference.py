"""Figures that others have published on other data, to stand beside ours and never to be compared with them.

Source: Wang et al., "LaVin-DiT: Large Vision Diffusion Transformer", CVPR 2025, whose tables also have LVM-7B (Bai et
al., "Sequential Modeling Enables Scalable Learning for Large Vision Models", CVPR 2024). Its errors of colorization as
MSE are left out: on which scale they are is not said.
"""

from dataclasses import dataclass

from lavindit.report.schema import RunResult

SOURCE = "Wang et al., LaVin-DiT, CVPR 2025"
TITLE = "Published, on other data"
CAVEAT = (
    f"Other data, other resolution, other training: not comparable with the figures of this test. Source: {SOURCE}."
)


@dataclass(frozen=True)
class Reference:
    """A published figure, in the units of our metric.

    Attributes:
        task: Our task of that kind.
        metric: Key of our metric.
        lavin_dit: LaVin-DiT of 3.4 B parameters.
        lvm: LVM of 7 B parameters.
        data: The data set.
    """

    task: str
    metric: str
    lavin_dit: float
    lvm: float
    data: str


REFERENCES = (
    Reference("foreground_segmentation", "miou", 67.87, 48.94, "Pascal-5i, split 1"),
    Reference("foreground_segmentation", "miou", 75.80, 51.29, "Pascal-5i, split 2"),
    Reference("foreground_segmentation", "miou", 66.98, 47.66, "Pascal-5i, split 3"),
    Reference("foreground_segmentation", "miou", 66.90, 50.82, "Pascal-5i, split 4"),
    Reference("object_detection", "miou", 67.85, 48.25, "Pascal-5i, split 1"),
    Reference("object_detection", "miou", 69.32, 49.60, "Pascal-5i, split 2"),
    Reference("object_detection", "miou", 68.76, 50.08, "Pascal-5i, split 3"),
    Reference("object_detection", "miou", 68.88, 48.92, "Pascal-5i, split 4"),
    Reference("colorization", "lpips", 0.26, 0.46, "ImageNet"),
    Reference("inpainting", "fid", 1.65, 4.05, "ImageNet"),
    Reference("depth_estimation", "abs_rel", 0.062, 0.302, "NYUv2"),
    Reference("depth_estimation", "delta1", 0.961, 0.523, "NYUv2"),
    Reference("normal_estimation", "mean_deg", 15.901, 23.433, "NYUv2"),
    Reference("normal_estimation", "within_11_25", 58.382, 44.836, "NYUv2"),
)


def references_of(result: RunResult, task: str) -> list[Reference]:
    """What was published of a task, where the test was on the embedded world; on a public data set nothing is shown."""
    source = result.data.get("source")
    elsewhere = isinstance(source, dict) and source.get("root") is not None
    return [] if elsewhere else [reference for reference in REFERENCES if reference.task == task]


def describe_references(result: RunResult, task: str, metric: str) -> str:
    """The published figures of a metric in a few words, e.g. "0.062 (NYUv2)"; "" where there is none."""
    found = [reference for reference in references_of(result, task) if reference.metric == metric]
    if not found:
        return ""
    values = sorted({f"{reference.lavin_dit:g}" for reference in found}, key=float)
    value = values[0] if len(values) == 1 else f"{values[0]}-{values[-1]}"
    return f"{value} ({found[0].data.partition(',')[0]})"

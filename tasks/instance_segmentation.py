"""Instance segmentation: every thing in a colour of its own."""

from lavindit.metrics import InstanceMetric
from lavindit.task import Column, InstanceTask


class InstanceSegmentation(InstanceTask):
    """Give every thing a colour of its own, from left to right as the pairs show."""

    name = "instance_segmentation"
    version = 1
    summary = "Give every thing a colour of its own, from left to right as the pairs show; all else is black."
    columns = (
        Column("ap", "%", "max", headline=True),
        Column("ap50", "%", "max"),
        Column("ap75", "%", "max"),
        Column("mbo", "%", "max"),
    )
    protocol = (
        "Mask AP at IoU 0.50:0.95 and mean best overlap, of all classes as one; the answer's masks are ranked by area, "
        "since a picture holds no scores. Things of fewer than 16 px are invalid. Any order of colours is right."
    )
    citation = "Protocol: Lin et al., ECCV 2014 (COCO)."

    def make_metric(self) -> InstanceMetric:
        """Mask AP and mean best overlap."""
        return InstanceMetric(by_class=False)

"""The embedded world as a dataset of `Scene`s."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from lavindit.data.world.parameters import Parameters
from lavindit.data.world.render import Rendered, move, render
from lavindit.data.world.sampling import Draw, sample, uniforms
from lavindit.types import Scene

RAYS_AT_ONCE = 131072
"""How many rays a processor core works on together, so that their tensors stay in its cache."""

FLOW_STEPS = 16384
"""Flow is kept in 16 bits, in steps of this fraction of the picture's side."""

SPLITS = ("train", "val", "test")


class WorldSource:
    """A map-style dataset of rendered scenes, each the same whatever the chunk, the device's batch or the order.

    Scenes are rendered when first touched, `chunk` at a time, and kept in memory (15 bytes a pixel, in clips 20): rgb
    is rounded to 8 bits, normals to half precision and flow to 1/16384 of the picture's side, where it is cut at twice
    the side (far outside the picture); depth stays float32. Scenes with an even index have a figure, unless it could
    not be placed.

    Args:
        split: "train", "val" or "test"; they share no scene.
        resolution: Height and width in pixels. The same index shows the same scene at any resolution.
        scenes: Length of the dataset.
        seed: Another seed, another world.
        frames: Length of clips; 1 for stills. Frame 0 of a clip is the still of the same index.
        chunk: How many scenes are rendered together.
        device: Where to render; scenes are returned on the CPU.

    Raises:
        ValueError: If the split is unknown or a count is not positive.
    """

    provides: frozenset[str]

    def __init__(
        self,
        split: str,
        resolution: int = 64,
        scenes: int = 4096,
        seed: int = 0,
        frames: int = 1,
        chunk: int = 64,
        device: torch.device | str = "cpu",
    ):
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; one of {', '.join(SPLITS)}")
        if min(resolution, scenes, frames, chunk) < 1:
            raise ValueError("resolution, scenes, frames and chunk must be positive")
        self.split, self.resolution, self.scenes, self.seed = split, resolution, scenes, seed
        self.frames, self.chunk, self.device = frames, chunk, device
        names = {"depth_m", "normals", "instance_ids", "class_ids", "keypoints_px"}
        self.provides = frozenset(names | ({"flow_px", "occluded"} if frames > 1 else set()))
        self._chunks: dict[int, list[dict[str, Tensor]]] = {}
        rays = RAYS_AT_ONCE * (1 if torch.device(device).type == "cpu" else 64)
        self._batch = max(1, min(chunk, rays // (resolution * resolution * frames)))

    def __len__(self) -> int:
        return self.scenes

    def __getitem__(self, index: int) -> Scene:
        """Scene `index`; negative indices count from the end."""
        if not -self.scenes <= index < self.scenes:
            raise IndexError(f"scene {index} of {self.scenes}")
        index = int(index) % self.scenes
        batch, place = divmod(index % self.chunk, self._batch)
        row = {name: value[place] for name, value in self._load(index // self.chunk)[batch].items()}
        normals = row["normals"].float()
        length = normals.square().sum(0, keepdim=True).sqrt()
        return Scene(
            scene_id=f"world/{self.split}/{self.seed}/{index}",
            rgb=row["rgb"].float() / 255,
            depth_m=row["depth_m"].clone(),
            normals=torch.where(length > 0.5, normals / length.clamp_min(0.5), 0.0),
            instance_ids=row["instance_ids"].long(),
            class_ids=row["class_ids"].long(),
            keypoints_px=row["keypoints_px"][row["figures"]],
            **self._motion(row),
        )

    def _motion(self, row: dict[str, Tensor]) -> dict[str, Tensor]:
        """Flow and occlusion of a clip, the last frame of which has neither."""
        if self.frames == 1:
            return {}
        pad = torch.nn.functional.pad
        flow_px = row["flow_steps"].float() * (self.resolution / FLOW_STEPS)
        last = (0, 0, 0, 0, 0, 1)
        return {"flow_px": pad(flow_px, last, value=torch.nan), "occluded": pad(row["occluded"], last)}

    def preload(self) -> "WorldSource":
        """Render everything now, for instance before worker processes are forked."""
        for number in range(-(-self.scenes // self.chunk)):
            self._load(number)
        return self

    def _load(self, number: int) -> list[dict[str, Tensor]]:
        """Chunk `number`, as batches of `self._batch` scenes."""
        if number not in self._chunks:
            end = min((number + 1) * self.chunk, self.scenes)
            starts = range(number * self.chunk, end, self._batch)
            batches = [range(start, min(start + self._batch, end)) for start in starts]
            on_cpu = torch.device(self.device).type == "cpu"
            self._chunks[number] = _side_by_side(self._render, batches) if on_cpu else [*map(self._render, batches)]
        return self._chunks[number]

    def parameters(self, indices: Sequence[int]) -> Parameters:
        """What scenes are made of, cameras included, before they are rendered."""
        draw = Draw(uniforms(self.seed, self.split, indices))
        return sample(draw, torch.tensor([i % 2 == 0 for i in indices]))

    def _render(self, indices: Sequence[int]) -> dict[str, Tensor]:
        parameters = move(self.parameters(indices), self.device)
        return _compact(move(render(parameters, self.resolution, self.frames), "cpu"))


def _side_by_side(function: Callable[[range], Any], parts: list[range]) -> list[Any]:
    """Map over the parts in as many threads as torch has, each of them computing alone.

    Torch's own parallel loops meet at a barrier after every operation; on a busy machine that costs a hundredfold.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(function, parts))
    finally:
        torch.set_num_threads(threads)


def _compact(rendered: Rendered) -> dict[str, Tensor]:
    stored = {
        "rgb": (rendered.rgb * 255).round().to(torch.uint8),
        "depth_m": rendered.depth_m,
        "normals": rendered.normals.half(),
        "instance_ids": rendered.instance_ids.to(torch.uint8),
        "class_ids": rendered.class_ids.to(torch.uint8),
        "keypoints_px": rendered.keypoints_px,
        "figures": rendered.figures,
    }
    if rendered.flow_px is not None and rendered.occluded is not None:
        steps = rendered.flow_px[:, :, :-1] * (FLOW_STEPS / rendered.rgb.shape[-1])
        stored["flow_steps"] = steps.round().clamp(-32768, 32767).to(torch.int16)
        stored["occluded"] = rendered.occluded[:, :, :-1]
    return {name: value.contiguous() for name, value in stored.items()}

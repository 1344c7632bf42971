"""How much of the world can be guessed without looking: shortcuts, recorded before anyone trains.

(a) The mean of K = 4 context targets, drawn from the training split, as the answer to every test query: for depth the
    mean of log-depth gray, decoded, then aligned to the truth in scale and shift by least squares; for normals the mean
    vector; for the foreground the mean mask above 0.5, its intersection over union pooled over all queries.
(b) A per-pixel gradient-boosted regressor from (r, g, b, x, y).
(c) No motion, as the answer to the flow of every pixel of a clip but its last frame: the mean length of the truth.

Beside these, facts that are good to know: how long motions are, how much is occluded, how much there is to see.

Run: `python benchmarks/world_difficulty.py` (about two minutes on one core).
"""

import argparse
import json
import math
import shlex
import sys
from pathlib import Path

import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import r2_score
from torch import Tensor

import lavindit  # noqa: F401  (first: it repairs torchvision)
from lavindit.data import world
from lavindit.data.world import CLASS_NAMES, WORLD_VERSION, WorldSource

CONTEXT = 4
TRAIN_SCENES = 1000
PIXELS_A_SCENE = 64
CLIPS, FRAMES = 128, 13
QUANTILES = (0.5, 0.9, 0.99, 0.999)
NEAR_M, FAR_M = 0.5, 30.0
THRESHOLDS = {
    "mean_context_depth_absrel": (">=", 0.25),
    "mean_context_normals_deg": (">=", 30.0),
    "mean_context_foreground_miou_pct": ("<=", 35.0),
    "pixel_log_depth_r2": ("<", 0.4),
    "pixel_depth_r2": ("<", 0.4),
    "pixel_normals_r2": ("<", 0.4),
    "zero_flow_epe_64_px": (">=", 4.0),
    "zero_flow_epe_128_px": (">=", 8.0),
}


def align(answer: Tensor, truth: Tensor) -> Tensor:
    """Least-squares scale and shift of answer [n] to truth [n], at least 1 mm."""
    design = torch.stack([answer, torch.ones_like(answer)], 1).double()
    solution = torch.linalg.pinv(design) @ truth.double()
    return (design @ solution).float().clamp_min(1e-3)


def mean_of_context(scenes: int, resolution: int, seed: int) -> dict[str, float]:
    """Scores of the mean of K context targets, averaged over test scenes."""
    train, test = (WorldSource(s, resolution, n, seed) for s, n in (("train", TRAIN_SCENES), ("test", scenes)))
    generator = torch.Generator().manual_seed(seed)
    absrel, degrees, overlap = [], [], torch.zeros(2)
    for i in range(scenes):
        context = [train[int(k)] for k in torch.randint(TRAIN_SCENES, (CONTEXT,), generator=generator)]
        query = test[i]
        answer = torch.stack([(s.instance_ids > 0).float() for s in context]).mean(0) > 0.5
        things = query.instance_ids > 0
        overlap += torch.tensor([(answer & things).sum(), (answer | things).sum()])
        valid = torch.isfinite(query.depth_m)
        gray = torch.stack([s.depth_m.clamp(NEAR_M, FAR_M).log() for s in context]).mean(0)
        if int(valid.sum()) > 16:
            truth = query.depth_m[valid]
            absrel.append(float(((align(gray.exp()[valid], truth) - truth).abs() / truth).mean()))
            mean = torch.stack([s.normals for s in context]).mean(0)
            cosine = torch.nn.functional.cosine_similarity(mean, query.normals, dim=0)[valid[0]]
            degrees.append(float(cosine.clamp(-1, 1).acos().mean() * 180 / math.pi))
    return {
        "mean_context_depth_absrel": sum(absrel) / len(absrel),
        "mean_context_normals_deg": sum(degrees) / len(degrees),
        "mean_context_foreground_miou_pct": float(100 * overlap[0] / overlap[1]),
    }


def pixels(source: WorldSource, seed: int) -> tuple[Tensor, Tensor]:
    """Features (r, g, b, x, y) [n, 5] and truth (depth, normals) [n, 4] at random valid pixels."""
    generator = torch.Generator().manual_seed(seed)
    features, truths = [], []
    for i in range(len(source)):
        scene = source[i]
        valid = torch.isfinite(scene.depth_m[0, 0]).nonzero()
        y, x = valid[torch.randint(len(valid), (PIXELS_A_SCENE,), generator=generator)].unbind(1)
        place = torch.stack([x, y]) / source.resolution
        features.append(torch.cat([scene.rgb[:, 0, y, x], place]))
        truths.append(torch.cat([scene.depth_m[:, 0, y, x], scene.normals[:, 0, y, x]]))
    return torch.cat(features, 1).T, torch.cat(truths, 1).T


def pixel_regression(scenes: int, resolution: int, seed: int) -> dict[str, float]:
    """R2 on test pixels of regressors from colour and position."""
    x, y = pixels(WorldSource("train", resolution, TRAIN_SCENES, seed), seed)
    x_test, y_test = pixels(WorldSource("test", resolution, scenes, seed), seed + 1)

    def predict(target: Tensor) -> Tensor:
        model = HistGradientBoostingRegressor(random_state=seed).fit(x.numpy(), target.numpy())
        return torch.from_numpy(model.predict(x_test.numpy()))

    normals = torch.stack([predict(y[:, c]) for c in (1, 2, 3)], 1)
    return {
        "pixel_log_depth_r2": r2_score(y_test[:, 0].log(), predict(y[:, 0].log())),
        "pixel_depth_r2": r2_score(y_test[:, 0], predict(y[:, 0])),
        "pixel_normals_r2": r2_score(y_test[:, 1:], normals, multioutput="variance_weighted"),
    }


def lengths_of_motion(resolution: int, seed: int, clips: int = CLIPS) -> tuple[Tensor, Tensor]:
    """Length of the flow of every pixel of test clips, the last frames left out, and whether it is occluded [n]."""
    source = WorldSource("test", resolution, clips, seed, frames=FRAMES, chunk=4)
    lengths, occluded = [], []
    for scene in source:
        lengths.append(scene.flow_px[:, :-1].square().sum(0).sqrt().flatten())
        occluded.append(scene.occluded[0, :-1].flatten())
    return torch.cat(lengths), torch.cat(occluded)


def motion(seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """Scores of no motion at 64 and at 128 pixels; facts about motion at 64 pixels."""
    length, occluded = lengths_of_motion(64, seed)
    figures = {
        "zero_flow_epe_64_px": float(length.mean()),
        "zero_flow_epe_128_px": float(lengths_of_motion(128, seed)[0].mean()),
    }
    facts = {
        f"flow_{100 * q:g}_pct_64_px": float(length.kthvalue(math.ceil(q * len(length))).values) for q in QUANTILES
    }
    facts |= {
        "flow_longest_64_px": float(length.max()),
        "zero_flow_epe_unoccluded_64_px": float(length[~occluded].mean()),
        "occluded_pct": float(100 * occluded.float().mean()),
        "clips": CLIPS,
        "frames_a_clip": FRAMES,
    }
    return figures, facts


def contents(scenes: int, resolution: int, seed: int) -> dict[str, float]:
    """What the test stills show: instances and people with at least one pixel, and how much of a picture they fill."""
    source = WorldSource("test", resolution, scenes, seed)
    person = CLASS_NAMES.index("person")
    instances, people, foreground = [], [], []
    for scene in source:
        seen = scene.instance_ids > 0
        instances.append(len(scene.instance_ids[seen].unique()))
        people.append(len(scene.instance_ids[scene.class_ids == person].unique()))
        foreground.append(float(seen.float().mean()))
    return {
        "instances_a_still": sum(instances) / scenes,
        "most_instances": max(instances),
        "people_a_still": sum(people) / scenes,
        "stills_with_a_person_pct": 100 * sum(count > 0 for count in people) / scenes,
        "foreground_pct": 100 * sum(foreground) / scenes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=512, help="test scenes")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(world.__file__).with_name("difficulty.json"))
    options = parser.parse_args()
    figures = mean_of_context(options.scenes, options.resolution, options.seed)
    figures |= pixel_regression(options.scenes, options.resolution, options.seed)
    of_motion, facts = motion(options.seed)
    figures |= of_motion
    facts |= contents(options.scenes, options.resolution, options.seed)
    record = {
        "world_version": WORLD_VERSION,
        "figures": {name: round(figures[name], 4) for name in THRESHOLDS},
        "thresholds": {name: " ".join(map(str, rule)) for name, rule in THRESHOLDS.items()},
        "facts": {name: round(value, 4) for name, value in facts.items()},
        "command": shlex.join(["python", "benchmarks/world_difficulty.py", *sys.argv[1:]]),
        "seed": options.seed,
        "n": options.scenes,
        "resolution": options.resolution,
    }
    options.out.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()

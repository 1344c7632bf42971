r"""What the perceptual and the adversarial term are worth: four trainings of equal time from the same weights.

    python benchmarks/vae_losses.py --start runs/nano_vae/model --photos FOLDER --perceptual VGG16.safetensors \
        --minutes 10 --threads 1 --run runs/vae_losses --out benchmarks/results/vae_losses.json

Each of the four (MSE; + perceptual; + adversarial; + both) goes on from the weights in --start for --minutes on the
same stream of pictures; `--only NAME` trains one of them, so that several can run side by side, and the last call
compares what is there. Measured on held-out pictures, which none has seen:

- PSNR and SSIM;
- `lpips_proxy`, which the perceptual variants were trained on, so it favours them;
- `detail`: energy of the finest details (differences of neighbouring pixels) of the rebuilt over that of the true
  pictures; below 1 is blurred, 1 is right;
- `kid_proxy`: kernel distance (as KID) of half of the rebuilt pictures and the other half of the true ones in the
  pooled last features of the same VGG16, times 1000. Not KID, which looks through Inception, but a measure of sets
  where the others compare picture by picture.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import lavindit  # noqa: F401  (first: it repairs torchvision)

# isort: split
import torch
from lightning import Trainer
from torch import Tensor

from lavindit.data import EpisodeData, PhotoSource, SourceConfig
from lavindit.data.episodes import EpisodeMaker
from lavindit.losses import PerceptualLoss
from lavindit.metrics import networks
from lavindit.metrics.functional.perceptual import kernel_distance
from lavindit.metrics.functional.pictures import psnr_db, ssim
from lavindit.models import STVAE, load_model, save_model
from lavindit.pictures import save_picture
from lavindit.report import file_benchmark
from lavindit.task import get_task
from lavindit.training import VAEModule
from lavindit.training.optimizers import MuonAdamW
from lavindit.training.schedule import TimeBudget
from lavindit.training.vae_losses import AdversarialConfig, PerceptualConfig

VARIANTS = ("mse", "perceptual", "adversarial", "both")
TASKS = ["colorization", "depth_estimation", "deraining", "edge_detection", "inpainting", "instance_segmentation",
    "normal_estimation", "panoptic_segmentation"]  # fmt: skip
HELD_OUT = 256
SHOWN = 6


def train(name: str, chosen: argparse.Namespace) -> None:
    """Train one variant and write it to RUN/NAME."""
    torch.manual_seed(chosen.seed)
    torch.set_num_threads(chosen.threads)
    start = load_model(chosen.start)
    perceptual = PerceptualConfig(chosen.perceptual_weight, chosen.perceptual, chosen.stages)
    adversarial = AdversarialConfig(chosen.adversarial_weight, start=chosen.adversarial_start, r1_weight=1.0)
    module = VAEModule(
        start.vae.config,
        optimizer=lambda parameters: MuonAdamW(parameters, lr=1e-3, weight_decay=0.01),
        kl_weight=2e-7,
        perceptual=perceptual if name in ("perceptual", "both") else PerceptualConfig(),
        adversarial=adversarial if name in ("adversarial", "both") else AdversarialConfig(),
        init_from=str(chosen.start),
        warmup_steps=20,
        decay_share=0.5,
        ema_decay=0.99,
        seed=chosen.seed,
    )
    source = SourceConfig(scenes=4096, photos=chosen.photos, photo_share=0.6)
    data = EpisodeData(TASKS, source=source, batch_size=8, min_pairs=0, max_pairs=0, seed=chosen.seed)
    scenes = data.training_makers()["depth_estimation"].queries
    for chunk in range(0, len(scenes), 64):  # rendered before the clock starts: a faster variant would render more
        scenes[chunk]
    options = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_checkpointing": False}
    trainer = Trainer(
        max_steps=-1, gradient_clip_val=1.0, limit_val_batches=0, callbacks=[TimeBudget(chosen.minutes)],
        enable_model_summary=False, enable_progress_bar=False, max_epochs=-1, **options,
    )  # fmt: skip
    trainer.fit(module, data)
    bundle = module.bundle(module.averaged())
    facts = {"steps": trainer.global_step, "state": module.watch.state, "adversary": module.watch.means}
    save_model(replace(bundle, info=bundle.info | facts), chosen.run / name)


def held_out(photos: str, seed: int) -> dict[str, Tensor]:
    """Pictures [n, 3, 1, H, W] in [0, 1] that no training has seen, by kind."""
    source = SourceConfig(photos=photos, test_scenes=HELD_OUT)
    crops = PhotoSource("test", source.resolution, HELD_OUT, seed, Path(photos))
    found = {"photographs": torch.stack([crops[i].rgb for i in range(HELD_OUT)])}
    for kind, task in (("normals", "normal_estimation"), ("palettes", "panoptic_segmentation")):
        maker = EpisodeMaker(get_task(task), "test", source)
        episodes = [maker.episode(scene, 0, seed) for scene in maker.accepted(HELD_OUT)]
        found[kind] = torch.stack([episode.query.target for episode in episodes])
        found.setdefault("renders", torch.stack([episode.query.input for episode in episodes]))
    return found


@torch.no_grad()
def rebuild(vae: STVAE, pictures: Tensor) -> Tensor:
    """Pictures through the VAE, in [0, 1]."""
    parts = [vae.decode(vae.encode(part * 2 - 1).mean) for part in pictures.split(32)]
    return ((torch.cat(parts) + 1) / 2).clamp(0, 1)


def detail(pictures: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels."""
    return pictures.diff(dim=3).square().mean() + pictures.diff(dim=4).square().mean()


@torch.no_grad()
def deep_features(pictures: Tensor, weights: str) -> Tensor:
    """Last features of the VGG16, averaged over each picture and of unit mean square: [n, 512], double precision."""
    network, found = networks.load_from(weights, "cpu"), []
    for part in (pictures[:, :, 0] * 2 - 1).split(32):
        features = network.get_submodule("scaling_layer")(part)
        for stage in range(1, 6):
            features = network.get_submodule(f"net.slice{stage}")(features)
        found.append(features.mean((2, 3)).double())
    features = torch.cat(found)
    return features / features.square().mean(1, keepdim=True).sqrt()


def figures(truth: Tensor, rebuilt: Tensor, perceptual: PerceptualLoss) -> dict[str, float]:
    """What the docstring above says."""
    valid = torch.ones_like(truth[0, :1], dtype=torch.bool)
    rows = list(zip(rebuilt, truth, strict=True))
    with torch.no_grad():
        distances = [perceptual(r * 2 - 1, t * 2 - 1) for r, t in zip(rebuilt.split(32), truth.split(32), strict=True)]
    # Of other pictures each: the estimate is unbiased for sets drawn apart only.
    features = [deep_features(pictures, perceptual.weights) for pictures in (rebuilt[::2], truth[1::2])]
    return {
        "psnr_db": float(torch.stack([psnr_db(*row, valid) for row in rows]).mean()),
        "ssim": float(torch.stack([ssim(*row, valid) for row in rows]).mean()),
        "lpips_proxy": float(torch.cat(distances).mean()),
        "detail": float(detail(rebuilt) / detail(truth)),
        "kid_proxy": 1e3 * float(kernel_distance(*features)),
    }


def compare(chosen: argparse.Namespace) -> dict:
    """Figures of all variants and of the start; pictures side by side in RUN/KIND.png."""
    perceptual, pictures = PerceptualLoss(chosen.perceptual), held_out(chosen.photos, chosen.seed)
    folders = {"start": Path(chosen.start)} | {name: chosen.run / name for name in VARIANTS}
    table, shown = {}, {kind: [truth[:SHOWN]] for kind, truth in pictures.items()}
    for name, folder in folders.items():
        bundle = load_model(folder)
        rebuilt = {kind: rebuild(bundle.vae, truth) for kind, truth in pictures.items()}
        table[name] = {kind: figures(truth, rebuilt[kind], perceptual) for kind, truth in pictures.items()}
        keys = ("steps", "state", "adversary")
        table[name]["training"] = {key: bundle.info[key] for key in keys if key in bundle.info}
        for kind in pictures:
            shown[kind].append(rebuilt[kind][:SHOWN])
    for kind, rows in shown.items():
        sheet = torch.cat([torch.cat(list(row), dim=3) for row in rows], dim=2)
        sheet = sheet.repeat_interleave(2, 2).repeat_interleave(2, 3)
        save_picture(sheet, (chosen.pictures or chosen.run) / f"vae_losses_{kind}.png")
    return {"figures": table, "rows_of_the_pictures": ["truth", *folders], "n": HELD_OUT}


def main() -> None:
    """Train what is asked for; compare once all four are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", required=True, help="model directory that all four start from")
    parser.add_argument("--photos", required=True, help="folder of photographs; every tenth is held out")
    parser.add_argument("--perceptual", required=True, help="safetensors file with a VGG16")
    parser.add_argument("--perceptual_weight", type=float, default=0.1)
    parser.add_argument("--stages", type=int, default=5)
    parser.add_argument("--adversarial_weight", type=float, default=0.3)
    parser.add_argument("--adversarial_start", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=VARIANTS, action="append", help="train this one, and compare nothing")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, help="where the pictures go; default: --run")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    for name in chosen.only or VARIANTS:
        if chosen.only or not (chosen.run / name / "config.json").is_file():
            train(name, chosen)
    if chosen.only:
        return
    settings = {key: getattr(chosen, key) for key in ("perceptual_weight", "stages", "adversarial_weight",
        "adversarial_start", "minutes", "threads")}  # fmt: skip
    file_benchmark(chosen.out, chosen.seed, {"settings": settings} | compare(chosen))


if __name__ == "__main__":
    main()

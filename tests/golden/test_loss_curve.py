"""The first steps of a tiny training, as recorded; a refactor must not move them."""

import json
from pathlib import Path

import pytest
import torch

from lavindit.data import EpisodeData, SourceConfig
from lavindit.flow import seed_from
from lavindit.inference import encode_batch
from lavindit.models import STVAE, JDiTConfig, ModelBundle, STVAEConfig, save_model
from lavindit.training import DiTModule
from lavindit.training.dit import Drops

GOLDEN = Path(__file__).parent / "loss_curve.json"
STEPS = 8
TASKS = ["colorization", "depth_estimation", "frame_prediction", "inpainting", "normal_estimation", "normal_to_video"]


def loss_curve(mode: str, targets: str, folder: Path) -> list[float]:
    torch.manual_seed(0)
    config = STVAEConfig(widths=(16, 16, 16), decoder_blocks=1, norm_groups=8)
    save_model(ModelBundle(STVAE(config)), folder)
    data = EpisodeData(
        tasks=TASKS,
        source=SourceConfig(scenes=64, test_scenes=64, clips=8, test_clips=8, photo_share=0.3),
        batch_size=4,
        clip_batch_size=1,
        min_pairs=1,
        max_pairs=3,
    )
    module = DiTModule(
        str(folder),
        JDiTConfig(width=64, depth=2, heads=2, queries_per_kv=1, context_attention=mode),  # pyright: ignore
        targets=targets,  # pyright: ignore
    )
    torch.manual_seed(0)
    network = module.build_network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    curve = []
    for step, batch in zip(range(STEPS), data.train_dataloader(), strict=False):
        with torch.no_grad():
            latent = encode_batch(module.frozen_vae(), batch)
        seeds = [seed_from("golden", step, place) for place in range(len(batch))]
        drops = Drops((step % 2 == 1, *[False] * (len(batch) - 1)), len(batch) > 1 or step % 2 == 0, step % 2 == 1)
        loss = module.losses(network, latent, seeds, drops).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(float(loss.detach()))
    return curve


@pytest.mark.parametrize(("mode", "targets"), [("joint", "query"), ("prefix", "query"), ("causal", "every_pair")])
def test_the_first_losses_are_as_recorded(mode, targets, tmp_path):
    curve = loss_curve(mode, targets, tmp_path / "vae")
    golden = json.loads(GOLDEN.read_text())[f"{mode}/{targets}"]
    assert curve == pytest.approx(golden, rel=2e-3)


def record(folder: Path) -> None:
    """Write the curves anew: python -c 'from test_loss_curve import *; record(Path("/tmp/vae"))'."""
    cases = (("joint", "query"), ("prefix", "query"), ("causal", "every_pair"))
    GOLDEN.write_text(json.dumps({f"{m}/{t}": loss_curve(m, t, folder) for m, t in cases}, indent=2) + "\n")

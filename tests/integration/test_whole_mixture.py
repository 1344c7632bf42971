"""All trained tasks at once, images and clips, in one training."""

from pathlib import Path

import torch
from lightning import Trainer

from lavindit.data import EpisodeData, SourceConfig
from lavindit.models import JDiTConfig
from lavindit.task import all_tasks
from lavindit.training import DiTModule

STEPS = 70


def test_a_short_training_lowers_the_loss_of_every_task(tiny_vae_dir: Path) -> None:
    torch.manual_seed(0)
    source = SourceConfig(resolution=32, scenes=32, test_scenes=16, clips=8, test_clips=4)
    data = EpisodeData(source=source, batch_size=8, clip_batch_size=2, min_pairs=1, max_pairs=2, val_samples=2)
    module = DiTModule(
        str(tiny_vae_dir),
        JDiTConfig(width=64, depth=2, heads=2, queries_per_kv=1, context_attention="causal"),
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=3e-3),
        targets="every_pair",
        warmup_steps=5,
        ema_decay=0.9,
    )
    options = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_checkpointing": False}
    options |= {"enable_progress_bar": False, "enable_model_summary": False, "use_distributed_sampler": False}
    trainer = Trainer(max_steps=STEPS, num_sanity_val_steps=0, val_check_interval=10**6, check_val_every_n_epoch=None,
                      **options)  # pyright: ignore  # fmt: skip
    (before,) = trainer.validate(module, data, verbose=False)
    trainer.fit(module, data)
    (after,) = trainer.validate(module, data, verbose=False)
    trained = {f"val_loss/{name}" for name, task in all_tasks().items() if not task.held_out}
    assert len(trained) == 22
    assert trained < set(before) == set(after)
    assert [name for name in sorted(trained) if after[name] >= before[name]] == []

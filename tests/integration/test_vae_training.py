"""Training of the VAE: two optimizers under manual optimization."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from vae_runs import MIXED, Course, assert_same, fit, make_data, make_module, sgd

from lavindit.errors import LavinditError
from lavindit.models.discriminator import DiscriminatorConfig
from lavindit.training.callbacks import checkpoint_callback
from lavindit.training.checkpoints import last_checkpoint, read_checkpoint
from lavindit.training.optimizers import MuonAdamW


def test_a_run_resumes_in_the_middle_of_the_game(tmp_path: Path) -> None:
    judge = DiscriminatorConfig(width=8, layers=1, norm="none", spectral_norm=True)
    game = {"start": 3, "r1_weight": 1.0, "r1_every": 2, "discriminator": judge}
    options = {"optimizer": partial(MuonAdamW, lr=1e-2), "warmup_steps": 2, "decay_share": 0.4}
    whole, resumed, found = Course(), Course(), []
    data = {"tasks": MIXED, "clip_share": 0.5}
    for course, resume in ((whole, None), (resumed, last_checkpoint(tmp_path))):
        callbacks = [course] if resume else [course, checkpoint_callback(tmp_path, 5)]
        module = make_module(game, **options)
        trainer = fit(module, make_data(**data), 8, tmp_path, callbacks, resume, seed=len(found))
        trainer.save_checkpoint(tmp_path / f"{len(found)}.ckpt")
        found.append(read_checkpoint(tmp_path / f"{len(found)}.ckpt"))
    assert resumed.steps == [6, 7, 8]
    for own, other in zip(resumed.metrics, whole.metrics[5:], strict=True):
        assert own == {name: other[name] for name in own}  # a name that an earlier batch logged stays with the trainer
    assert "adversary/loss" in resumed.metrics[0]
    assert set(whole.frames[3:5]) | set(whole.frames[5:]) == {1, 13}
    parts = ("state_dict", "optimizer_states", "lr_schedulers", "global_step")
    ours = [name for name in found[0] if name.startswith("lavindit_")]
    assert "lavindit_adversary_watch" in ours
    for part in (*parts, *ours):
        assert_same(found[0][part], found[1][part], part)
    assert len(found[0]["optimizer_states"]) == 2
    middle = read_checkpoint(last_checkpoint(tmp_path))
    assert middle["global_step"] == 5
    for mark in ("network.", "average.", "discriminator.", "._u"):  # something of each did move after the checkpoint
        names = [name for name in found[0]["state_dict"] if mark in name]
        assert not all(torch.equal(found[0]["state_dict"][n], middle["state_dict"][n]) for n in names), mark


def test_steps_are_the_vaes_and_the_discriminator_waits(tmp_path: Path) -> None:
    alone, course, module = Course(), Course(), make_module({"start": 3})
    fit(make_module(), make_data(), 3, tmp_path, [alone])
    trainer = fit(module, make_data(), 5, tmp_path, [course])
    assert course.steps == [1, 2, 3, 4, 5]
    assert trainer.global_step == 5
    assert [move > 0 for move in course.moves("network")] == [True] * 5
    assert [move > 0 for move in course.moves("discriminator")] == [False] * 3 + [True] * 2
    assert ["adversary/loss" in metrics for metrics in course.metrics] == [False] * 3 + [True] * 2
    assert course.losses[:3] == alone.losses  # the VAE starts from the same weights, with and without an adversary
    assert module.ema is not None
    assert module.ema.updates == 5
    adam = trainer.optimizers[1].state[next(iter(module.discriminator.parameters()))]
    assert int(adam["step"]) == 2
    played = course.metrics[3:]
    for name, mean in module.watch.means.items():
        assert mean == pytest.approx(sum(metrics[f"adversary/{name}"] for metrics in played) / 2)


def test_both_rates_end_with_the_run(tmp_path: Path) -> None:
    module = make_module({"start": 4}, warmup_steps=2, decay_share=0.5)
    trainer = fit(module, make_data(), 8, tmp_path)
    of_vae, of_adversary = (scheduler.scheduler for scheduler in trainer.lr_scheduler_configs)
    assert of_vae.get_last_lr() == pytest.approx([0.0], abs=1e-12)
    assert of_adversary.get_last_lr() == pytest.approx([0.0], abs=1e-12)
    assert of_adversary.last_epoch == 4
    assert module._rate(0, before=4) == pytest.approx(0.5)  # its own warm-up, at the end of the plateau


@pytest.mark.parametrize("limit", [None, 0.01])
def test_gradients_of_both_are_clipped(limit: float | None, tmp_path: Path) -> None:
    course = Course()
    one = partial(torch.optim.SGD, lr=1.0)  # so that a step is as long as its gradient
    module = make_module({"start": 0}, optimizer=one, adversary_optimizer=one)
    fit(module, make_data(), 1, tmp_path, [course], gradient_clip_val=limit)
    for part in ("network", "discriminator"):
        (move,) = course.moves(part)
        if limit is None:
            assert move > 0.05, part
        else:
            assert move == pytest.approx(limit, rel=1e-2), part


def test_clipping_by_value_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(LavinditError, match="gradient_clip_algorithm: norm") as refused:
        fit(make_module(), make_data(), 1, tmp_path, gradient_clip_val=1.0, gradient_clip_algorithm="value")
    assert "\n" not in str(refused.value)


def test_two_batches_accumulate_to_one_of_twice_the_size(tmp_path: Path) -> None:
    game = {"start": 1, "adaptive": False, "r1_weight": 1.0, "r1_every": 2}  # the adaptive weight is a batch's own
    courses, modules = (Course(), Course()), []
    for course, size, times in zip(courses, (4, 8), (2, 1), strict=True):
        module = make_module(game, optimizer=sgd, adversary_optimizer=sgd)
        options = {"accumulate_grad_batches": times, "gradient_clip_val": 0.5}
        trainer = fit(module, make_data(batch_size=size), 3, tmp_path, [course], **options)
        assert trainer.global_step == 3
        assert [config.scheduler.last_epoch for config in trainer.lr_scheduler_configs] == [3, 2]
        assert module.ema is not None
        assert module.ema.updates == 3
        modules.append(module)
    halves, whole = courses
    assert halves.steps == [0, 1, 1, 2, 2, 3]
    assert [a == 0 for a in halves.moves("network")] == [True, False] * 3
    for step, loss in enumerate(whole.losses):
        assert sum(halves.losses[2 * step : 2 * step + 2]) / 2 == pytest.approx(loss, rel=1e-4)
    ends = [module.state_dict() for module in modules]
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], atol=1e-5, rtol=1e-4, msg=name)
    assert max(whole.moves("discriminator")) > 1e-3


class StopAfter(Callback):
    """An interruption after some batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1


def test_an_interruption_between_two_batches_of_a_step_stores_nothing(tmp_path: Path) -> None:
    """Such a state would lack the first batch's gradients."""
    options = {"accumulate_grad_batches": 2}
    with pytest.raises(SystemExit):
        fit(make_module(), make_data(), 4, tmp_path, [checkpoint_callback(tmp_path, 1), StopAfter(3)], **options)
    kept = last_checkpoint(tmp_path)
    first = kept.read_bytes()
    assert read_checkpoint(kept)["global_step"] == 1
    with pytest.raises(SystemExit):
        fit(make_module(), make_data(), 4, tmp_path, [checkpoint_callback(tmp_path, 1), StopAfter(1)], kept, **options)
    assert kept.read_bytes() == first

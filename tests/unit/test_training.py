from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lavindit.cli.train import cpu_precision
from lavindit.errors import LavinditError
from lavindit.models import JDiT, JDiTConfig, load_model
from lavindit.task import check_task_names
from lavindit.training import DiTModule
from lavindit.training.dit import Drops
from lavindit.training.ema import EMA, averaged_copy
from lavindit.training.optimizers import MuonAdamW
from lavindit.training.schedule import TimeBudget, trapezoid
from lavindit.types import LatentEpisode


def test_rate_rises_holds_and_falls_to_zero():
    assert trapezoid(0.0, step=0, warmup_steps=10, decay_share=0.4) == pytest.approx(0.1)
    assert trapezoid(0.5, step=50, warmup_steps=10, decay_share=0.4) == 1
    assert trapezoid(0.8, step=80, warmup_steps=10, decay_share=0.4) == pytest.approx(0.5)
    assert trapezoid(1.0, step=100, warmup_steps=10, decay_share=0.4) == pytest.approx(0.0)
    assert trapezoid(1.0, step=100, warmup_steps=0, decay_share=0.0) == 1


def test_budget_counts_over_sittings():
    first, second = TimeBudget(minutes=1.0), TimeBudget(minutes=1.0)
    first.load_state_dict({"elapsed_s": 45.0})
    second.load_state_dict(first.state_dict())
    assert second.progress == pytest.approx(0.75)
    assert TimeBudget().progress == 0


def test_average_follows_its_closed_form():
    live, average = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.zeros_(average.weight)
    ema = EMA(live, average, decay=0.5)
    expected = 0.0
    for n in range(6):
        nn.init.constant_(live.weight, n + 1.0)
        ema.update()
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * (n + 1.0)
    assert average.weight.item() == pytest.approx(expected)
    assert live.weight.item() == 6.0


def test_averaged_copy_has_weights_of_its_own():
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    copy = averaged_copy(network, lambda: nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), lambda network: None)
    for own, other in zip(copy.state_dict().values(), network.state_dict().values(), strict=True):
        assert torch.equal(own, other)
        assert own.data_ptr() != other.data_ptr()
    assert not any(parameter.requires_grad for parameter in copy.parameters())


def make_optimizer(seed: int) -> tuple[nn.Module, MuonAdamW]:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 4))
    return network, MuonAdamW(network.parameters(), lr=0.02)


def one_step(network: nn.Module, optimizer: MuonAdamW, seed: int) -> float:
    torch.manual_seed(seed)
    loss = (network(torch.randn(32, 8)) - 1).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def test_muon_and_adamw_share_the_parameters_and_learn():
    network, optimizer = make_optimizer(0)
    matrices, others = (group["params"] for group in optimizer.param_groups)
    assert all(p.ndim == 2 for p in matrices)
    assert all(p.ndim == 1 for p in others)
    assert len(matrices) + len(others) == len(list(network.parameters()))
    losses = [one_step(network, optimizer, i) for i in range(40)]
    assert losses[-1] < 0.3 * losses[0]


def test_muon_resumes_from_its_state():
    network, optimizer = make_optimizer(0)
    for i in range(3):
        one_step(network, optimizer, i)
    copy, resumed = make_optimizer(1)
    copy.load_state_dict(network.state_dict())
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))  # as a file would hold it
    for i in range(3, 6):
        assert one_step(network, optimizer, i) == one_step(copy, resumed, i)


def test_a_schedule_reaches_both_parts_of_muon():
    network, optimizer = make_optimizer(0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    before = [p.detach().clone() for p in network.parameters()]
    one_step(network, optimizer, 0)
    schedule.step()
    assert all(torch.equal(p, old) for p, old in zip(network.parameters(), before, strict=True))


def test_every_pair_needs_a_causal_context():
    with pytest.raises(LavinditError, match="causal"):
        DiTModule("nowhere", targets="every_pair")


def test_starting_weights_must_mean_the_same(tiny_model_dir):
    same = {"width": 64, "depth": 2, "heads": 2, "queries_per_kv": 1}
    start = load_model(tiny_model_dir).jdit
    module = DiTModule(
        str(tiny_model_dir), JDiTConfig(**same, context_attention="causal"), init_from=str(tiny_model_dir)
    )
    for name, value in module.build_network().state_dict().items():
        assert torch.equal(value, start.state_dict()[name])
    for change in ({"depth": 3}, {"rope_rotation": "interleaved"}, {"full_last_block": True}):
        module = DiTModule(str(tiny_model_dir), JDiTConfig(**(same | change)), init_from=str(tiny_model_dir))
        with pytest.raises(LavinditError, match=next(iter(change))):
            module.build_network()


def test_every_process_runs_a_branch_that_any_of_them_needs(tiny_vae_dir, tiny_jdit):
    module = DiTModule(str(tiny_vae_dir), drop_pairs=0.3)
    latent = LatentEpisode(torch.randn(2, 3, 16, 1, 4, 4), torch.randn(2, 3, 16, 1, 4, 4))
    network, seeds = tiny_jdit, [1, 2]
    alone = module.losses(network, latent, seeds)
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    company = module.losses(network, latent, seeds, Drops((False, False), without=True))
    assert len(calls) == 2
    torch.testing.assert_close(company, alone)
    assert module.losses(network, latent, seeds, Drops((True, True), with_pairs=True, without=True)).ne(alone).all()


def test_drops_are_the_same_however_many_processes_there_are(tiny_vae_dir):
    module = DiTModule(str(tiny_vae_dir), drop_pairs=0.3)

    def drops(processes: int) -> list[Drops]:
        module._trainer = SimpleNamespace(world_size=processes)  # pyright: ignore
        share = 8 // processes
        found = []
        for rank in range(processes):
            module._trainer.global_rank = rank  # pyright: ignore
            found.append(module._drops(range(8 + rank * share, 8 + (rank + 1) * share)))
        return found

    (alone,) = drops(1)
    shared = drops(4)
    assert sum((part.dropped for part in shared), ()) == alone.dropped
    assert {(part.with_pairs, part.without) for part in shared} == {(alone.with_pairs, alone.without)}
    assert alone.without == any(alone.dropped)


def test_weights_are_read_whatever_the_default_device_is(tiny_model_dir):
    """Lightning builds models with the GPU as default device."""
    expected = load_model(tiny_model_dir)
    with torch.device("meta"):
        found = load_model(tiny_model_dir)
    for name, value in expected.jdit.state_dict().items():
        assert torch.equal(found.jdit.state_dict()[name], value)


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_cpu_takes_bf16_only_where_it_has_instructions_for_it(monkeypatch, native, precision):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert cpu_precision() == precision


def test_blocks_are_compiled_where_that_is_asked_for(tiny_vae_dir):
    for asked in (False, True):
        module = DiTModule(str(tiny_vae_dir), JDiTConfig(width=64, depth=2, heads=2), compile_blocks=asked)
        module.configure_model()
        assert [block._compiled_call_impl is not None for block in module.network.blocks] == [asked, asked]


def test_losses_of_tasks_weigh_as_asked(tiny_vae_dir, monkeypatch):
    module = DiTModule(str(tiny_vae_dir), loss_weights={"depth_estimation": 3.0, "edge_detection": 0.5})
    losses = torch.tensor([1.0, 2.0, 4.0])
    logged = []
    module.network = JDiT(module.network_config)
    for name, made in (("losses", losses), ("_encode", None), ("_drops", None), ("require_finite", None)):
        monkeypatch.setattr(module, name, lambda *_, made=made: made)
    monkeypatch.setattr(DiTModule, "micro_step", 0)
    monkeypatch.setattr(module, "log_training", lambda found, tasks: logged.append((found, tasks)))
    tasks = ("depth_estimation", "edge_detection", "inpainting")
    loss = module.training_step(SimpleNamespace(tasks=tasks, numbers=(0, 1, 2)), 0)
    torch.testing.assert_close(loss, torch.tensor((3 * 1 + 0.5 * 2 + 4) / 3))
    assert logged == [(losses, tasks)]  # what is logged compares with other runs


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_weights_of_losses_are_numbers_of_0_or_more(tiny_vae_dir, weight):
    with pytest.raises(LavinditError, match="loss_weights: depth_estimation has weight"):
        DiTModule(str(tiny_vae_dir), loss_weights={"depth_estimation": weight})


def test_weights_of_losses_are_of_tasks():
    check_task_names("loss_weights", {"depth_estimation": 2.0, "mine": 1.0}, {"mine"})
    with pytest.raises(LavinditError, match="no task 'depth_estimatio'; did you mean 'depth_estimation'"):
        check_task_names("loss_weights", {"depth_estimatio": 2.0}, {"mine"})

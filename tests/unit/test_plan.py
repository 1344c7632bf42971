import copy
import functools
import gc
import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lavindit.cli.configs import find_config
from lavindit.errors import LavinditError
from lavindit.inference import Engine
from lavindit.losses import flow_matching_loss
from lavindit.models import STVAE, JDiT, JDiTConfig, STVAEConfig
from lavindit.models.jdit import every_pair_layout, query_layout
from lavindit.models.jdit.cost import count_parameters, forward_bytes, forward_cost, training_flops
from lavindit.training.plan import TrainingPlan, TrainingSetup, plan_training
from lavindit.training.plan_prompt import PromptSetup, compile_and_answer, plan_prompt

Cli = Callable[[list[object]], Any]

SMALL = JDiTConfig(width=128, depth=3, heads=4, queries_per_kv=2)
CONDITIONED = replace(SMALL, input_condition=True, input_skip=True)
VAE = STVAEConfig(widths=(16, 16, 16), encoder_blocks=1, decoder_blocks=1, mid_blocks=1, norm_groups=8)
SETUP = TrainingSetup(resolution=64, pairs=2, batch_per_device=2, kernels="cpu")
SINGLE = TrainingSetup(resolution=64, pairs=2)


class TestCost:
    @pytest.mark.parametrize(
        "config", [SMALL, replace(SMALL, full_last_block=True, sandwich=False, queries_per_kv=1), CONDITIONED]
    )
    def test_parameters(self, config: JDiTConfig) -> None:
        assert sum(count_parameters(config).values()) == sum(p.numel() for p in JDiT(config).parameters())

    @pytest.mark.parametrize("config", [SMALL, CONDITIONED])
    @pytest.mark.parametrize("mode", ["joint", "prefix", "causal"])
    def test_executed_flops_are_those_that_torch_counts(self, mode: Any, config: JDiTConfig) -> None:
        config = replace(config, context_attention=mode)
        layout = query_layout(mode, 5, 1)
        counted = count_flops(config, layout.context, torch.rand(2, 16, 1, 4, 6), torch.rand(2), layout)
        assert forward_cost(config, layout, 6, batch=2).executed == counted

    def test_executed_flops_of_every_pair(self) -> None:
        config, layout = replace(SMALL, context_attention="causal"), every_pair_layout(2, copies=2)
        counted = count_flops(config, layout.context, torch.rand(1, 16, 6, 4, 4), torch.rand(1, 6), layout)
        assert forward_cost(config, layout, 4, target_times=6).executed == counted

    def test_hidden_pairs_are_not_needed(self) -> None:
        joint = forward_cost(SMALL, query_layout("joint", 5, 1), 16)
        causal_config = replace(SMALL, context_attention="causal")
        causal = forward_cost(causal_config, query_layout("causal", 5, 1), 16)
        assert joint.attention == joint.attention_executed == causal.attention_executed
        # Two whole blocks of 1 + 2 + ... + 6 frame pairs instead of 36, the last one's target sees all 6.
        assert causal.attention * (2 * 36 + 6) == joint.attention * (2 * 21 + 6)

    def test_training_is_three_passes_and_blocks_may_run_again(self) -> None:
        cost = forward_cost(SMALL, query_layout("joint", 5, 1), 16)
        model, hardware = training_flops(cost)
        assert model == hardware == 3 * cost.model
        assert training_flops(cost, checkpointing=True) == (model, hardware + cost.blocks_executed)
        assert 0.9 * cost.executed < cost.blocks_executed < cost.executed

    def test_bytes_grow_with_the_batch_by_activations_alone(self) -> None:
        layout = query_layout("joint", 5, 1)
        one, two, three = (forward_bytes(SMALL, layout, 16, batch) for batch in (1, 2, 3))
        assert three - two == two - one
        assert one - (two - one) == 2 * sum(count_parameters(SMALL).values())


def count_flops(config: JDiTConfig, context: tuple[int, ...], noisy: torch.Tensor, t: torch.Tensor, layout: Any) -> int:
    clean = torch.rand(len(noisy), 16, len(context), *noisy.shape[3:])
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        JDiT(config)(noisy, t, clean, layout)
    return counter.get_total_flops()


class TestMemory:
    @pytest.mark.parametrize(
        ("config", "options"),
        [
            (SMALL, {"precision": "32-true"}),
            (replace(SMALL, drop_path=0.1, sandwich=False), {"precision": "bf16-mixed"}),
            (replace(SMALL, context_attention="causal"), {"targets": "every_pair", "noisy_copies": 2}),
        ],
    )
    def test_estimate_is_what_a_step_takes(self, config: JDiTConfig, options: dict[str, Any]) -> None:
        setup = replace(SETUP, **options)
        plan = plan_training(config, VAE, setup)
        for checkpointing, memory in ((False, plan.memory), (True, plan.memory_checkpointed)):
            assert memory.total == pytest.approx(measure(config, setup, checkpointing), rel=0.15)
        assert plan.memory_checkpointed.items["activations"] < 0.6 * plan.memory.items["activations"]

    def test_items_add_up_to_the_peak(self) -> None:
        for memory in (planned().memory, planned(strategy="fsdp", devices=8).memory_checkpointed):
            assert sum(memory.items.values()) == memory.total == max(memory.phases.values())
            assert min(memory.items.values()) >= 0

    def test_fsdp_divides_what_it_shards(self) -> None:
        alone, shared = planned().memory.items, planned(strategy="fsdp", devices=8).memory.items
        for name in ("weights", "gradients", "optimizer state", "average of the weights"):
            assert shared[name] == pytest.approx(alone[name] / 8, abs=8)
        for name in ("activations", "frozen VAE", "pictures"):
            assert shared[name] == alone[name]

    def test_ddp_needs_of_a_device_what_one_needs(self) -> None:
        """Its buckets are the gradients themselves, as configs/trainer/ddp.yaml asks for."""
        assert planned(strategy="ddp", devices=8).memory == planned().memory

    def test_muon_keeps_one_moment_of_a_matrix(self) -> None:
        adamw, muon = (planned(optimizer=name) for name in ("adamw", "muon"))
        matrices = sum(p.numel() for p in JDiT(SMALL).parameters() if p.requires_grad and p.ndim == 2)
        assert adamw.memory.items["optimizer state"] == 8 * adamw.trained
        assert muon.memory.items["optimizer state"] == 8 * adamw.trained - 4 * matrices

    def test_encoding_in_chunks_takes_less(self) -> None:
        whole, chunked = (planned(vae_chunk=chunk) for chunk in (None, 1))
        assert chunked.memory.phases["encoding"] < whole.memory.phases["encoding"]
        assert chunked.vae_flops == whole.vae_flops

    def test_real_training_goes_on_after_a_plan(self) -> None:
        layout, inputs = query_layout("joint", 5, 1), (torch.rand(1, 16, 1, 8, 8), torch.rand(1))
        network, context = JDiT(SMALL), torch.rand(1, 16, 5, 8, 8)
        before = network(*inputs, context, layout)
        plan_training(SMALL, VAE, SINGLE)
        assert type(before) is type(network(*inputs, context, layout)) is torch.Tensor


class TestPrompt:
    @pytest.mark.parametrize("options", [{}, {"guidance": 2.0, "queries": 3}, {"pairs": 8, "resolution": 128}])
    @pytest.mark.parametrize("mode", ["prefix", "causal"])
    def test_estimate_is_what_compiling_and_answering_take(self, mode: Any, options: dict[str, Any]) -> None:
        config = replace(SMALL, context_attention=mode)
        # Two queries: alone and on one thread, torch takes a convolution that unfolds its input within the operator.
        setup = PromptSetup(**({"resolution": 64, "pairs": 4, "queries": 2, "kernels": "cpu"} | options))
        plan = plan_prompt(config, VAE, setup)
        assert plan is not None
        networks = STVAE(VAE).eval().requires_grad_(False), JDiT(config).eval().requires_grad_(False)
        weights = plan.memory.items["VAE"] + plan.memory.items["J-DiT"]
        assert weights == sum(p.nbytes for network in networks for p in network.parameters())
        peaks = peaks_by_phase(lambda enter: compile_and_answer(*networks, setup, enter))
        assert {name: size - weights for name, size in plan.memory.phases.items()} == pytest.approx(peaks, rel=0.1)
        assert sum(plan.memory.items.values()) == plan.memory.total == max(plan.memory.phases.values())
        assert min(plan.memory.items.values()) >= 0

    @pytest.mark.parametrize(("mode", "weights"), [("prefix", "bfloat16"), ("causal", "float32")])
    def test_a_real_prompt_is_as_large_as_planned(self, mode: Any, weights: Any) -> None:
        config = replace(SMALL, context_attention=mode)
        setup = PromptSetup(resolution=64, pairs=3, weights=weights)
        engine = Engine(STVAE(VAE).to(setup.dtype), JDiT(config).to(setup.dtype), {"resolution": 64})
        prompt = engine.compile("depth_estimation", pairs=3)
        plan = plan_prompt(config, VAE, setup)
        assert plan is not None
        assert plan.prompt == prompt.bytes == plan.memory.items["prompt"]
        query = engine.jdit.read(torch.rand(1, 16, 1, 8, 8), [prompt.read.pairs])
        assert plan.query == query.bytes == plan.memory.items["queries"]

    def test_guidance_reads_the_query_twice_and_a_batch_of_queries_each(self) -> None:
        config = replace(SMALL, context_attention="causal")
        plain, guided = (plan_prompt(config, VAE, PromptSetup(64, 2, 3, scale)) for scale in (1.0, 2.5))
        assert plain is not None
        assert guided is not None
        assert guided.query == 2 * plain.query
        assert guided.memory.items["queries"] == 3 * guided.query
        assert guided.prompt == plain.prompt

    def test_a_joint_model_compiles_none(self) -> None:
        assert plan_prompt(SMALL, VAE, PromptSetup(64, 2)) is None


class TestSetup:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"resolution": 100}, "multiple of 16"),
            ({"devices": 0}, "devices must be at least 1"),
            ({"devices": 2}, "single has one device"),
            ({"vae_chunk": 0}, "vae_chunk must be"),
        ],
    )
    def test_nonsense_is_refused(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises(LavinditError, match=words):
            TrainingSetup(**options)

    def test_a_target_for_every_pair_needs_a_causal_context(self) -> None:
        with pytest.raises(LavinditError, match="causal"):
            plan_training(SMALL, VAE, replace(SINGLE, targets="every_pair"))

    @pytest.mark.parametrize(
        ("options", "words"),
        [({"resolution": 100}, "multiple of 16"), ({"pairs": 0}, "pairs of a"), ({"queries": 0}, "queries of a")],
    )
    def test_nonsense_of_a_prompt_is_refused(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises(LavinditError, match=words):
            PromptSetup(**options)


class TestCommand:
    @pytest.fixture
    def small(self, tmp_path: Path) -> Path:
        """A config of the nano network with two of its six blocks, which is traced sooner."""
        base = find_config("model/jdit_nano.yaml")
        (tmp_path / "small.yaml").write_text(f"base: {base}\nmodel: {{init_args: {{network: {{depth: 2}}}}}}\n")
        return tmp_path / "small.yaml"

    def test_prints_numbers(self, run_cli: Cli) -> None:
        ran = run_cli(["plan", "--size", "nano", "--vae", "nano", "--resolution", "64", "--pairs", "1", "--json"])
        assert ran.code == 0, ran.stderr
        numbers = json.loads(ran.stdout)
        assert sum(numbers["parameters"].values()) == 2811584
        assert numbers["setup"]["targets"] == "every_pair"
        assert numbers["memory"]["fits"] is True
        prompt = numbers["prompt"]["bfloat16"]
        assert prompt["prompt"] == 2 * 6 * 2 * 16 * 64 * 2  # keys and values, blocks, frames, tokens, width, bytes
        assert prompt["memory"]["total"] < numbers["prompt"]["float32"]["memory"]["total"] < numbers["memory"]["total"]
        assert numbers["days"] == pytest.approx(numbers["step_s"] * 100_000 / 86400)

    def test_prints_tables(self, run_cli: Cli, small: Path) -> None:
        arguments = ["plan", "--config", small, "--vae", "nano", "--resolution", "64"]
        ran = run_cli(
            [*arguments, "--devices", "4", "--global-batch", "8", "--peak-tflops", "1", "--memory-gb", "0.03"]
        )
        assert ran.code == 0, ran.stderr
        prompt = ("memory of a compiled prompt", "float32 +bfloat16", "keys and values of 8 pairs", "answering 1 query")
        for words in (
            *prompt,
            "4 x 2 = 8 episodes",
            "gathered blocks",
            r"VAE encoding, 36 pictures",
            r"fits into .* no +yes",
        ):
            assert re.search(words, ran.stdout), ran.stdout

    def test_a_joint_model_has_no_prompt(self, run_cli: Cli, small: Path) -> None:
        arguments = ["plan", "--config", small, "--vae", "nano", "--resolution", "64", "--pairs", "1"]
        ran = run_cli([*arguments, "--context-attention", "joint", "--json"])
        assert json.loads(ran.stdout)["prompt"] is None

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--size", "nano", "--queries", "0"], "--queries must be at least 1"),
            (["--size", "3.5b"], r"unknown size '3\.5b'; there are nano, 0\.1b, 1\.0b, 3\.4b"),
            (["--size", "nano", "--resolution", "100"], "multiple of 16"),
            (["--size", "nano", "--devices", "0"], "devices must be at least 1"),
            (["--size", "nano", "--devices", "2", "--strategy", "single"], "single has one device"),
            (["--size", "nano", "--devices", "4", "--global-batch", "6"], "must be a multiple of the 4 devices"),
            (["--size", "nano", "--device", "h10"], r"there are a100"),
            (["--size", "nano", "--mfu", "40"], "--mfu must be above 0 and at most 1"),
            (["--size", "nano", "--steps", "0"], "--steps must be at least 1"),
            (["--size", "nano", "--guidance", "nan"], "guidance must be a finite number"),
            (["--size", "nano", "--memory-gb", "0"], "--peak-tflops and --memory-gb must be above 0"),
            (["--size", "nano", "--vae", "small"], "unknown VAE 'small'; there are nano, paper"),
            (["--config", "experiment/demo_jdit.yaml", "--resolution", "100"], "multiple of 16"),
            (["--config", "model/stvae_nano.yaml"], "describes no J-DiT"),
            (["--config", "none.yaml"], r"no config none\.yaml"),
            (["--size", "1.0b", "--targets", "every_pair"], "needs context attention causal"),
            ([], "--size --config is required"),
        ],
    )
    def test_mistakes_are_told_in_one_line_before_anything_is_traced(
        self, run_cli: Cli, monkeypatch: pytest.MonkeyPatch, arguments: list[object], words: str
    ) -> None:
        monkeypatch.setattr("lavindit.training.plan.pretending", None)
        ran = run_cli(["plan", *arguments])
        assert ran.code == 2
        assert re.fullmatch(rf"lavindit: error: .*{words}.*\n", ran.stderr)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("model: DiTModule", "must have a mapping under model, not 'DiTModule'"),
            ("model: {init_args: [1]}", r"must have a mapping under init_args, not \[1\]"),
            ("model: {init_args: {network: {heads: 0}}}", "mine.yaml: "),
            ("model: {init_args: {network: {}, targets: all}}", "unknown targets 'all'; there are query, every_pair"),
            ("model: {init_args: {network: {}, noisy_copies: two}}", "noisy_copies must be a whole number, got 'two'"),
        ],
    )
    def test_mistakes_of_a_config_are_told_in_one_line(
        self, run_cli: Cli, tmp_path: Path, text: str, words: str
    ) -> None:
        (tmp_path / "mine.yaml").write_text(text)
        ran = run_cli(["plan", "--config", tmp_path / "mine.yaml"])
        assert ran.code == 2
        assert re.fullmatch(rf"lavindit: error: .*{words}.*\n", ran.stderr)

    @pytest.mark.parametrize(
        ("what", "vae"),
        [("--size nano", "nano"), ("--size 0.1b", "paper"), ("--config experiment/demo_jdit.yaml", "nano")],
    )
    def test_the_vae_is_that_of_the_size(
        self, run_cli: Cli, monkeypatch: pytest.MonkeyPatch, what: str, vae: str
    ) -> None:
        seen: list[STVAEConfig] = []

        def plan(network: JDiTConfig, vae: STVAEConfig, setup: TrainingSetup) -> None:
            seen.append(vae)
            raise LavinditError("no plan")

        monkeypatch.setattr("lavindit.cli.plan.plan_training", plan)
        assert run_cli(["plan", *what.split()]).stderr == "lavindit: error: no plan\n"  # and no note before it
        text = find_config(f"model/stvae_{vae}.yaml").read_text()
        assert seen == [STVAEConfig(**yaml.safe_load(text)["model"]["init_args"]["network"])]


def planned(**options: Any) -> TrainingPlan:
    """`SINGLE` with other options; what several tests ask for is traced once."""
    return trace_plan(replace(SINGLE, **options))


@functools.cache
def trace_plan(setup: TrainingSetup) -> TrainingPlan:
    return plan_training(SMALL, VAE, setup)


def measure(config: JDiTConfig, setup: TrainingSetup, checkpointing: bool) -> int:
    """Peak bytes of two training steps by the records of torch's allocator; see benchmarks/plan_memory.py."""
    for _ in range(3):  # the profiler was once seen to lose records: then what is made and what is freed differ
        sizes = [size for _, size in allocated(lambda: train(config, setup, checkpointing))]
        if min(sizes) >= 0 and sizes[-1] < 2**16:
            return max(sizes)
    raise AssertionError("the profiler's records of memory do not add up")


def allocated(run: Callable[[], object]) -> list[tuple[int, int]]:
    """What torch's CPU allocator holds beyond the start, as (ns, bytes) after every change."""
    gc.collect()  # what others have left would count as freed here
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    records: Any = profile.profiler.kineto_results.events()  # pyright: ignore[reportOptionalMemberAccess]
    changes = sorted((e.start_ns(), e.nbytes()) for e in records if e.name() == "[memory]")
    return list(zip((time for time, _ in changes), accumulate(change for _, change in changes), strict=True))


def peaks_by_phase(run: Callable[[Callable[[str], None]], object]) -> dict[str, int]:
    """Peak bytes of each phase that is entered, by markers among the profiler's records of memory."""
    names: list[str] = []
    marker = 12_345_664  # bytes, of tensors that nothing else makes

    def enter(name: str) -> None:
        names.append(name)
        torch.empty(marker, dtype=torch.uint8)

    peaks: dict[str, int] = {}
    sizes = [0, *(size for _, size in allocated(lambda: run(enter)))]
    for before, after in pairwise(sizes):
        if after - before == marker:
            peaks[names[len(peaks)]] = 0
        elif before - after != marker and peaks:
            peaks[names[len(peaks) - 1]] = max(peaks[names[len(peaks) - 1]], after)
    return peaks


def train(config: JDiTConfig, setup: TrainingSetup, checkpointing: bool) -> None:
    network, vae = JDiT(config).train(), STVAE(VAE).requires_grad_(False)
    network.checkpointing = checkpointing
    average, layout = copy.deepcopy(network), setup.layout(config)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    pictures = torch.rand(setup.pictures, 3, 1, setup.resolution, setup.resolution)
    batch, frames, side = setup.batch_per_device, len(layout.target), setup.resolution // 8
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16, enabled=setup.precision == "bf16-mixed"):
            vae.to_latent(pictures)
            context = torch.randn(batch, 16, len(layout.context), side, side)
            noisy, wanted = torch.randn(2, batch, 16, frames, side, side)
            t = torch.rand(batch, frames) if setup.targets == "every_pair" else torch.rand(batch)
            loss = flow_matching_loss(network(noisy, t, context, layout)[:, None], wanted[:, None]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 0.01)

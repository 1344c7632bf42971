"""`lavindit plan`: what a training and a compiled prompt will need, before any machine is rented."""

import json
import sys
from dataclasses import asdict, replace
from typing import Any, get_args

import yaml
from rich.console import Console
from rich.table import Table

from lavindit.cli.configs import expand_configs, model_options
from lavindit.cli.tools import Parser
from lavindit.errors import LavinditError
from lavindit.models import JDiTConfig, STVAEConfig
from lavindit.training.plan import Memory, Targets, TrainingPlan, TrainingSetup, plan_training
from lavindit.training.plan_prompt import PromptPlan, PromptSetup, Weights, plan_prompt
from lavindit.training.throughput import ACCELERATORS, Accelerator

SIZES = ("nano", "0.1b", "1.0b", "3.4b")
VAES = ("nano", "paper")
STRATEGIES = ("single", "ddp", "fsdp", "fsdp2")
RESERVE = 0.9  # the allocator's gaps, CUDA's context and communication buffers take a share
DAY_S = 86400


def run_plan(arguments: list[str]) -> None:
    """Print the plan of a training, and of a prompt that the trained model compiles.

    Raises:
        LavinditError: For what a person can mend.
    """
    chosen = _parser().parse_args(arguments)
    network, targets, copies = _network(chosen)
    vae = _vae(chosen.vae, network)
    device = _device(chosen)
    if not 0 < chosen.mfu <= 1:
        raise LavinditError(f"--mfu must be above 0 and at most 1, got {chosen.mfu}")
    for name in ("steps", "queries"):
        if getattr(chosen, name) < 1:
            raise LavinditError(f"--{name} must be at least 1, got {getattr(chosen, name)}")
    setup = TrainingSetup(
        resolution=chosen.resolution,
        pairs=chosen.pairs,
        batch_per_device=_batch(chosen),
        devices=chosen.devices,
        strategy=chosen.strategy,
        precision=chosen.precision,
        targets=targets,
        noisy_copies=copies,
        optimizer=chosen.optimizer,
        vae_chunk=chosen.vae_chunk,
    )
    asked = _prompt_setups(chosen)  # what makes no sense is told before seconds of tracing
    plan = plan_training(network, vae, setup)
    prompts = [found for one in asked if (found := plan_prompt(network, vae, one)) is not None]
    if chosen.config:
        left = "resolution, pairs, batch, VAE and optimizer are options of plan"
        print(f"lavindit: note: network and targets are those of {chosen.config}; {left}", file=sys.stderr)
    if chosen.json:
        numbers = _numbers(plan, device, chosen.mfu, chosen.steps)
        print(json.dumps(numbers | {"prompt": _prompt_numbers(prompts, device)}, indent=2))
    else:
        console = Console()
        _print(plan, device, chosen.mfu, chosen.steps, console)
        if prompts:
            console.print(_prompt_table(prompts, device))


def _parser() -> Parser:
    parser = Parser(
        "lavindit plan",
        description="Memory a device, FLOPs and time of a training; memory of a prompt.",
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--size", help=f"size of the J-DiT: {', '.join(SIZES)}")
    what.add_argument("--config", metavar="FILE", help="a model or experiment config")
    text = f"size of the frozen VAE: {', '.join(VAES)} (default: nano with networks narrower than 0.1b, else paper)"
    parser.add_argument("--vae", help=text)
    parser.add_argument("--resolution", type=int, default=256, metavar="PX", help="side of a picture (default 256)")
    parser.add_argument("--pairs", type=int, default=8, metavar="K", help="context pairs (default 8)")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="devices of the job (default 1)")
    parser.add_argument("--strategy", choices=STRATEGIES, help="default: single, with more devices fsdp2")
    batch = parser.add_mutually_exclusive_group()
    batch.add_argument("--batch-per-device", type=int, default=1, metavar="N", help="episodes a device (default 1)")
    batch.add_argument("--global-batch", type=int, metavar="N", help="episodes a step, over all devices")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="bf16-mixed")
    parser.add_argument("--targets", choices=("query", "every_pair"), help="default: the config's")
    parser.add_argument("--noisy-copies", type=int, metavar="N", help="default: the config's")
    parser.add_argument("--context-attention", choices=("joint", "prefix", "causal"), help="default: the config's")
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw")
    parser.add_argument("--vae-chunk", type=int, metavar="N", help="pictures the VAE encodes in one pass (default all)")
    parser.add_argument("--queries", type=int, default=1, metavar="N", help="queries a batch to a prompt (default 1)")
    parser.add_argument("--guidance", type=float, default=1.0, metavar="X", help="guidance of a prompt's answers")
    parser.add_argument("--device", default="h100", help=f"{', '.join(ACCELERATORS)} (default h100)")
    parser.add_argument("--peak-tflops", type=float, metavar="X", help="peak of a device, instead of its data sheet's")
    parser.add_argument("--memory-gb", type=float, metavar="Y", help="memory of a device, 10^9 bytes")
    parser.add_argument("--mfu", type=float, default=0.4, help="share of the peak that training reaches (default 0.4)")
    parser.add_argument("--steps", type=int, default=100_000, metavar="N", help="steps of the run (default 100000)")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    return parser


def _network(chosen: Any) -> tuple[JDiTConfig, Any, int]:
    """Network, targets and noisy copies: a config's, where no option says otherwise."""
    name = chosen.config or _size_config(_known(chosen.size.lower(), SIZES, "size"))
    options = _init_args(name)
    network = options.get("network") or {}
    if not isinstance(network, dict) or "widths" in network:
        raise LavinditError(f"{name} describes no J-DiT; name a config whose model is a DiTModule")
    if chosen.context_attention:
        network = network | {"context_attention": chosen.context_attention}
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in network.items()}
    try:
        config = JDiTConfig(**values)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise LavinditError(f"{name}: {error}") from error
    targets = _known(chosen.targets or options.get("targets", "query"), get_args(Targets), "targets")
    if chosen.targets is None and config.context_attention != "causal":
        targets = "query"  # another attention was asked for than the config's targets need
    copies = chosen.noisy_copies if chosen.noisy_copies is not None else options.get("noisy_copies", 1)
    if not isinstance(copies, int):
        raise LavinditError(f"{name}: noisy_copies must be a whole number, got {copies!r}")
    if chosen.noisy_copies is None and config.context_attention == "joint":
        copies = 1
    return config, targets, copies


def _size_config(size: str) -> str:
    return f"model/jdit_{size}.yaml"


def _vae(name: str | None, network: JDiTConfig) -> STVAEConfig:
    """The VAE of a name; without one, that which networks of this width are trained on."""
    if name is None:
        smallest_of_paper = _init_args(_size_config("0.1b"))["network"]["width"]
        name = "nano" if network.width < smallest_of_paper else "paper"
    return STVAEConfig(**_init_args(f"model/stvae_{_known(name, VAES, 'VAE')}.yaml")["network"])


def _init_args(name: str) -> dict[str, Any]:
    """`model.init_args` of a config, its bases included."""
    found: dict[str, Any] = {}
    for content in expand_configs(["--config", name])[1::2]:
        for key, value in model_options(yaml.safe_load(content), name).items():
            both = isinstance(value, dict) and isinstance(found.get(key), dict)
            found[key] = found[key] | value if both else value
    if not found:
        raise LavinditError(f"{name} describes no model; name a config with model.init_args")
    return found


def _known(name: str, known: tuple[str, ...], kind: str) -> str:
    if name in known:
        return name
    raise LavinditError(f"unknown {kind} {name!r}; there are {', '.join(known)}")


def _device(chosen: Any) -> Accelerator:
    own = {"tflops": chosen.peak_tflops, "memory_gb": chosen.memory_gb}
    own = {name: value for name, value in own.items() if value is not None}
    if any(not value > 0 for value in own.values()):
        raise LavinditError("--peak-tflops and --memory-gb must be above 0")
    if len(own) == 2:
        return Accelerator(**own)
    return replace(ACCELERATORS[_known(chosen.device.lower().replace("-", " "), tuple(ACCELERATORS), "device")], **own)


def _batch(chosen: Any) -> int:
    if chosen.devices < 1:
        raise LavinditError(f"devices must be at least 1, got {chosen.devices}")
    if chosen.strategy is None:
        chosen.strategy = "single" if chosen.devices == 1 else "fsdp2"
    if chosen.global_batch is None:
        return chosen.batch_per_device
    if chosen.global_batch < 1 or chosen.global_batch % chosen.devices:
        raise LavinditError(f"--global-batch {chosen.global_batch} must be a multiple of the {chosen.devices} devices")
    return chosen.global_batch // chosen.devices


def _prompt_setups(chosen: Any) -> list[PromptSetup]:
    """A compiled prompt in each type of weights; none without pairs."""
    if chosen.pairs == 0:
        return []
    sizes = {"resolution": chosen.resolution, "pairs": chosen.pairs}
    asked = {"queries": chosen.queries, "guidance": chosen.guidance}
    return [PromptSetup(**sizes, **asked, weights=name) for name in get_args(Weights)]


def _fits(memory: Memory, device: Accelerator) -> bool:
    return memory.total <= RESERVE * device.memory_gb * 1e9


def _numbers(plan: TrainingPlan, device: Accelerator, mfu: float, steps: int) -> dict[str, Any]:
    step_s = plan.step_seconds(mfu, device.tflops)
    numbers = asdict(plan)
    for name in ("memory", "memory_checkpointed"):
        memory: Memory = getattr(plan, name)
        numbers[name] |= {"total": memory.total, "fits": _fits(memory, device)}
    return numbers | {"device": asdict(device), "mfu": mfu, "step_s": step_s, "days": step_s * steps / DAY_S}


def _prompt_numbers(prompts: list[PromptPlan], device: Accelerator) -> dict[str, Any] | None:
    return {
        plan.setup.weights: {
            "prompt": plan.prompt,
            "query": plan.query,
            "memory": asdict(plan.memory) | {"total": plan.memory.total, "fits": _fits(plan.memory, device)},
        }
        for plan in prompts
    } or None


def _print(plan: TrainingPlan, device: Accelerator, mfu: float, steps: int, console: Console) -> None:
    setup = plan.setup
    total = sum(plan.parameters.values())
    console.print(
        f"J-DiT {total / 1e9:.3f} B parameters, VAE {plan.vae_parameters / 1e6:.1f} M (frozen); "
        f"{setup.resolution} px, {setup.pairs} pairs: {plan.tokens_per_sample} tokens an episode; "
        f"{setup.devices} x {setup.batch_per_device} = {plan.samples_per_step} episodes a step; "
        f"{setup.strategy}, {setup.precision}"
    )
    console.print(_memory_table(plan, device))
    console.print(_work_table(plan))
    step_s = plan.step_seconds(mfu, device.tflops)
    console.print(
        f"{step_s:.3g} s a step at {mfu:.0%} of {device.tflops:g} TFLOP/s a device; "
        f"{steps} steps: {step_s * steps / DAY_S:.3g} days"
    )


def _memory_table(plan: TrainingPlan, device: Accelerator) -> Table:
    chunk = min(plan.setup.vae_chunk or plan.setup.pictures, plan.setup.pictures)
    names = {"encoding": f"VAE encoding, {chunk} pictures a pass"}
    columns = {"no checkpointing": plan.memory, "checkpointing": plan.memory_checkpointed}
    return _side_by_side("memory a device, GiB", columns, names, device)


def _prompt_table(prompts: list[PromptPlan], device: Accelerator) -> Table:
    setup = prompts[0].setup
    queries = f"{setup.queries} quer{'y' if setup.queries == 1 else 'ies'}"
    names = {
        "prompt": f"prompt, keys and values of {setup.pairs} pairs",
        "queries": f"keys and values of {queries}",
        "encoding": "VAE encoding of the pairs",
        "reading": "reading the pairs",
        "answering": f"answering {queries}",
    }
    columns = {plan.setup.weights: plan.memory for plan in prompts}
    return _side_by_side("memory of a compiled prompt, GiB", columns, names, device)


def _side_by_side(title: str, columns: dict[str, Memory], names: dict[str, str], device: Accelerator) -> Table:
    """Items, peak and phases of memories that have the same ones."""
    table, memories = Table(box=None, pad_edge=False, title=title, title_justify="left"), list(columns.values())
    for heading in ("", *columns):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for name in memories[0].items:
        table.add_row(names.get(name, name), *(_gib(memory.items[name]) for memory in memories))
    table.add_section()
    table.add_row("peak", *(_gib(memory.total) for memory in memories), style="bold")
    for phase in memories[0].phases:
        table.add_row(f"  while: {names.get(phase, phase)}", *(_gib(memory.phases[phase]) for memory in memories))
    verdicts = ("yes" if _fits(memory, device) else "no" for memory in memories)
    table.add_row(f"fits into {RESERVE:.0%} of {device.memory_gb:g} GB", *verdicts, style="bold")
    return table


def _work_table(plan: TrainingPlan) -> Table:
    table = Table(box=None, pad_edge=False, title="work a step, TFLOP", title_justify="left")
    for heading in ("", "a device", "whole job"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for name, flops in (
        ("J-DiT, model", plan.model_flops),
        ("J-DiT, hardware", plan.hardware_flops),
        ("J-DiT, hardware, checkpointed", plan.hardware_flops_checkpointed),
        ("VAE encoding", plan.vae_flops),
    ):
        table.add_row(name, _short(flops / plan.setup.devices / 1e12), _short(flops / 1e12))
    return table


def _gib(size: int) -> str:
    return _short(size / 2**30)


def _short(value: float) -> str:
    """Two decimals, or three digits where that would leave none."""
    return f"{value:,.2f}" if value >= 1 or value == 0 else f"{value:.3g}"

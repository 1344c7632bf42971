"""What a training will need, before any machine is rented: memory a device, FLOPs a step, time.

Memory is not written down as a formula. The real network runs one training step on fake tensors, which have shapes
but no contents, and every storage is counted from birth to death; so a change of the network changes the plan.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from lavindit.errors import LavinditError
from lavindit.losses import flow_matching_loss
from lavindit.models import STVAE, JDiT, JDiTConfig, STVAEConfig
from lavindit.models.jdit import Layout, every_pair_layout, query_layout
from lavindit.models.jdit.cost import count_parameters, forward_cost, training_flops
from lavindit.training.trace import StorageTrace, pretending

Strategy = Literal["single", "ddp", "fsdp", "fsdp2"]
Precision = Literal["32-true", "bf16-mixed"]
Targets = Literal["query", "every_pair"]
Kernels = Literal["cuda", "cpu"]
FP32, BF16 = 4, 2
VAE_FACTOR = 8
UNSHARDED_BLOCKS = 2  # under FSDP the next block is gathered while one computes


@dataclass(frozen=True)
class TrainingSetup:
    """How a J-DiT is to be trained.

    Attributes:
        resolution: Side of the pictures in pixels, a multiple of 16.
        pairs: Context pairs K of an episode.
        batch_per_device: Episodes a device and step.
        devices: Devices of the job.
        strategy: "single", "ddp", or "fsdp" and "fsdp2" (weights, gradients, optimizer and average sharded).
        precision: As Lightning names it.
        targets: As of `DiTModule`.
        noisy_copies: As of `DiTModule`.
        optimizer: "adamw" or "muon" (`MuonAdamW`).
        vae_chunk: Pictures that the VAE encodes in one pass; None: all.
        kernels: Whose kernels run the step: they differ in what they keep, and autocast in what it casts.
    """

    resolution: int = 256
    pairs: int = 8
    batch_per_device: int = 1
    devices: int = 1
    strategy: Strategy = "single"
    precision: Precision = "bf16-mixed"
    targets: Targets = "query"
    noisy_copies: int = 1
    optimizer: Literal["adamw", "muon"] = "adamw"
    vae_chunk: int | None = None
    kernels: Kernels = "cuda"

    def __post_init__(self) -> None:
        if self.resolution < 16 or self.resolution % 16:
            raise LavinditError(f"the resolution must be a multiple of 16 pixels, got {self.resolution}")
        for name, least in (("pairs", 0), ("batch_per_device", 1), ("devices", 1), ("noisy_copies", 1)):
            if getattr(self, name) < least:
                raise LavinditError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.vae_chunk is not None and self.vae_chunk < 1:
            raise LavinditError(f"vae_chunk must be at least 1, got {self.vae_chunk}")
        if self.strategy == "single" and self.devices > 1:
            raise LavinditError(f"strategy single has one device, got {self.devices}; choose ddp or fsdp2")

    @property
    def pictures(self) -> int:
        """Pictures that a device encodes a step."""
        return self.batch_per_device * 2 * (self.pairs + 1)

    def layout(self, config: JDiTConfig) -> Layout:
        """The sequence of an episode with all its pairs."""
        if self.targets == "query":
            if self.noisy_copies > 1 and config.context_attention == "joint":
                raise LavinditError("several noisy copies need context attention prefix or causal")
            return query_layout(config.context_attention, 2 * self.pairs + 1, 1, copies=self.noisy_copies)
        if config.context_attention != "causal":
            raise LavinditError("targets every_pair needs context attention causal")
        return every_pair_layout(self.pairs, copies=self.noisy_copies)

    def tokens_per_frame(self, config: JDiTConfig) -> int:
        """Tokens of a picture."""
        return (self.resolution // VAE_FACTOR // config.patch) ** 2


@dataclass(frozen=True)
class Memory:
    """Bytes of one device.

    Attributes:
        items: What is held when the forward pass ends, by name, and "temporary": what the peak has on top.
        phases: Peak of each phase of a step: "encoding", "forward", "backward", "optimizer".
    """

    items: dict[str, int]
    phases: dict[str, int]

    @property
    def total(self) -> int:
        """Peak of the step."""
        return max(self.phases.values())


@dataclass(frozen=True)
class TrainingPlan:
    """What a training needs.

    Attributes:
        setup: What was asked.
        parameters: Of the J-DiT, by part.
        trained: Parameters that get a gradient.
        vae_parameters: Of the frozen VAE.
        memory: Of a device, with all activations kept.
        memory_checkpointed: Of a device, with activation checkpointing of each block.
        tokens_per_sample: Tokens of an episode, both streams.
        samples_per_step: Episodes of the whole job.
        model_flops: What the mathematics of a J-DiT step needs, whole job.
        hardware_flops: What is executed, hidden attention included, whole job.
        hardware_flops_checkpointed: The same with every block computed twice.
        vae_flops: Of encoding the pictures, whole job.
    """

    setup: TrainingSetup
    parameters: dict[str, int]
    trained: int
    vae_parameters: int
    memory: Memory
    memory_checkpointed: Memory
    tokens_per_sample: int
    samples_per_step: int
    model_flops: int
    hardware_flops: int
    hardware_flops_checkpointed: int
    vae_flops: int

    def step_seconds(self, mfu: float, peak_tflops: float) -> float:
        """Time of a step whose useful FLOPs, encoding included, run at the share `mfu` of the devices' peak."""
        return (self.model_flops + self.vae_flops) / (self.setup.devices * mfu * peak_tflops * 1e12)


def plan_training(config: JDiTConfig, vae: STVAEConfig, setup: TrainingSetup) -> TrainingPlan:
    """Plan the training of a J-DiT on images.

    An episode is taken with all its pairs; episodes that lose them for guidance need less. Not counted: the caching
    of the allocator, CUDA's context (about 1 GiB), the communication buffers and workspaces of libraries. Compiled
    blocks keep less than the blocks traced here.

    Raises:
        LavinditError: The setup contradicts the config.
    """
    layout, n = setup.layout(config), setup.tokens_per_frame(config)
    traces = [trace_step(config, setup, checkpointing) for checkpointing in (False, True)]
    encoding, vae_parameters, vae_flops = trace_encoding(vae, setup)
    shapes = _trained_shapes(config)
    memories = [_memory(config, setup, shapes, trace, encoding, vae_parameters) for trace in traces]
    cost = forward_cost(config, layout, n, setup.batch_per_device, len(layout.target))
    model, hardware = training_flops(cost)
    return TrainingPlan(
        setup=setup,
        parameters=count_parameters(config),
        trained=sum(shape.numel() for shape in shapes),
        vae_parameters=vae_parameters,
        memory=memories[0],
        memory_checkpointed=memories[1],
        tokens_per_sample=(len(layout.context) + len(layout.target)) * n,
        samples_per_step=setup.batch_per_device * setup.devices,
        model_flops=model * setup.devices,
        hardware_flops=hardware * setup.devices,
        hardware_flops_checkpointed=training_flops(cost, checkpointing=True)[1] * setup.devices,
        vae_flops=vae_flops * setup.devices,
    )


def _autocast(setup: TrainingSetup) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=setup.precision == "bf16-mixed")


def trace_step(config: JDiTConfig, setup: TrainingSetup, checkpointing: bool) -> StorageTrace:
    """Forward and backward pass of one device on fake tensors; phases "forward", "kept" (between them), "backward"."""
    with torch.device("meta"):
        network = JDiT(config).train()
    network.checkpointing = checkpointing
    layout, batch, side = setup.layout(config), setup.batch_per_device, setup.resolution // VAE_FACTOR
    frames = len(layout.target)
    with pretending(network, setup.kernels == "cuda") as trace:
        context = torch.empty(batch, config.latent_channels, len(layout.context), side, side)
        noisy = torch.empty(batch, config.latent_channels, frames, side, side)
        wanted = torch.empty_like(noisy)
        t = torch.empty(batch, frames)
        with _autocast(setup):
            loss = flow_matching_loss(network(noisy, t, context, layout)[:, None], wanted[:, None]).mean()
        trace.note("kept")
        trace.phase = "backward"
        loss.backward()
    return trace


def trace_encoding(config: STVAEConfig, setup: TrainingSetup) -> tuple[int, int, int]:
    """Encoding the pictures of a step on one device: peak bytes, parameters of the VAE, FLOPs."""
    with torch.device("meta"):
        vae = STVAE(config).eval().requires_grad_(False)
    chunk = min(setup.vae_chunk or setup.pictures, setup.pictures)
    with pretending(vae, setup.kernels == "cuda") as trace, FlopCounterMode(display=False) as counter, torch.no_grad():
        pictures = torch.empty(setup.pictures, 3, 1, setup.resolution, setup.resolution)
        with _autocast(setup):
            vae.to_latent(pictures[:chunk])
    flops = counter.get_total_flops() * setup.pictures // chunk
    return trace.peak("forward"), sum(p.numel() for p in vae.parameters()), flops


def _trained_shapes(config: JDiTConfig) -> list[torch.Size]:
    with torch.device("meta"):
        return [p.shape for p in JDiT(config).parameters() if p.requires_grad]


def _memory(
    config: JDiTConfig, setup: TrainingSetup, trained: list[torch.Size], trace: StorageTrace, encoding: int, vae: int
) -> Memory:
    """Put what is held and what the trace saw together."""
    sharded = setup.strategy in ("fsdp", "fsdp2")
    shards = setup.devices if sharded else 1
    parts = count_parameters(config)
    parameters, count = sum(parts.values()), sum(shape.numel() for shape in trained)
    state, update = _optimizer_bytes(setup, trained, shards)
    gradients = FP32 * count // shards
    held = {
        "weights": FP32 * parameters // shards,
        "gradients": gradients,
        "optimizer state": state,
        "average of the weights": FP32 * parameters // shards,
        "frozen VAE": FP32 * vae,
        "pictures": FP32 * 3 * setup.resolution**2 * setup.pictures,
    }
    # Sharded weights are gathered in the type that computes; autocast finds nothing to cast.
    number = BF16 if setup.precision == "bf16-mixed" else FP32
    block = parts["blocks"] // config.depth
    gathered = number * (UNSHARDED_BLOCKS * block + parameters - parts["blocks"]) if sharded else 0
    reduced = (number + FP32) * block if sharded else 0  # a block's gradients, and the same in the type of the sum
    _, activations, copies, _ = next(event for event in trace.events if event[0] == "kept")
    counted = 0 if sharded else 1
    base = sum(held.values())
    phases = {
        "encoding": base + encoding,
        "forward": base + gathered + trace.peak("forward", counted),
        # The trainer lets the last step's gradients go just before the backward pass.
        "backward": base - gradients + gathered + reduced + trace.peak("backward", counted, 1 / shards),
        "optimizer": base + update,
    }
    items = held | {"activations": activations, "gathered blocks" if sharded else "bf16 weights": gathered or copies}
    return Memory(items | {"temporary": max(phases.values()) - sum(items.values())}, phases)


def _optimizer_bytes(setup: TrainingSetup, trained: list[torch.Size], shards: int) -> tuple[int, int]:
    """State, and what a step of the optimizer needs for a moment.

    AdamW keeps two moments; over all tensors at once (CUDA) it makes one list of denominators, one by one (CPU) three
    tensors of the largest. Muon keeps one moment of a matrix, and holds its update and three of its iterates.
    """
    matrices = [shape.numel() for shape in trained if len(shape) == 2] if setup.optimizer == "muon" else []
    others = [shape.numel() for shape in trained if len(shape) != 2 or setup.optimizer == "adamw"]
    together = sum(others) // shards if setup.kernels == "cuda" else 3 * max(others)
    update = max(FP32 * together, (FP32 + 3 * BF16) * max(matrices, default=0))
    return FP32 * (sum(matrices) + 2 * sum(others)) // shards, update

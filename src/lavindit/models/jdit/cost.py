"""What a J-DiT costs: parameters, multiply-adds and bytes moved, in closed form.

Legend: B batch, Nc Nt context and target tokens, n tokens a frame, D width, H MLP width, KV width of all keys.
A multiply-add counts as 2 FLOPs. Norms, activations, rotations and softmax are left out, as is usual.
"""

from dataclasses import dataclass

from lavindit.models.jdit.config import JDiTConfig
from lavindit.models.jdit.layout import Layout, reading_layout
from lavindit.models.jdit.rope import attends_in_calls

WAVES = 256  # cosines and sines that the time embedding starts from
BACKWARD = 2  # a backward pass costs two forward passes


@dataclass(frozen=True)
class Cost:
    """FLOPs of a pass.

    Attributes:
        linears: Of all linear layers.
        attention: Of the query-key pairs that the layout lets see each other.
        attention_executed: Of the query-key pairs that are computed: with a mask, the hidden ones, too.
        blocks_executed: The share of the blocks in all that is executed, which activation checkpointing repeats.
    """

    linears: int
    attention: int
    attention_executed: int
    blocks_executed: int

    @property
    def model(self) -> int:
        """FLOPs that the mathematics needs."""
        return self.linears + self.attention

    @property
    def executed(self) -> int:
        """FLOPs that are executed."""
        return self.linears + self.attention_executed


def count_parameters(config: JDiTConfig) -> dict[str, int]:
    """Parameters of each part: "embedding", "time", "blocks", "final"."""
    width, patch = config.width, _patch_width(config)
    last = 2 * _stream_parameters(config) - (0 if config.full_last_block else _out_and_mlp(config))
    return {
        "embedding": (3 if config.input_condition else 2) * (patch * width + width + 2 * width),
        "time": WAVES * width + width + width * width + width + 2 * width,
        "blocks": 2 * (config.depth - 1) * _stream_parameters(config) + last,
        "final": width * width + width + (2 if config.input_skip else 1) * (width * patch + patch),
    }


def forward_cost(
    config: JDiTConfig, layout: Layout, tokens_per_frame: int, batch: int = 1, target_times: int = 1
) -> Cost:
    """FLOPs of a forward pass.

    Args:
        config: Size and options.
        layout: Frames of the sequence and who sees whom.
        tokens_per_frame: n.
        batch: B.
        target_times: Times an episode: 1, or the noisy frames where each has its own.
    """
    width, n = config.width, tokens_per_frame
    context, target = len(layout.context) * n, len(layout.target) * n
    joint = config.context_attention == "joint"
    embeddings = target_times + (0 if joint else 1)  # the fixed time of a context is embedded, too
    once = embeddings * (WAVES * width + width * width) + target_times * width * width
    once += (context + _ends(config) * target) * _patch_width(config) * width
    modulation = (1 + target_times) * 4 * width * width
    keys = 2 * width * config.kv_width
    whole = width * width + keys + _out_and_mlp(config)
    block = modulation + (context + target) * whole
    last = modulation + context * keys + target * whole
    seen, seen_last = _visible_frame_pairs(layout)
    attention = batch * 2 * width * ((config.depth - 1) * seen + seen_last) * n**2
    executed = attention
    if not attends_in_calls(layout, n):
        executed = batch * 2 * width * ((config.depth - 1) * (context + target) + target) * (context + target)
    return _cost(batch * once, batch * ((config.depth - 1) * block + last), attention, executed)


def read_cost(config: JDiTConfig, frames: int, tokens_per_frame: int, past_frames: int = 0, batch: int = 1) -> Cost:
    """FLOPs of reading clean frames (`JDiT.read`).

    Args:
        config: Size and options; `prefix` or `causal`.
        frames: F, read together.
        tokens_per_frame: n.
        past_frames: What was read before and all of them see.
        batch: B.
    """
    width, n = config.width, tokens_per_frame
    tokens, keys = batch * frames * n, 2 * width * config.kv_width
    once = WAVES * width + width * width + tokens * _patch_width(config) * width  # a batch has one time: 1
    whole = width * width + keys + _out_and_mlp(config)
    blocks = config.depth * 4 * width * width + tokens * ((config.depth - 1) * whole + keys)
    own, _ = _visible_frame_pairs(reading_layout(config.context_attention, frames, past_frames))
    # The last block keeps its keys and values, and nobody reads what it would attend to.
    attention = batch * 2 * width * (config.depth - 1) * (own + frames * past_frames) * n**2
    return _cost(once, blocks, attention, attention)


def answer_cost(
    config: JDiTConfig, past_frames: int, tokens_per_frame: int, target_frames: int = 1, batch: int = 1
) -> Cost:
    """FLOPs of a step after frames that were read before (`JDiT.answer`).

    Args:
        config: Size and options.
        past_frames: Pairs and query.
        tokens_per_frame: n.
        target_frames: Noisy frames T.
        batch: B.
    """
    width, n = config.width, tokens_per_frame
    tokens = target_frames * n
    once = WAVES * width + 2 * width * width + _ends(config) * tokens * _patch_width(config) * width
    whole = width * width + 2 * width * config.kv_width + _out_and_mlp(config)
    block = 4 * width * width + tokens * whole
    attention = batch * 2 * width * config.depth * target_frames * (past_frames + target_frames) * n**2
    return _cost(batch * once, batch * config.depth * block, attention, attention)


def training_flops(cost: Cost, checkpointing: bool = False) -> tuple[int, int]:
    """Model and hardware FLOPs of a forward and backward pass.

    Args:
        cost: Of the forward pass.
        checkpointing: Whether the blocks are computed again in the backward pass.

    Returns:
        (1 + 2) x what the mathematics needs; (1 + 2) x what is executed, and the blocks once more.
    """
    again = cost.blocks_executed if checkpointing else 0
    return (1 + BACKWARD) * cost.model, (1 + BACKWARD) * cost.executed + again


def forward_bytes(
    config: JDiTConfig, layout: Layout, tokens_per_frame: int, batch: int = 1, bytes_per_number: int = 2
) -> int:
    """Least bytes that a forward pass moves, for a roofline.

    Every weight is read once, and so is what each linear layer and attention of a block reads and writes. Norms and
    the like are taken as fused into them.
    """
    width, hidden, n = config.width, config.mlp_width, tokens_per_frame
    context, target = len(layout.context) * n, len(layout.target) * n
    qkv, keys = 2 * width + 2 * config.kv_width, width + 2 * config.kv_width
    rest = 2 * width + (width + 2 * hidden) + (hidden + width)
    token = qkv + (2 * width + 2 * config.kv_width) + rest
    last = context * (keys + 2 * config.kv_width) + target * token
    ends = (context + _ends(config) * target) * (_patch_width(config) + width)
    activations = batch * ((config.depth - 1) * (context + target) * token + last + ends)
    return bytes_per_number * (sum(count_parameters(config).values()) + activations)


def cache_bytes(
    config: JDiTConfig, frames: int, tokens_per_frame: int, bytes_per_number: int = 4, batch: int = 1
) -> int:
    """Bytes of the keys and values of clean frames in every block."""
    return 2 * config.depth * batch * frames * tokens_per_frame * config.kv_width * bytes_per_number


def _cost(once: int, blocks: int, attention: int, executed: int) -> Cost:
    """From multiply-adds of linear layers, outside of the blocks and in them, and of attention, all of it in blocks."""
    return Cost(2 * (once + blocks), 2 * attention, 2 * executed, 2 * (blocks + executed))


def _ends(config: JDiTConfig) -> int:
    """Linear layers between latents and tokens that a noisy token passes."""
    return 2 + config.input_condition + config.input_skip


def _patch_width(config: JDiTConfig) -> int:
    return config.latent_channels * config.patch**2


def _out_and_mlp(config: JDiTConfig) -> int:
    """Parameters, and multiply-adds a token, of the output projection and the MLP."""
    return config.width**2 + 3 * config.width * config.mlp_width


def _stream_parameters(config: JDiTConfig) -> int:
    width, keys = config.width, config.kv_width
    modulation, norms = 4 * width * width + 4 * width, width + keys
    return modulation + width * (width + 2 * keys) + norms + _out_and_mlp(config)


def _visible_frame_pairs(layout: Layout) -> tuple[int, int]:
    """Pairs of frames that see each other: of all frames, and of the noisy ones."""
    frames, first = len(layout.context) + len(layout.target), len(layout.context)
    if layout.visible is None:
        return frames**2, len(layout.target) * frames
    return sum(map(sum, layout.visible)), sum(map(sum, layout.visible[first:]))

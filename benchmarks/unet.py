"""A plain U-Net from picture to picture, in the size that is asked for.

Ronneberger et al. 2015, "U-Net", with what has become usual since: residual blocks of GroupNorm, SiLU and 3x3
convolutions, strided convolutions down, nearest neighbours and a convolution up. No attention, no time. Pixels are
folded 4x4 into channels at the start and unfolded at the end, as in the nano VAE: on a CPU a step of a U-Net of 6.5 M
parameters then costs a quarter of one folded 2x2.

Legend: B pictures, H W pixels, C channels.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lavindit.errors import LavinditError

MULTIPLES = (1, 2, 4, 6)  # of the first level's width; each level has half the side of the one before
BLOCKS = 2  # a level, down and up alike
GROUP = 4  # channels that are normalised together
TOLERANCE = 0.03
NEAR = (0.96, 0.98, 0.99, 1.0, 1.01, 1.02, 1.04)  # widths that are tried in the end


@dataclass(frozen=True)
class UNetConfig:
    """Size of a U-Net.

    Attributes:
        widths: Channels by level, multiples of `GROUP`.
        inputs: Channels of the input.
        outputs: Channels of the output.
        residual: Whether the output is added to the input's first channels: an answer that is much like its query.
        fold: Side of the squares of pixels that become channels.
    """

    widths: tuple[int, ...] = (32, 64, 128, 192)
    inputs: int = 3
    outputs: int = 3
    residual: bool = False
    fold: int = 4

    @property
    def multiple(self) -> int:
        """What the sides of a picture must be a multiple of."""
        return self.fold * 2 ** (len(self.widths) - 1)


class ResidualBlock(nn.Module):
    """x + conv(norm(conv(norm(x)))), SiLU before each convolution.

    Args:
        inputs: Channels that come in.
        width: Channels that leave.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(inputs // GROUP, inputs), nn.GroupNorm(width // GROUP, width)])
        self.convs = nn.ModuleList([nn.Conv2d(inputs, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)])
        self.shortcut = nn.Conv2d(inputs, width, 1) if inputs != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, width, H, W]."""
        kept = self.shortcut(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = conv(F.silu(norm(x)))
        return kept + x


class UNet(nn.Module):
    """A U-Net.

    Args:
        config: Its size.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config, widths = config, config.widths
        self.stem = nn.Conv2d(config.inputs * config.fold**2, widths[0], 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            self.down.append(nn.Sequential(*(ResidualBlock(width, width) for _ in range(BLOCKS))))
            if level + 1 < len(widths):
                self.shrink.append(nn.Conv2d(width, widths[level + 1], 3, stride=2, padding=1))
        self.middle = nn.Sequential(*(ResidualBlock(widths[-1], widths[-1]) for _ in range(BLOCKS)))
        self.grow, self.up = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(len(widths))):
            above = widths[min(level + 1, len(widths) - 1)]
            self.grow.append(nn.Conv2d(above, widths[level], 3, padding=1))
            joined = [2 * widths[level]] + [widths[level]] * (BLOCKS - 1)
            self.up.append(nn.Sequential(*(ResidualBlock(inputs, widths[level]) for inputs in joined)))
        self.norm = nn.GroupNorm(widths[0] // GROUP, widths[0])
        self.head = nn.Conv2d(widths[0], config.outputs * config.fold**2, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # pyright: ignore[reportArgumentType] - it has one

    def forward(self, picture: Tensor) -> Tensor:
        """Pictures [B, inputs, H, W] in [0, 1], H and W of `config.multiple` -> [B, outputs, H, W], around [0, 1]."""
        x, skipped = self.stem(F.pixel_unshuffle(2 * picture - 1, self.config.fold)), []
        for level, blocks in enumerate(self.down):
            x = blocks(x)
            skipped.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
        x = self.middle(x)
        for grow, blocks in zip(self.grow, self.up, strict=True):
            beside = skipped.pop()
            if beside.shape[2] != x.shape[2]:
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = blocks(torch.cat([grow(x), beside], 1))
        x = F.pixel_shuffle(self.head(F.silu(self.norm(x))), self.config.fold)
        return x + (picture[:, : self.config.outputs] if self.config.residual else 0.5)


def count_parameters(network: nn.Module) -> int:
    """Of all weights."""
    return sum(weight.numel() for weight in network.parameters())


def match_parameters(wanted: int, inputs: int = 3, residual: bool = False, fold: int = 4) -> UNetConfig:
    """The U-Net whose parameters are nearest to a number.

    Widths are multiples of `GROUP`, each level's by itself, so that the steps between sizes are small.

    Raises:
        LavinditError: The nearest is more than 3 % away.
    """

    def sized(base: float) -> tuple[UNetConfig, int]:
        widths = tuple(max(1, round(base * multiple / GROUP)) * GROUP for multiple in MULTIPLES)
        config = UNetConfig(widths, inputs, residual=residual, fold=fold)
        with torch.device("meta"):
            return config, count_parameters(UNet(config))

    base, tried = float(UNetConfig().widths[0]), []
    for _ in range(3):  # parameters grow with the square of the widths
        tried.append(sized(base))
        base = max(GROUP / 2, base * (wanted / tried[-1][1]) ** 0.5)
    tried += [sized(base * near) for near in NEAR]
    config, found = min(tried, key=lambda one: abs(one[1] - wanted))
    if abs(found - wanted) > TOLERANCE * wanted:
        raise LavinditError(f"no U-Net has {wanted} parameters; the nearest has {found}: ask for so many")
    return config

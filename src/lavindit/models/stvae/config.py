"""Every choice of an ST-VAE, in one frozen dataclass."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class STVAEConfig:
    """Size and options of a spatial-temporal VAE with 4x8x8 compression.

    Attributes:
        widths: Channels of each level, finest first. Between levels space halves until it is 8 times smaller than
            the pictures, and time halves twice: with patch 4, space and time between the first two levels and time
            alone between the next two.
        encoder_blocks: Residual blocks a level in the encoder.
        decoder_blocks: Residual blocks a level in the decoder.
        mid_blocks: Residual blocks at the coarsest level, between encoder and latent and between latent and
            decoder.
        latent_channels: Channels C of the latent.
        patch: Pixel-unshuffle factor before the stem (and shuffle after the head): a small VAE starts at a
            lower resolution and is several times cheaper. 1 needs four levels; 2, 4 and 8 need three.
        conv: "3d": causal convolutions over space and time at once (the paper). "2+1d": a convolution of each frame,
            then a causal one over time that only adds what has changed between frames. Images then cost a third of the
            parameters, and clips leave what was learned on images as it is.
        linear_shortcut: Add a linear map from each block of 8x8 pixels to its latent, and one back: what principal
            components could do is learned at once, and the network learns the rest.
        norm_groups: Groups of every GroupNorm.
        decoder_norm_groups: Groups of the decoder's, where they differ (the release has 32 there in any case); None: as
            `norm_groups`.
        norm: "per_frame" normalises each frame alone, so the VAE is strictly causal in time; "clip" takes
            statistics over all frames, which the released weights need.
    """

    widths: tuple[int, ...] = (32, 64, 80)
    encoder_blocks: int = 1
    decoder_blocks: int = 2
    mid_blocks: int = 1
    latent_channels: int = 16
    patch: int = 2
    norm_groups: int = 16
    norm: Literal["per_frame", "clip"] = "per_frame"
    decoder_norm_groups: int | None = None
    conv: Literal["3d", "2+1d"] = "3d"
    linear_shortcut: bool = False

    def __post_init__(self) -> None:
        if self.patch not in (1, 2, 4, 8) or len(self.widths) - 1 != max(2, self._halvings):
            raise ValueError(f"patch {self.patch} and {len(self.widths)} levels do not compress space by 8, time by 4")
        for groups in (self.norm_groups, self.decoder_norm_groups or self.norm_groups):
            if any(width % groups for width in self.widths):
                raise ValueError(f"widths {self.widths} must divide by the norms' groups, {groups}")

    @property
    def _halvings(self) -> int:
        """How often space halves."""
        return (8 // self.patch).bit_length() - 1

    def halves_space(self, level: int) -> bool:
        """Whether space halves after this level of the encoder."""
        return level < self._halvings

    def doubles_space(self, level: int) -> bool:
        """Whether space doubles after this level of the decoder, counted from the coarsest: the encoder mirrored."""
        return self.halves_space(len(self.widths) - 2 - level)

    def halves_time(self, level: int) -> bool:
        """Whether time halves after this level of the encoder, or doubles after this one of the decoder."""
        return level < 2

"""A clip in chunks gives what the whole clip gives, in the memory of a chunk."""

import pytest
import torch
from torch import Tensor

from lavindit.errors import LavinditError
from lavindit.models import STVAE, STVAEConfig
from lavindit.models.stvae import StreamingDecoder, StreamingEncoder, decode_in_chunks, encode_in_chunks
from lavindit.models.stvae.layers import StreamState, double_time, halve_time, lone_frames, with_past

LAYOUTS = [
    {"widths": (8, 16, 16, 24), "patch": 1, "encoder_blocks": 2, "decoder_blocks": 2, "mid_blocks": 2},
    {"mid_blocks": 0, "decoder_norm_groups": 4},
    {"patch": 4, "conv": "2+1d", "linear_shortcut": True},
]
"""Options of networks with layers of every kind: another kind of layer is another row."""
CHUNKINGS = [(1, 4, 4, 4, 4), (5, 4, 8), (9, 8), (1, 16), (13, 4), (17,)]


def random_vae(**options) -> STVAE:
    torch.manual_seed(0)
    tiny = {"widths": (16, 16, 24), "encoder_blocks": 1, "decoder_blocks": 1, "mid_blocks": 1, "norm_groups": 8}
    vae = STVAE(STVAEConfig(**(tiny | options))).eval()
    with torch.no_grad():
        for parameter in vae.parameters():
            if not parameter.any():  # what starts at zero would look at no frame
                parameter.normal_(std=0.1)
    return vae


def latent_chunks(chunking: tuple[int, ...]) -> list[int]:
    return [(chunking[0] - 1) // 4 + 1, *(frames // 4 for frames in chunking[1:])]


def assert_near(found: Tensor, whole: Tensor) -> None:
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("chunking", CHUNKINGS)
def test_chunks_give_the_posterior_of_the_whole_clip(chunking):
    vae, clip = random_vae(), torch.rand(2, 3, 17, 16, 24) * 2 - 1
    whole, encoder = vae.encode(clip), StreamingEncoder(vae)
    parts = [encoder(chunk) for chunk in clip.split(chunking, 2)]
    assert [part.mean.shape[2] for part in parts] == latent_chunks(chunking)
    assert_near(torch.cat([part.mean for part in parts], 2), whole.mean)
    assert_near(torch.cat([part.logvar for part in parts], 2), whole.logvar)


@torch.no_grad()
@pytest.mark.parametrize("chunking", CHUNKINGS)
def test_chunks_give_the_pixels_of_the_whole_latent(chunking):
    vae, z = random_vae(), torch.randn(2, 16, 5, 2, 3)
    whole, decoder = vae.decode(z), StreamingDecoder(vae)
    parts = [decoder(chunk) for chunk in z.split(latent_chunks(chunking), 2)]
    assert tuple(part.shape[2] for part in parts) == chunking
    assert_near(torch.cat(parts, 2), whole)


@torch.no_grad()
@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_layouts_stream_too(layout):
    vae, clip = random_vae(**layout), torch.rand(1, 3, 13, 16, 16) * 2 - 1
    whole = vae.encode(clip)
    assert_near(encode_in_chunks(vae, clip, 4).mean, whole.mean)
    assert_near(decode_in_chunks(vae, whole.mean, 4), vae.decode(whole.mean))


@torch.no_grad()
@pytest.mark.parametrize("chunk_frames", [4, 8, 12, 100])
@pytest.mark.parametrize("frames", [1, 5, 13])
def test_any_length_goes_through_in_chunks(frames, chunk_frames):
    vae, clip = random_vae(), torch.rand(1, 3, frames, 16, 16)
    posterior = encode_in_chunks(vae, clip, chunk_frames)
    assert_near(posterior.mean, vae.encode(clip).mean)
    assert_near(decode_in_chunks(vae, posterior.mean, chunk_frames), vae.decode(posterior.mean))


@torch.no_grad()
def test_a_later_chunk_is_no_clip_of_its_own():
    vae, clip = random_vae(), torch.rand(1, 3, 9, 16, 16)
    encoder = StreamingEncoder(vae)
    encoder(clip[:, :, :5])
    later = encoder(clip[:, :, 5:]).mean
    alone = vae.encode(clip[:, :, 4:]).mean[:, :, 1:]  # the same frames, but with frame 4 as their first
    assert later.shape == alone.shape
    assert (later - alone).abs().max() > 1e-3


@torch.no_grad()
def test_streams_do_not_mix():
    vae, (one, two) = random_vae(), torch.rand(2, 1, 3, 9, 16, 16)
    encoders = StreamingEncoder(vae), StreamingEncoder(vae)
    parts = [
        [encoder(clip[:, :, part]).mean for encoder, clip in zip(encoders, (one, two), strict=True)]
        for part in (slice(0, 1), slice(1, 5), slice(5, 9))
    ]
    for clip, found in zip((one, two), zip(*parts, strict=True), strict=True):
        assert_near(torch.cat(found, 2), vae.encode(clip).mean)


@torch.no_grad()
def test_memory_does_not_grow_with_the_clip_or_the_chunk():
    vae, clip = random_vae(), torch.rand(1, 3, 41, 16, 16)
    encoder, decoder, sizes = StreamingEncoder(vae), StreamingDecoder(vae), set()
    for chunk in clip.split((1, 4, 4, 4, 4, 24), 2):
        decoder(encoder(chunk).mean)
        sizes.add((encoder.state.memory_bytes(), decoder.state.memory_bytes()))
    assert len(sizes) == 1
    # Two frames before each convolution of kernel 3: stem, two in each of the blocks, head; space halves twice.
    cells = 8 * 8
    at_levels = [cells * (12 + 2 * 16), cells // 4 * 2 * 16, cells // 16 * (16 + 24 + 2 * 24 + 24)]
    assert sizes.pop()[0] == 2 * 4 * sum(at_levels)


@torch.no_grad()
@pytest.mark.parametrize("cast", ["autocast", "weights"])
def test_bfloat16_streams_as_it_encodes(cast):
    vae, clip = random_vae(), torch.rand(1, 3, 9, 16, 16)
    exact = vae.encode(clip).mean
    if cast == "weights":
        vae.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=cast == "autocast"):
        found = encode_in_chunks(vae, clip, 4).mean
        pixels = decode_in_chunks(vae, exact, 4), vae.decode(exact)
    assert found.dtype == torch.float32
    assert float((found - exact).abs().mean()) < 0.02 * float(exact.std())
    assert float((pixels[0] - pixels[1]).abs().mean()) < 0.02 * float(pixels[1].std())


def test_gradients_are_not_kept_from_chunk_to_chunk():
    vae = random_vae().train()
    encoder = StreamingEncoder(vae)
    assert not encoder(torch.rand(1, 3, 5, 16, 16)).mean.requires_grad
    state = StreamState()
    vae.encode(torch.rand(1, 3, 1, 16, 16), state)
    state.advance()
    remembered = state.past(vae.encoder.head)
    assert remembered is not None
    assert not remembered.requires_grad


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ([(4, 16, 16)], r"4k\+1 frames"),
        ([(5, 12, 16)], "multiples of 8"),
        ([(5, 16, 16), (5, 16, 16)], "4k frames after the first chunk"),
        ([(5, 16, 16), (0, 16, 16)], "without frames"),
        ([(5, 16, 16), (4, 16, 24)], "start another stream"),
    ],
)
def test_chunks_that_do_not_fit_are_refused_in_one_line(sizes, reason):
    *good, bad = [torch.rand(1, 3, *size) for size in sizes]
    encoder = StreamingEncoder(random_vae())
    for chunk in good:
        encoder(chunk)
    with pytest.raises(LavinditError, match=reason) as refused:
        encoder(bad)
    assert "\n" not in str(refused.value)


@torch.no_grad()
def test_a_refused_or_failed_chunk_can_be_given_again(monkeypatch):
    vae, clip = random_vae(), torch.rand(1, 3, 9, 16, 16)
    encoder = StreamingEncoder(vae)
    parts = [encoder(clip[:, :, :5]).mean]
    with pytest.raises(LavinditError):
        encoder(clip[:, :, 5:8])
    with monkeypatch.context() as broken:
        broken.setattr(vae.encoder.head, "forward", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            encoder(clip[:, :, 5:])
    parts.append(encoder(clip[:, :, 5:]).mean)
    assert_near(torch.cat(parts, 2), vae.encode(clip).mean)


@pytest.mark.parametrize("stream", [StreamingEncoder, StreamingDecoder])
def test_statistics_over_the_clip_cannot_be_streamed(stream):
    with pytest.raises(LavinditError, match=r"norm 'clip'.* cannot be streamed"):
        stream(random_vae(norm="clip"))


@pytest.mark.parametrize("chunk_frames", [0, 2, 6, -4])
def test_chunks_of_other_than_multiples_of_four_frames_are_refused(chunk_frames):
    with pytest.raises(LavinditError, match="name a multiple of 4"):
        encode_in_chunks(random_vae(), torch.rand(1, 3, 5, 16, 16), chunk_frames)


def test_time_is_padded_halved_and_doubled_by_hand():
    state, layer = StreamState(), torch.nn.Identity()
    frames = torch.arange(5.0).reshape(1, 1, 5, 1, 1)
    assert with_past(frames, 2, layer, None).flatten().tolist() == [0, 0, 0, 1, 2, 3, 4]
    assert with_past(frames, 2, layer, state).flatten().tolist() == [0, 0, 0, 1, 2, 3, 4]
    assert halve_time(frames).flatten().tolist() == [0, 1.5, 3.5]
    assert double_time(frames[:, :, :2], state).flatten().tolist() == [0, 1, 1]
    assert double_time(frames[:, :, :1], None).flatten().tolist() == [0]
    assert lone_frames(None) == lone_frames(state) == 1
    state.advance()
    assert lone_frames(state) == 0
    assert with_past(frames[:, :, :1], 2, layer, state).flatten().tolist() == [3, 4, 0]
    state.advance()
    assert with_past(frames[:, :, 1:], 2, layer, state).flatten().tolist() == [4, 0, 1, 2, 3, 4]
    assert halve_time(frames[:, :, 1:]).flatten().tolist() == [1.5, 3.5]
    assert double_time(frames[:, :, :1], state).flatten().tolist() == [0, 0]

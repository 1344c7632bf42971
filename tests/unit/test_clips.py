"""Clips: what goes in comes out, and what is damaged is told."""

import re
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lavindit import clips
from lavindit.clips import is_clip, is_cut_short, load_clip, save_clip, usable_length
from lavindit.errors import LavinditError
from lavindit.pictures import save_picture

# Where compressed frames lie behind the name of what holds them.
SPOILT = [("mp4", b"mdat", 900), ("avi", b"movi", 700), ("mov", b"mdat", 8)]
NO_CLIPS = [b"", b"no clip\n", b"RIFF", b"\x1a\x45\xdf\xa3", b"\0\0\0\x18ftypisom", b"GIF89a"]
CODECS = {"mp4": "libx264", "mov": "mpeg4", "mkv": "libx264", "webm": "libvpx-vp9", "avi": "mpeg4", "gif": "gif"}


def moving(frames: int, height: int = 24, width: int = 32) -> Tensor:
    """A smooth clip [3, T, H, W] whose brightness tells the frame."""
    y, x = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)[None]
    waves = torch.stack([torch.sin(2 * y + 3 * x + channel) for channel in range(3)])[:, None]
    level = torch.linspace(0.2, 0.6, frames)[None, :, None, None]
    return level + 0.15 * waves


def write_video(path: Path, clip: Tensor, times: list[int] | None = None, **options: str) -> Path:
    """A video as other programs write it, frame i at `times[i]` eighths of a second."""
    frames = (clip * 255).round().byte().permute(1, 2, 3, 0).numpy()
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(CODECS[path.suffix[1:]], rate=Fraction(8))
        stream.height, stream.width = frames.shape[1:3]  # pyright: ignore
        stream.pix_fmt = "rgb8" if path.suffix == ".gif" else "yuv420p"  # pyright: ignore
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame = frame.reformat(format=stream.pix_fmt)  # pyright: ignore
            frame.pts, frame.time_base = (times[number] if times else number), Fraction(1, 8)
            container.mux(stream.encode(frame))  # pyright: ignore
        container.mux(stream.encode(None))  # pyright: ignore
    return path


@pytest.mark.parametrize(
    ("frames", "usable"), [(0, 0), (1, 1), (2, 1), (4, 1), (5, 5), (8, 5), (9, 9), (13, 13), (30, 29)]
)
def test_usable_length(frames: int, usable: int) -> None:
    assert usable_length(frames) == usable


class TestVideos:
    @pytest.mark.parametrize("kind", CODECS)
    def test_every_kind_is_read(self, tmp_path: Path, kind: str) -> None:
        clip = moving(13)
        loaded = load_clip(write_video(tmp_path / f"a.{kind}", clip))
        assert loaded.shape == (3, 13, 24, 32)
        assert loaded.dtype == torch.float32
        assert loaded.is_contiguous()
        # GIF in 256 colours, the others lossy: the order of the frames and their colours have to be right.
        assert float((loaded - clip).abs().mean()) < (0.1 if kind == "gif" else 0.04)
        brightness = loaded.mean((0, 2, 3))
        assert (brightness.diff() > 0.01).all()

    def test_what_was_saved(self, tmp_path: Path) -> None:
        clip = moving(9)
        save_clip(clip, tmp_path / "new" / "a.mp4", fps=12.5)
        assert float((load_clip(tmp_path / "new" / "a.mp4") - clip).abs().max()) < 0.03
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.mp4"]
        with av.open(str(tmp_path / "new" / "a.mp4")) as container:
            assert container.streams.video[0].average_rate == Fraction(25, 2)

    def test_same_clip_same_bytes(self, tmp_path: Path) -> None:
        noise = torch.rand(3, 15, 24, 24, generator=torch.Generator().manual_seed(0))
        files = [tmp_path / f"{number}.mp4" for number in range(12)]
        for file in files:
            save_clip(noise, file)
            load_clip(file)  # leaves memory that was written to
        assert len({file.read_bytes() for file in files}) == 1

    def test_odd_sides_get_a_column_and_a_row(self, tmp_path: Path) -> None:
        clip = moving(5, 15, 17)
        save_clip(clip, tmp_path / "a.mp4")
        loaded = load_clip(tmp_path / "a.mp4")
        assert loaded.shape == (3, 5, 16, 18)
        assert float((loaded[:, :, :15, :17] - clip).abs().max()) < 0.05
        torch.testing.assert_close(loaded[:, :, :, 17], loaded[:, :, :, 16], rtol=0, atol=0.05)

    def test_values_that_no_file_holds(self, tmp_path: Path) -> None:
        clip = torch.full((3, 5, 16, 16), torch.nan)
        clip[:, 1], clip[:, 2] = 2.0, -1.0
        save_clip(clip, tmp_path / "a.mp4")
        levels = load_clip(tmp_path / "a.mp4").mean((0, 2, 3))
        torch.testing.assert_close(levels, torch.tensor([0.0, 1, 0, 0, 0]), rtol=0, atol=0.02)

    @pytest.mark.parametrize(
        ("matrix", "turn"),
        [
            ((0, 1, -1, 0), lambda p: p.rot90(-1, (2, 3))),
            ((-1, 0, 0, -1), lambda p: p.rot90(2, (2, 3))),
            ((0, -1, 1, 0), lambda p: p.rot90(1, (2, 3))),
            ((-1, 0, 0, 1), lambda p: p.flip(3)),
            ((1, 0, 0, -1), lambda p: p.flip(2)),
            ((0, 1, 1, 0), lambda p: p.transpose(2, 3)),
        ],
    )
    def test_is_turned_as_its_metadata_say(self, tmp_path: Path, matrix: tuple[int, ...], turn) -> None:
        path = write_video(tmp_path / "a.mp4", moving(5))
        upright, content = load_clip(path), bytearray(path.read_bytes())
        place = content.index(b"tkhd") + 44
        a, b, c, d = (number << 16 for number in matrix)
        content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        path.write_bytes(content)
        assert torch.equal(load_clip(path), turn(upright))

    def test_uneven_times_are_frames_as_they_come(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "a.mkv", moving(9), times=[0, 1, 2, 10, 11, 30, 31, 32, 60])
        assert load_clip(path).shape[1] == 9

    def test_transparency_lies_on_white(self, tmp_path: Path) -> None:
        image = Image.new("P", (8, 8), 0)
        image.putpalette([255, 0, 0, 0, 0, 255])
        image.paste(1, (0, 0, 4, 8))
        others = [image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) for _ in range(4)]
        for number, other in enumerate(others):
            other.putpixel((0, 0), number % 2)  # or Pillow writes one frame
        image.save(tmp_path / "a.gif", save_all=True, append_images=others, transparency=0, disposal=2)
        first = load_clip(tmp_path / "a.gif")[:, 0]
        assert first[:, 4, 2].tolist() == [0, 0, 1]
        assert first[:, 4, 6].tolist() == [1, 1, 1]


class TestLengths:
    @pytest.mark.parametrize("length", [1, 4, 15])
    def test_all_are_read_or_the_first_so_many(self, tmp_path: Path, length: int) -> None:
        path = write_video(tmp_path / "a.mp4", moving(length))
        whole = load_clip(path)
        assert whole.shape[1] == length
        for frames in (5, 13):
            if frames > length:
                with pytest.raises(LavinditError, match=rf"a\.mp4 has {length} frames, {frames} are asked for"):
                    load_clip(path, frames)
            else:
                assert torch.equal(load_clip(path, frames), whole[:, :frames])

    def test_too_long_to_be_taken_whole(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(clips, "MOST_FRAMES", 8)
        path = write_video(tmp_path / "a.mp4", moving(9))
        with pytest.raises(LavinditError, match=r"a\.mp4 has more than 8 frames; cut it into shorter clips"):
            load_clip(path)
        assert load_clip(path, 9).shape[1] == 9

    @pytest.mark.parametrize(("frames", "near"), [(12, 9), (4, 5), (0, 5), (1, 5)])
    def test_other_numbers_are_refused(self, tmp_path: Path, frames: int, near: int) -> None:
        with pytest.raises(LavinditError, match=f"clips have 4k.1 frames, ask for {near}"):
            load_clip(tmp_path / "a.mp4", frames)

    def test_no_more_is_decoded_than_needed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path, turned = write_video(tmp_path / "a.mp4", moving(200)), []
        upright = clips._upright
        monkeypatch.setattr(clips, "_upright", lambda *frame: turned.append(1) or upright(*frame))
        assert load_clip(path, 5).shape[1] == 5
        assert len(turned) == 5


class TestDamaged:
    @pytest.mark.parametrize("kind", CODECS)
    @pytest.mark.parametrize("share", [0.05, 0.5, 0.97])
    def test_cut_short(self, tmp_path: Path, kind: str, share: float) -> None:
        path = write_video(tmp_path / f"a.{kind}", moving(21))
        content = path.read_bytes()
        assert not is_cut_short(path)
        path.write_bytes(content[: int(share * len(content))])
        for frames in (None, 5):
            with pytest.raises(LavinditError, match=re.escape(str(path)) + r" .*: \d+ frames could be read"):
                load_clip(path, frames)

    def test_cut_short_with_its_index_in_front(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "a.mp4", moving(40), movflags="faststart")
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 9 // 10])
        with pytest.raises(LavinditError, match=r"[1-3]\d frames could be read \(the file is shorter than it says\)"):
            load_clip(path)

    def test_written_as_a_stream(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "a.mkv", moving(9), live="1")  # states no length
        assert load_clip(path).shape[1] == 9
        path = write_video(tmp_path / "a.mp4", moving(9), movflags="frag_keyframe+empty_moov")
        assert load_clip(path).shape[1] == 9
        path.write_bytes(path.read_bytes() + bytes(100))  # some cameras pad
        assert load_clip(path).shape[1] == 9

    @pytest.mark.parametrize(("kind", "after", "offset"), SPOILT)
    def test_spoilt_inside(self, tmp_path: Path, kind: str, after: bytes, offset: int) -> None:
        path = write_video(tmp_path / f"a.{kind}", moving(21))
        content = bytearray(path.read_bytes())
        place = content.index(after) + offset
        content[place : place + 150] = bytes(np.random.default_rng(0).integers(0, 256, 150, dtype=np.uint8))
        path.write_bytes(content)
        with pytest.raises(LavinditError, match=rf"a\.{kind} is damaged or no clip: \d+ frames could be read"):
            load_clip(path)

    @pytest.mark.parametrize(
        "content", [b"", b"no clip\n", b"RIFF", b"\x1a\x45\xdf\xa3", b"\0\0\0\x18ftypisom", b"GIF89a"]
    )
    def test_no_clip(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.mp4").write_bytes(content)
        with pytest.raises(LavinditError, match=r"a\.mp4 is damaged or no clip: 0 frames could be read"):
            load_clip(tmp_path / "a.mp4")

    def test_sound_alone(self, tmp_path: Path) -> None:
        with av.open(str(tmp_path / "a.mov"), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000)
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
            sound.sample_rate = 8000
            container.mux(stream.encode(sound))
        with pytest.raises(LavinditError, match=r"0 frames could be read \(it has no pictures\)"):
            load_clip(tmp_path / "a.mov")

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(LavinditError, match=r"no such clip: .*a\.mp4"):
            load_clip(tmp_path / "a.mp4")

    @pytest.mark.parametrize("kind", CODECS)
    def test_random_damage_is_read_or_told(self, tmp_path: Path, kind: str) -> None:
        content = write_video(tmp_path / f"a.{kind}", moving(9, 16, 16)).read_bytes()
        random, path = np.random.default_rng(0), tmp_path / f"b.{kind}"
        for _ in range(25):
            spoilt = np.frombuffer(content, dtype=np.uint8).copy()
            places = random.integers(0, len(spoilt), 8)
            spoilt[places] = random.integers(0, 256, 8)
            path.write_bytes(spoilt.tobytes())
            try:
                told = "" if load_clip(path, 5).shape[:2] == (3, 5) else "another number of frames"
            except LavinditError as error:
                told = str(error)
            assert not told or (str(path) in told and "\n" not in told)


class TestFolders:
    def test_there_and_back(self, tmp_path: Path) -> None:
        clip = (moving(13) * 255).round() / 255
        save_clip(clip, tmp_path / "new" / "a")
        assert torch.equal(load_clip(tmp_path / "new" / "a"), clip)
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["a"]
        save_clip(clip, tmp_path / "v1.2")
        assert torch.equal(load_clip(tmp_path / "v1.2"), clip)
        save_clip(clip[:, :5], tmp_path / "new" / "a")  # in place of the longer one
        assert torch.equal(load_clip(tmp_path / "new" / "a"), clip[:, :5])

    def test_in_natural_order(self, tmp_path: Path) -> None:
        clip = (moving(13) * 255).round() / 255
        for index, frame in enumerate(clip.split(1, 1)):
            save_picture(frame, tmp_path / "a" / f"frame{index}.png")
        (tmp_path / "a" / ".frame0.png").write_bytes(b"")
        (tmp_path / "a" / "notes.txt").write_text("no frame")
        assert torch.equal(load_clip(tmp_path / "a"), clip)
        assert torch.equal(load_clip(tmp_path / "a", 9), clip[:, :9])

    def test_of_unequal_sizes(self, tmp_path: Path) -> None:
        save_clip(moving(5), tmp_path / "a")
        save_picture(moving(1, 24, 30), tmp_path / "a" / "0003.png")
        with pytest.raises(LavinditError, match=r"0003\.png is 30x24, 0000\.png is 32x24; give all frames"):
            load_clip(tmp_path / "a")

    def test_damaged(self, tmp_path: Path) -> None:
        save_clip(moving(5), tmp_path / "a")
        (tmp_path / "a" / "0002.png").write_bytes(b"")
        with pytest.raises(LavinditError, match=r"cannot read .*0002\.png"):
            load_clip(tmp_path / "a")

    def test_empty(self, tmp_path: Path) -> None:
        with pytest.raises(LavinditError, match="no frames in"):
            load_clip(tmp_path)


class TestSave:
    @pytest.mark.parametrize("name", ["a", "a.mp4"])
    def test_leaves_nothing_half_written(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "file").write_text("mine")
        with pytest.raises(LavinditError, match="cannot write"):
            save_clip(moving(5), tmp_path / "file" / name)
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def test_other_suffixes_and_shapes(self, tmp_path: Path) -> None:
        for name in ("a.png", "a.GIF"):
            with pytest.raises(LavinditError, match=rf"cannot write a clip as .*{name}; name a \.mp4 file"):
                save_clip(moving(5), tmp_path / name)
        with pytest.raises(ValueError, match=r"shape \[3, T, H, W\]"):
            save_clip(moving(5)[:, 0], tmp_path / "a.mp4")
        assert not list(tmp_path.iterdir())


def test_is_clip(tmp_path: Path) -> None:
    save_clip(moving(5), tmp_path / "a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "b.MP4").touch()
    (tmp_path / "folder.mp4").mkdir()
    names = ["a", "a/0000.png", "empty", "b.MP4", "none.mp4", "folder.mp4"]
    assert [is_clip(tmp_path / name) for name in names] == [True, False, False, True, False, False]
    assert is_clip(str(tmp_path / "a"))


def test_real_frames(test_data: Path) -> None:
    sequence = next(path for path in sorted((test_data / "data" / "davis").rglob("*")) if is_clip(path))
    assert load_clip(sequence, 13).shape[:2] == (3, 13)

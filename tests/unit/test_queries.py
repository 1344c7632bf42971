"""Queries of any length: windows of frames, and the answers to them joined again."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lavindit.clips import load_clip, save_clip
from lavindit.errors import LavinditError
from lavindit.inference import Engine, load
from lavindit.inference.queries import join_frames, windows_of
from lavindit.inference.scorer import score_application
from lavindit.pictures import load_picture, save_picture
from lavindit.task import get_task

RAIN = get_task("deraining")


@pytest.fixture(scope="module")
def engine(tiny_model_dir: Path) -> Engine:
    return load(tiny_model_dir)


def clip(frames: int, height: int = 20, width: int = 30) -> Tensor:
    return torch.rand(3, frames, height, width, generator=torch.Generator().manual_seed(frames))


@pytest.mark.parametrize(
    ("frames", "size", "windows"),
    [
        (1, 1, [[0]]),
        (3, 1, [[0], [1], [2]]),
        (13, 13, [list(range(13))]),
        (4, 5, [[0, 1, 2, 3, 3]]),
        (7, 5, [[0, 1, 2, 3, 4], [2, 3, 4, 5, 6]]),
        (10, 5, [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]),
    ],
)
def test_windows_cover_every_frame(frames: int, size: int, windows: list[list[int]]) -> None:
    assert windows_of(frames, size) == windows
    whole = clip(frames)
    parts = [whole[:, window] for window in windows]
    assert torch.equal(join_frames(parts, windows), whole)


def test_of_a_frame_answered_twice_the_first_counts() -> None:
    parts = [torch.full((3, 5, 2, 2), float(number)) for number in range(2)]
    joined = join_frames(parts, windows_of(7, 5))
    assert joined[0, :, 0, 0].tolist() == [0, 0, 0, 0, 0, 1, 1]


class TestApply:
    @pytest.mark.parametrize("frames", [5, 13, 16])
    def test_a_clip_of_any_length_comes_back_whole(self, engine: Engine, tmp_path: Path, frames: int) -> None:
        save_clip(clip(frames), tmp_path / "clip")
        answer = engine.apply("video_depth_estimation", tmp_path / "clip", pairs=1, steps=1)
        assert answer.image.shape == (3, frames, 20, 30)
        assert answer.native.shape == (1, frames, 20, 30)
        answer.save(tmp_path / "out")
        assert float((load_clip(tmp_path / "out") - answer.image).abs().max()) < 0.5 / 255 + 1e-6

    def test_an_image_task_answers_frame_by_frame(self, engine: Engine) -> None:
        frames = clip(3)
        together = engine.apply("depth_estimation", frames, pairs=1, steps=1)
        alone = engine.apply("depth_estimation", frames[:, :1], pairs=1, steps=1)
        assert together.image.shape == (3, 3, 20, 30)  # pyright: ignore
        assert alone.image.shape == (3, 1, 20, 30)  # pyright: ignore

    def test_arrays_and_images_are_asked_as_files_are(self, engine: Engine, tmp_path: Path) -> None:
        save_picture(clip(1), tmp_path / "a.png")
        pixels = np.asarray(Image.open(tmp_path / "a.png"))
        asked = [tmp_path / "a.png", Image.open(tmp_path / "a.png"), pixels, load_picture(tmp_path / "a.png")]
        inputs = [engine.apply_all("colorization", [query], pairs=1, steps=1)[0].episode.query.input for query in asked]
        assert all(torch.equal(inputs[0], other) for other in inputs)
        for wrong in (pixels / 255, pixels[..., :1], torch.zeros(1, 3, 8, 8), torch.zeros(8, 8)):
            with pytest.raises(LavinditError, match="as query must be"):
                engine.apply("colorization", wrong, pairs=1, steps=1)
        (tmp_path / "half.png").write_bytes((tmp_path / "a.png").read_bytes()[:-40])
        with pytest.raises(LavinditError, match="cannot read the picture that was given"):
            engine.apply("colorization", Image.open(tmp_path / "half.png"), pairs=1, steps=1)

    def test_a_picture_goes_on_as_a_clip(self, engine: Engine, tmp_path: Path) -> None:
        answer = engine.apply("frame_prediction", clip(1), pairs=1, steps=1)
        assert answer.image.shape == (3, 13, 20, 30)  # pyright: ignore
        answer.save(tmp_path / "out.mp4")  # pyright: ignore
        assert load_clip(tmp_path / "out.mp4").shape == (3, 13, 20, 30)

    @pytest.mark.parametrize(
        ("task", "frames", "words"),
        [
            ("video_depth_estimation", 1, "video_depth_estimation asks about clips, .* is one picture; give a video"),
            ("frame_prediction", 5, "frame_prediction asks about one picture, .* is a clip; give its first frame"),
        ],
    )
    def test_the_wrong_kind(self, engine: Engine, task: str, frames: int, words: str) -> None:
        with pytest.raises(LavinditError, match=words):
            engine.apply(task, clip(frames), pairs=1, steps=1)

    def test_a_clip_has_one_context_and_one_palette(self, engine: Engine) -> None:
        (answer,) = engine.apply_all("instance_segmentation", [clip(4)], context="nearest", pairs=2, steps=1)
        native = answer.episode.codec.decode(answer.prediction.image)
        assert torch.equal(native, answer.prediction.native)

    def test_motion_is_in_pixels_of_the_query(self, engine: Engine) -> None:
        query = clip(13, 64, 128)
        (answer,) = engine.apply_all("optical_flow_estimation", [query], pairs=1, steps=1)
        in_square = answer.episode.codec.decode(answer.prediction.image)
        torch.testing.assert_close(answer.prediction.native, 2 * in_square)

    def test_a_picture_is_no_truth_of_a_clip(self, engine: Engine) -> None:
        with pytest.raises(LavinditError, match="frame_prediction needs a clip; a picture alone does not give"):
            engine.apply_all("frame_prediction", [clip(1)], corrupt=True, pairs=1, steps=1)

    def test_corrupted_clips_are_scored_whole(self, engine: Engine) -> None:
        (answer,) = engine.apply_all("deraining", [clip(3)], corrupt=True, pairs=1, steps=1)
        figures = {figure.metric: figure for figure in score_application(RAIN, answer.episode, answer.square)}
        assert figures["psnr"].answer is not None
        assert figures["psnr"].baselines["mean_target"] is None  # a picture is no answer to a clip
        pair = answer.episode.query
        assert pair.input.shape == pair.target.shape == pair.native.shape == (3, 3, 64, 64)
        assert answer.square.shape == (3, 3, 64, 64)
        assert not torch.equal(pair.input, pair.target)

    def test_the_context_is_chosen_as_asked(self, engine: Engine) -> None:
        (nearest, other) = engine.apply_all(
            "depth_estimation", [clip(1), 1 - clip(1)], context="nearest", pairs=2, steps=1
        )
        assert not torch.equal(nearest.episode.pairs[0].input, other.episode.pairs[0].input)
        (fixed,) = engine.apply_all("depth_estimation", [clip(1)], context="fixed:3,1", pairs=2, steps=1)
        (turned,) = engine.apply_all("depth_estimation", [clip(1)], context="fixed:1,3", pairs=2, steps=1)
        assert torch.equal(fixed.episode.pairs[0].input, turned.episode.pairs[1].input)
        with pytest.raises(LavinditError, match="unknown context 'best'"):
            engine.apply("depth_estimation", clip(1), context="best")

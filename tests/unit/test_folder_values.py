"""Targets of a folder of pairs: native values, palettes, clips, and the metrics that score them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from folder_pairs import PANOPTIC, SIZE, pair_of, random_picture, with_target, write_config, write_half, write_pairs
from lavindit.clips import save_clip
from lavindit.codecs import CODECS, PaletteCodec, get_codec
from lavindit.errors import LavinditError
from lavindit.metrics import networks
from lavindit.pictures import center_crop, resize_nearest, save_array, save_picture
from lavindit.task import FolderTask
from lavindit.task.folder import METRICS_OF
from lavindit.task.folder_natives import FOLDER_CODECS


class TestNatives:
    @pytest.mark.parametrize("name", ["identity", "depth", "normals", "mask", "flow"])
    @pytest.mark.parametrize("frames", [1, 5])
    def test_pictures_are_decoded(self, tmp_path: Path, name: str, frames: int) -> None:
        codec, generator = get_codec(name), torch.Generator().manual_seed(0)
        native = codec.random_native(frames, SIZE, SIZE, generator)
        picture = codec.encode(native, torch.ones(1, frames, SIZE, SIZE, dtype=torch.bool))
        write_half(tmp_path / "a_input", random_picture(0, frames))
        write_half(tmp_path / "a_target", picture)
        task = FolderTask(write_config(tmp_path, codec=name, frames=5))
        assert task.modality == ("image" if frames == 1 else "video")
        assert (task.input_frames, task.target_frames) == (frames, frames)
        pair = pair_of(tmp_path)
        assert float((pair.native - native).abs().max()) <= codec.tolerance_8bit
        assert pair.valid.all()
        torch.testing.assert_close(pair.target, codec.encode(pair.native, pair.valid))
        # Decoding makes vectors unit again, so a level may change by one.
        torch.testing.assert_close(pair.target, picture, rtol=0, atol=1 / 255)

    @pytest.mark.parametrize("frames", [1, 5])
    @pytest.mark.parametrize(
        "config", [*({"name": name} for name in FOLDER_CODECS if name != "panoptic"), PANOPTIC], ids=lambda c: c["name"]
    )
    def test_arrays_are_natives(self, tmp_path: Path, config: dict[str, Any], frames: int) -> None:
        codec = get_codec(**config)
        native = codec.random_native(frames, SIZE, SIZE, torch.Generator().manual_seed(0))
        write_half(tmp_path / "a_input", random_picture(0, frames))
        save_array(native if frames > 1 else native[:, 0], tmp_path / "a_target.npy")
        task = FolderTask(write_config(tmp_path, codec=config, frames=5))
        assert task.target_frames == frames
        pair = pair_of(tmp_path)
        torch.testing.assert_close(pair.native, native, rtol=0, atol=1e-5)
        assert pair.valid.all()
        own = task.make_codec([], torch.Generator().manual_seed(3))
        assert torch.equal(pair.target, own.encode(pair.native, pair.valid))
        # The truth scores the ideal.
        metric = task.make_metric()
        metric.update(pair.native, pair.native, pair.valid, 0, pair.meta)
        figures = metric.compute()
        assert [float(figures[c.metric]) for c in task.columns] == pytest.approx(list(metric.ideals), abs=1e-4)
        assert task.restores == (config["name"] == "identity")

    def test_every_codec_of_maps_has_metrics(self) -> None:
        assert set(METRICS_OF) == set(FOLDER_CODECS) == {name for name, codec in CODECS.items() if codec.pixelwise}

    def test_sharp_values_stay_sharp(self, tmp_path: Path) -> None:
        """Depth is not mixed over an edge: the nearest value of the centred square is taken."""
        depth_m = torch.where(torch.arange(48) < 27, 1.0, 20.0).expand(1, 1, 40, 48).contiguous()
        save_picture(random_picture(0, 1, 40, 48), tmp_path / "a_input.png")
        save_array(depth_m[:, 0], tmp_path / "a_target.npy")
        pair = pair_of(write_config(tmp_path, codec="depth"), size=16)
        assert torch.equal(pair.native, resize_nearest(center_crop(depth_m), 16, 16))
        assert set(pair.native.unique().tolist()) == {1.0, 20.0}

    def test_motion_counts_pixels_of_the_square(self, tmp_path: Path) -> None:
        flow_px = torch.tensor([8.0, -4.0]).view(2, 1, 1).expand(2, 64, 96).contiguous()
        save_picture(random_picture(0, 1, 64, 96), tmp_path / "a_input.png")
        save_array(flow_px, tmp_path / "a_target.npy")
        pair = pair_of(write_config(tmp_path, codec="flow"), size=16)
        assert pair.native[:, 0, 5, 5].tolist() == [2.0, -1.0]
        task = FolderTask(tmp_path)
        stretched = task.make_source("train", 16, "stretch")[0]
        assert stretched.native is not None
        torch.testing.assert_close(stretched.native[:, 0, 5, 5], torch.tensor([8 * 16 / 96, -1.0]))

    def test_what_is_unknown_is_not_valid(self, tmp_path: Path) -> None:
        depth_m = torch.full((1, SIZE, SIZE), 5.0)
        depth_m[0, 0, :4] = torch.tensor([torch.nan, torch.inf, 0.0, 31.0])  # the last is beyond what the codec holds
        pair = pair_of(with_target(tmp_path / "depth", depth_m, codec="depth"))
        assert (~pair.valid).nonzero()[:, 2:].tolist() == [[0, 0], [0, 1], [0, 2], [0, 3]]
        assert pair.target.isfinite().all()
        normals = torch.zeros(3, SIZE, SIZE)
        normals[2, 1:] = 0.9  # is made a unit vector
        pair = pair_of(with_target(tmp_path / "normals", normals, codec="normals"))
        assert pair.valid[0, 0].sum(1).tolist() == [0] + 31 * [32]
        assert pair.native[:, 0, 1, 0].tolist() == [0, 0, 1]
        mask = torch.ones(1, SIZE, SIZE)
        mask[0, 0, 0] = torch.nan
        pair = pair_of(with_target(tmp_path / "mask", mask, codec="mask"))
        assert pair.valid.sum() == SIZE**2 - 1
        assert pair.native.isfinite().all()

    def test_pictures_without_motion_or_direction(self, tmp_path: Path) -> None:
        codec = get_codec("flow")
        valid = torch.ones(1, 1, SIZE, SIZE, dtype=torch.bool)
        valid[..., :10] = False
        write_half(tmp_path / "a_input", random_picture(0))
        write_half(tmp_path / "a_target", codec.encode(torch.ones(2, 1, SIZE, SIZE), valid))
        assert torch.equal(pair_of(write_config(tmp_path, codec="flow")).valid, valid)
        normals = get_codec("normals").encode(torch.ones(3, 1, SIZE, SIZE), valid)
        write_half(tmp_path / "a_target", normals)
        assert torch.equal(pair_of(write_config(tmp_path, codec="normals")).valid, valid)

    @pytest.mark.parametrize(
        ("codec", "native", "words"),
        [
            ("depth", torch.full((1, 8, 8), 4200.0), "holds values from 4200 to 4200, codec 'depth' holds 0.5 to 30 m"),
            ("mask", torch.full((1, 8, 8), 255), "holds values from 255 to 255, codec 'mask' holds 0 to 1;"),
            ("normals", torch.full((3, 8, 8), 128), "codec 'normals' holds -1 to 1"),
            ("identity", torch.full((3, 8, 8), 255), "codec 'identity' holds 0 to 1"),
            ("flow", torch.full((2, 8, 8), 900.0), "codec 'flow' holds -32 to 32 px"),
            ("depth", torch.ones(3, 8, 8), r"shape \[3, 1, 8, 8\], codec 'depth' takes \[1, T, H, W\] or \[1, H, W\]"),
            (PANOPTIC, torch.full((2, 8, 8), 7), "no colour for class 7"),
            ("palette", torch.arange(64).view(1, 8, 8), "63 instances, but there are 16 colours"),
        ],
    )
    def test_what_no_codec_holds(self, tmp_path: Path, codec: Any, native: Tensor, words: str) -> None:
        with pytest.raises(LavinditError, match=rf"a_target\.npy.*{words}"):
            pair_of(with_target(tmp_path, native, 8, codec=codec), size=8)

    @pytest.mark.parametrize(
        ("codec", "unit"), [("depth", "m"), ({"name": "depth", "mapping": "cube"}, "m"), ("flow", "px")]
    )
    def test_pictures_in_other_colours(self, tmp_path: Path, codec: Any, unit: str) -> None:
        write_half(tmp_path / "a_input", random_picture(0))
        write_half(tmp_path / "a_target", 0.5 + 0.3 * random_picture(1))
        with pytest.raises(
            LavinditError, match=rf"a_target\.png is not in the colours of codec .*\.npy file, in {unit}"
        ):
            pair_of(write_config(tmp_path, codec=codec))


COLOURS = [[0, 0, 0], [200, 30, 40], [190, 30, 40], [255, 255, 255]]


class TestPalette:
    def ids(self) -> Tensor:
        blocks = torch.randint(4, (8, 8), generator=torch.Generator().manual_seed(0))
        return blocks.repeat_interleave(4, 0).repeat_interleave(4, 1)

    def painted(self, folder: Path, ids: Tensor, **config: Any) -> Path:
        colours = torch.tensor(COLOURS) / 255
        write_half(folder / "a_input", random_picture(0))
        write_half(folder / "a_target", colours[ids].permute(2, 0, 1)[:, None])
        return write_config(folder, codec="palette", **config)

    def test_fixed_colours(self, tmp_path: Path) -> None:
        folder = self.painted(tmp_path, self.ids(), colours=COLOURS)
        pair = pair_of(folder)
        assert torch.equal(pair.native[0, 0].long(), self.ids())
        codec = FolderTask(folder).make_codec([], torch.Generator().manual_seed(1))
        assert isinstance(codec, PaletteCodec)
        assert codec.count == 3
        assert torch.equal(codec.decode(codec.encode(pair.native, pair.valid)), pair.native)
        # An episode draws its own colours.
        drawn = [FolderTask(folder).make_codec([], torch.Generator().manual_seed(seed)) for seed in range(9)]
        assert len({str(other.encode(pair.native, pair.valid)) for other in drawn}) > 2

    def test_order_of_the_list_is_the_id(self, tmp_path: Path) -> None:
        red, _, white = COLOURS[1:]
        folder = self.painted(tmp_path, torch.full((32, 32), 1), colours=[white, [0, 0, 0], red])
        assert pair_of(folder).native.unique().tolist() == [2]

    def test_smoothed_pictures_are_refused(self, tmp_path: Path) -> None:
        folder = self.painted(tmp_path, self.ids(), colours=COLOURS[:3])
        words = r"a_target\.png has pixels of the colour \[255, 255, 255\], which is none of `colours` in task\.yaml"
        with pytest.raises(LavinditError, match=words):
            pair_of(folder)

    def test_unknown_colours_are_instances(self, tmp_path: Path) -> None:
        native = pair_of(self.painted(tmp_path, self.ids())).native[0, 0].long()
        assert native.unique().tolist() == [0, 1, 2, 3]
        for i in range(4):
            assert len(native[self.ids() == i].unique()) == 1
        assert (native[self.ids() == 0] == 0).all()

    def test_too_many_colours(self, tmp_path: Path) -> None:
        folder = self.painted(tmp_path, self.ids())
        write_half(tmp_path / "a_target", torch.rand(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)))
        with pytest.raises(
            LavinditError, match=r"a_target\.png has 10\d\d colours besides black, .* holds 16 instances"
        ):
            pair_of(folder)
        more = write_config(folder, codec={"name": "palette", "colours": 1100})
        assert int(pair_of(more).native.max()) > 1000

    def test_large_ids_are_ranked_and_negative_ones_unknown(self, tmp_path: Path) -> None:
        ids = np.zeros((1, SIZE, SIZE), dtype=np.int64)
        ids[0, :8], ids[0, 8:16], ids[0, 16:18] = 2**40 + 1, 2**40, -1
        pair = pair_of(with_target(tmp_path, ids, codec="palette"))
        assert pair.native[0, 0, [0, 8, 31], 0].tolist() == [2, 1, 0]
        assert pair.valid[0, 0, :, 0].tolist() == 16 * [True] + 2 * [False] + 14 * [True]

    def test_one_colour_is_one_instance_of_a_clip(self, tmp_path: Path) -> None:
        clip = torch.zeros(3, 5, SIZE, SIZE)
        for frame in range(5):
            clip[0, frame, :, 2 * frame : 2 * frame + 8] = 1
            clip[1, frame, 16:, 20:] = frame > 2
        write_half(tmp_path / "a_input", random_picture(0, 5))
        write_half(tmp_path / "a_target", clip)
        config = write_config(tmp_path, codec="palette", frames=5, metrics=["video_masks", "instances"])
        native = pair_of(config).native
        assert [native[0, t].unique().tolist() for t in range(5)] == [[0, 2]] * 3 + [[0, 1, 2]] * 2
        task = FolderTask(config)
        names = ["j_and_f", "j", "f", "ap", "ap50", "ap75", "mbo"]
        assert [column.metric for column in task.columns] == names
        assert {column.direction for column in task.columns} == {"max"}
        assert [column.headline for column in task.columns] == [True, *[False] * 6]

    def test_pictures_of_panoptic_segments_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(LavinditError, match=r"a_target\.png is a picture; of codec 'panoptic' targets are \.npy"):
            pair_of(write_pairs(tmp_path, codec=PANOPTIC))


class TestClips:
    @pytest.mark.parametrize(
        ("frames", "modality", "restores"),
        [((5, 5), "video", True), ((1, 5), "video", False), ((5, 1), "image", False)],
    )
    def test_either_side(self, tmp_path: Path, frames: tuple[int, int], modality: str, restores: bool) -> None:
        task = FolderTask(write_pairs(tmp_path, frames=frames))
        assert task.input_frames == (13 if frames[0] > 1 else 1)
        task = FolderTask(write_config(tmp_path, frames=5))
        assert (task.modality, task.restores) == (modality, restores)
        assert (task.input_frames, task.target_frames) == frames
        pair = pair_of(tmp_path)
        torch.testing.assert_close(pair.input, random_picture(0, frames[0]))
        torch.testing.assert_close(pair.native, 1 - random_picture(0, frames[1]))

    def test_videos(self, tmp_path: Path) -> None:
        for part in ("input", "target"):
            save_clip(random_picture(0, 15), tmp_path / f"a_{part}.mp4")
        task = FolderTask(tmp_path)
        scene = task.make_source("train", SIZE)[0]
        assert scene.rgb.shape == (3, 13, SIZE, SIZE)
        assert scene.target is not None
        assert torch.equal(scene.rgb, scene.target)

    def test_too_short(self, tmp_path: Path) -> None:
        write_pairs(tmp_path, frames=(5, 5))
        with pytest.raises(LavinditError, match="a_input has 5 frames, 13 are asked for"):
            pair_of(tmp_path)
        save_array(torch.rand(3, 4, SIZE, SIZE), tmp_path / "e_target.npy")
        write_half(tmp_path / "e_input", random_picture(0, 5))
        with pytest.raises(LavinditError, match=r"e_target\.npy has 4 frames, 5 are asked for"):
            pair_of(write_config(tmp_path, frames=5), 4)


class TestMetrics:
    def test_figures_whose_weights_are_missing_are_left_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(networks, "available", lambda name: name == "")
        monkeypatch.setattr("lavindit.task.folder.available", lambda name: name == "")
        figures = {"name": "pictures", "figures": ["lpips", "psnr"]}
        task = FolderTask(write_pairs(tmp_path, metrics=[figures]))
        assert [column.metric for column in task.columns] == ["psnr"]
        assert task.headline.metric == "psnr"
        assert task.make_metric().names == ("psnr",)
        task = FolderTask(write_config(tmp_path, metrics=["perceptual", "restoration"]))
        assert [column.metric for column in task.columns] == ["psnr", "ssim", "mse"]
        with pytest.raises(LavinditError, match=r"task\.yaml: metrics: .*"):
            FolderTask(write_config(tmp_path, metrics=["perceptual"]))

    def test_directions(self, tmp_path: Path) -> None:
        expected = {
            "identity": {"psnr": "max", "ssim": "max", "mse": "min"},
            "depth": {"abs_rel": "min", "delta1": "max", "rmse": "min"},
            "flow": {"epe": "min", "fl_all": "min"},
            "mask": {"miou": "max"},
        }
        write_pairs(tmp_path)
        for codec, directions in expected.items():
            task = FolderTask(write_config(tmp_path, codec=codec))
            assert {column.metric: column.direction for column in task.columns} == directions
            assert task.columns[0].headline

    def test_panoptic_knows_its_classes(self, tmp_path: Path) -> None:
        metric: Any = FolderTask(write_pairs(tmp_path, codec=PANOPTIC)).make_metric()
        assert (metric.things, metric.stuff) == ((5,), (1, 2))

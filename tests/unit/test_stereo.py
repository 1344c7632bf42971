"""The motorcycle's true depth, checked against the two pictures that it was measured from."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lavindit.data import bundled_photo, bundled_stereo, save_bundled_stereo
from lavindit.data.stereo import BASELINE_M, FOCAL_PX, PRINCIPAL_POINTS_PX, SIZE, depth_of_disparity
from lavindit.errors import LavinditError
from lavindit.pictures import load_picture, save_picture


def test_by_hand() -> None:
    depth_m = depth_of_disparity(torch.tensor([0.0, 40.0, -31.1, -40.0, float("nan"), float("inf")]))
    assert depth_m[:2].tolist() == pytest.approx([192.031749 / 31.086, 192.031749 / 71.086], abs=1e-5)
    assert bool(depth_m[2:].isnan().all())


def test_the_room_is_a_room() -> None:
    picture, depth_m = bundled_stereo()
    assert depth_m.dtype == torch.float32
    assert depth_m.shape == (1, 1, *SIZE)
    assert load_picture(picture).shape[2:] == SIZE
    known = depth_m[depth_m.isfinite()]
    assert 0.8 < known.numel() / depth_m.numel() < 1
    assert 1.5 < float(known.min()) < float(known.median()) < float(known.max()) < 6


def test_the_pictures_agree_where_it_says() -> None:
    """Each pixel of the left picture is seen as far left in the right one as its depth says; and nowhere else."""
    picture, depth_m = bundled_stereo()
    left, right = (load_picture(path)[:, 0] for path in (picture, bundled_photo("motorcycle_right.png")))
    disparity = FOCAL_PX * BASELINE_M / depth_m[0, 0] - PRINCIPAL_POINTS_PX
    rows, columns = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")

    def gap(shift: torch.Tensor) -> float:
        place = (columns - shift).round()
        seen = shift.isfinite() & (place >= 0) & (place < SIZE[1])
        found = right[:, rows[seen], place[seen].long()]
        return float((left[:, seen] - found).abs().mean())

    true = gap(disparity)
    assert true < 0.05
    for wrong in (-disparity, disparity + 5, disparity - 5, disparity * 1.2, disparity * 0):
        assert gap(wrong) > 1.4 * true


def test_written_for_the_command_line(tmp_path: Path) -> None:
    picture, depth = save_bundled_stereo(tmp_path / "new")
    assert [path.name for path in (picture, depth)] == ["motorcycle.png", "motorcycle_depth.npy"]
    stereo = bundled_stereo()
    assert torch.equal(load_picture(picture), load_picture(stereo.picture))
    assert np.array_equal(np.load(depth), stereo.depth_m[0].numpy(), equal_nan=True)


def test_another_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "motorcycle_disp.npz", np.zeros((5, 7)))
    save_picture(torch.zeros(3, 1, 5, 7), tmp_path / "motorcycle_left.png")
    monkeypatch.setattr("lavindit.data.stereo.bundled_photo", lambda name: tmp_path / name)
    with pytest.raises(LavinditError, match=r"\[5, 7\] pixels, its calibration of \[500, 741\]"):
        bundled_stereo()
    (tmp_path / "motorcycle_disp.npz").unlink()
    with pytest.raises(LavinditError, match="install scikit-image again"):
        bundled_stereo()

import io
import re
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from lavindit.errors import LavinditError
from lavindit.pictures import (
    Letterbox,
    Stretch,
    center_square,
    list_images,
    load_picture,
    resize,
    save_array,
    save_picture,
    stretch,
    truncate,
)


def smooth(height: int, width: int) -> Tensor:
    """A picture [3, 1, H, W] of slow waves, different along y and x and in each channel."""
    y, x = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)[None]
    waves = [torch.sin(2 * y + 3 * x + channel) for channel in range(3)]
    return 0.5 + 0.4 * torch.stack(waves)[:, None]


def encoded(kind: str, side: int = 16, **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, **options)
    return buffer.getvalue()


class TestLoad:
    def test_round_trip(self, tmp_path: Path) -> None:
        picture = (torch.rand(3, 1, 7, 5, generator=torch.Generator().manual_seed(0)) * 255).round() / 255
        save_picture(picture, tmp_path / "a.png")
        loaded = load_picture(tmp_path / "a.png")
        assert loaded.dtype == torch.float32
        assert torch.equal(loaded, picture)
        assert torch.equal(load_picture(str(tmp_path / "a.png")), picture)

    def test_gray_is_repeated(self, tmp_path: Path) -> None:
        Image.fromarray(np.array([[0, 51], [102, 255]], dtype=np.uint8)).save(tmp_path / "a.png")
        loaded = load_picture(tmp_path / "a.png")
        assert loaded.shape == (3, 1, 2, 2)
        torch.testing.assert_close(loaded[1, 0], torch.tensor([[0, 0.2], [0.4, 1.0]]))
        assert torch.equal(loaded[0], loaded[2])

    def test_transparency_lies_on_white(self, tmp_path: Path) -> None:
        image = Image.new("RGBA", (3, 1), (255, 0, 0, 255))
        image.putpixel((1, 0), (255, 0, 0, 0))
        image.putpixel((2, 0), (0, 0, 0, 51))
        image.save(tmp_path / "a.png")
        loaded = load_picture(tmp_path / "a.png")[:, 0, 0].T
        torch.testing.assert_close(loaded, torch.tensor([[1.0, 0, 0], [1, 1, 1], [0.8, 0.8, 0.8]]), rtol=0, atol=0.005)

    def test_palette_with_a_transparent_colour(self, tmp_path: Path) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([255, 0, 0, 0, 0, 255])
        image.putpixel((1, 0), 1)
        image.save(tmp_path / "a.png", transparency=0)
        assert load_picture(tmp_path / "a.png")[:, 0, 0].T.tolist() == [[1, 1, 1], [0, 0, 1]]

    def test_exif_orientation_is_applied(self, tmp_path: Path) -> None:
        image = Image.new("RGB", (32, 16), "black")
        image.paste("white", (0, 0, 16, 16))  # white on the left
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned a quarter clockwise
        image.save(tmp_path / "a.jpg", exif=exif)
        loaded = load_picture(tmp_path / "a.jpg")
        assert loaded.shape == (3, 1, 32, 16)
        assert float(loaded[:, :, :14].min()) > 0.9  # white on top
        assert float(loaded[:, :, 18:].max()) < 0.1

    @pytest.mark.parametrize("mode", ["CMYK", "1", "YCbCr"])
    def test_other_eight_bit_modes(self, tmp_path: Path, mode: str) -> None:
        Image.new("RGB", (4, 4), "white").convert(mode).save(tmp_path / "a.tif")
        assert (load_picture(tmp_path / "a.tif") > 0.98).all()

    def test_cmyk_of_a_photograph(self, tmp_path: Path) -> None:
        colours = np.array([[255, 0, 0], [0, 255, 0], [30, 60, 200]], dtype=np.uint8)
        pixels = colours.repeat(16, 0)[None].repeat(16, 0)
        Image.fromarray(pixels).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
        loaded = load_picture(tmp_path / "a.jpg")[:, 0, 8, 8::16].T * 255
        torch.testing.assert_close(loaded, torch.from_numpy(colours).float(), rtol=0, atol=12)

    def test_one_bit(self, tmp_path: Path) -> None:
        Image.fromarray(np.array([[0, 255], [255, 0]], dtype=np.uint8)).convert("1").save(tmp_path / "a.png")
        assert load_picture(tmp_path / "a.png")[1, 0].tolist() == [[0, 1], [1, 0]]

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_sixteen_bit_gray_is_a_share_of_65535(self, tmp_path: Path, suffix: str) -> None:
        values = np.array([[0, 1, 256], [32768, 65534, 65535]], dtype=np.uint16)
        Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
        loaded = load_picture(tmp_path / f"deep.{suffix}")
        assert loaded.shape == (3, 1, 2, 3)
        assert loaded.dtype == torch.float32
        for channel in loaded:
            torch.testing.assert_close(channel[0], torch.from_numpy(values.astype(np.float32)) / 65535)

    def test_sixteen_bit_gray_of_the_other_byte_order(self, tmp_path: Path) -> None:
        content = struct.pack(">2H", 65535, 256)
        Image.frombytes("I;16B", (2, 1), content).save(tmp_path / "a.tif")
        torch.testing.assert_close(load_picture(tmp_path / "a.tif")[0, 0, 0], torch.tensor([1.0, 256 / 65535]))

    def test_sixteen_bit_gray_is_turned_and_may_be_transparent(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        image = Image.fromarray(np.array([[100, 65535, 200]], dtype=np.uint16))
        image.save(tmp_path / "a.png", exif=exif, transparency=200)
        shades = load_picture(tmp_path / "a.png")[0, 0]
        torch.testing.assert_close(shades, torch.tensor([[100 / 65535], [1.0], [1.0]]))

    @pytest.mark.parametrize("mode", ["I", "F"])
    def test_thirty_two_bits_are_refused(self, tmp_path: Path, mode: str) -> None:
        Image.new(mode, (4, 4)).save(tmp_path / "deep.tif")
        message = rf"deep\.tif has 32-bit pixels \(mode {mode}\); give 8-bit RGB or 16-bit gray"
        with pytest.raises(LavinditError, match=message):
            load_picture(tmp_path / "deep.tif")


class TestDamaged:
    def test_missing_or_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(LavinditError, match=r"no such image: .*none\.png"):
            load_picture(tmp_path / "none.png")
        with pytest.raises(LavinditError, match="is a folder"):
            load_picture(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"no picture\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
    def test_no_image(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(content)
        with pytest.raises(LavinditError, match=r"cannot read .*a\.png as an image .*; replace or remove the file"):
            load_picture(path)

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM"])
    @pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
    def test_cut_short(self, tmp_path: Path, kind: str, share: float) -> None:
        content, path = encoded(kind, 64), tmp_path / "cut.img"
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(LavinditError, match=re.escape(str(path))):
            load_picture(path)

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "GIF"])
    def test_random_damage_is_read_or_told(self, tmp_path: Path, kind: str) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        content = encoded(kind, 8, **({"exif": exif} if kind in ("PNG", "JPEG", "WEBP", "TIFF") else {}))
        random, told = np.random.default_rng(0), 0
        for _ in range(150):
            spoilt = np.frombuffer(content, dtype=np.uint8).copy()
            places = random.integers(0, len(spoilt), 4)
            spoilt[places] = random.integers(0, 256, 4)
            (tmp_path / "a.img").write_bytes(spoilt.tobytes())
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    assert load_picture(tmp_path / "a.img").shape[0] == 3
            except LavinditError:
                told += 1
        assert told or kind in ("BMP", "TIFF", "PPM")


class TestSave:
    def test_leaves_nothing_half_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        for write in (save_picture, save_array):
            with pytest.raises(LavinditError, match=r"cannot write .*file/a"):
                write(torch.zeros(3, 1, 4, 4), tmp_path / "file" / "a.png")
        assert [path.name for path in tmp_path.iterdir()] == ["file"]
        assert (tmp_path / "file").read_text() == "mine"

    def test_array(self, tmp_path: Path) -> None:
        values = torch.arange(6.0).view(1, 1, 2, 3)
        save_array(values, tmp_path / "new" / "a.npy")
        assert np.array_equal(np.load(tmp_path / "new" / "a.npy"), values.numpy())


class TestLetterbox:
    @pytest.mark.parametrize("size", [(37, 91), (91, 37), (8, 8), (500, 741), (64, 64), (63, 65), (1, 300)])
    def test_there_and_back(self, size: tuple[int, int]) -> None:
        picture = smooth(*size)
        box = Letterbox(picture, 64)
        square = box.apply(picture)
        assert square.shape == (3, 1, 64, 64)
        back = box.undo(square)
        assert back.shape == picture.shape
        assert float((back - picture).abs().max()) < 0.03

    def test_its_own_size_is_untouched(self) -> None:
        picture = torch.rand(3, 1, 64, 64)
        box = Letterbox(picture, 64)
        assert torch.equal(box.apply(picture), picture)
        assert torch.equal(box.undo(picture), picture)

    def test_keeps_the_aspect_ratio_and_pads_with_the_edge(self) -> None:
        square = Letterbox(smooth(32, 128), 64).apply(smooth(32, 128))
        torch.testing.assert_close(square[:, :, 24:40], resize(smooth(32, 128), 16, 64))
        assert torch.equal(square[:, :, :24], square[:, :, 24:25].expand(3, 1, 24, 64))
        assert torch.equal(square[:, :, 40:], square[:, :, 39:40].expand(3, 1, 24, 64))


class TestStretch:
    @pytest.mark.parametrize("size", [(37, 91), (300, 41), (64, 64), (8, 8), (1, 5), (640, 480)])
    def test_equals_torchvision_on_uint8(self, size: tuple[int, int]) -> None:
        pixels = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        bicubic = v2.InterpolationMode.BICUBIC
        expected = v2.functional.resize(pixels, [64, 64], interpolation=bicubic, antialias=True)
        picture = pixels[:, None].float() / 255
        assert torch.equal(stretch(picture, 64), expected[:, None].float() / 255)
        clip = stretch(torch.cat([picture, 1 - picture], dim=1), 64)
        assert torch.equal(clip[:, :1], stretch(picture, 64))
        assert torch.equal(clip[:, 1:], stretch(1 - picture, 64))

    def test_values_outside_and_between(self) -> None:
        picture = torch.tensor([-1.0, 0.4 / 255, 0.6 / 255, 2.0]).view(1, 1, 1, 4).expand(3, 1, 4, 4)
        assert (stretch(picture, 4)[0, 0, 0] * 255).tolist() == [0, 0, 1, 255]

    def test_a_box_that_gives_nothing_back(self) -> None:
        box = Stretch(smooth(20, 50), 16)
        square = box.apply(smooth(20, 50))
        assert square.shape == (3, 1, 16, 16)
        assert box.inside().all()
        assert box.undo(square) is square


def test_truncate_rounds_down_and_a_file_keeps_it(tmp_path: Path) -> None:
    values = torch.cat([torch.linspace(0, 1, 997), torch.tensor([1.0, -0.1, 1.1])])
    picture = values.view(1, 1, 20, 50).expand(3, 1, 20, 50)
    cut = truncate(picture)
    assert torch.equal(cut, (picture.clamp(0, 1) * 255.0).to(torch.uint8).float() / 255)
    assert float((picture.clamp(0, 1) - cut).max()) < 1 / 255
    save_picture(cut, tmp_path / "a.png")
    assert torch.equal(load_picture(tmp_path / "a.png"), cut)
    assert (truncate(torch.full((3, 1, 1, 1), torch.nan)) == 0).all()


def test_center_square() -> None:
    picture = torch.zeros(3, 1, 16, 40)
    picture[..., 12:28] = 1
    assert torch.equal(center_square(picture, 16), torch.ones(3, 1, 16, 16))
    assert center_square(picture, 8).shape == (3, 1, 8, 8)


def test_list_images(tmp_path: Path) -> None:
    for name in ("b.png", "sub/a.JPG", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["b.png", "a.JPG"]
    with pytest.raises(LavinditError, match="no such folder"):
        list_images(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LavinditError, match=r"no images in .*empty"):
        list_images(tmp_path / "empty")

"""Principal components of blocks, against singular values and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from lavindit.errors import LavinditError
from lavindit.inference.block_pca import VALUES, BlockMoments, BlockPCA, to_blocks
from lavindit.metrics.functional.pictures import psnr_db


def make_pictures(count: int, frames: int = 1, seed: int = 0) -> list[Tensor]:
    """Smooth pictures, so that a few components hold most of a block, and rough enough for all to be distinct."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3 * frames, 5, 6, generator=g)
    smooth = torch.nn.functional.interpolate(coarse, (32, 40), mode="bicubic")
    rough = 0.05 * torch.rand(smooth.shape, generator=g)
    return list((0.2 + 0.5 * smooth + rough).unflatten(1, (3, frames)))


def moments_of(pictures: list[Tensor]) -> BlockMoments:
    return sum((BlockMoments.of(picture) for picture in pictures), BlockMoments.none())


def by_hand(picture: Tensor) -> np.ndarray:
    """Blocks [n, 192], cut with slices."""
    return np.stack(
        [
            picture[:, t, y : y + 8, x : x + 8].double().numpy().ravel()
            for t in range(picture.shape[1])
            for y in range(0, picture.shape[2], 8)
            for x in range(0, picture.shape[3], 8)
        ]
    )


def test_blocks_are_those_of_slices() -> None:
    (picture,) = make_pictures(1, frames=2)
    np.testing.assert_array_equal(to_blocks(picture).reshape(-1, VALUES).numpy(), by_hand(picture))


@pytest.mark.parametrize("components", [1, 16, 100])
def test_components_against_svd_and_sklearn(components: int) -> None:
    pictures = make_pictures(20)
    blocks = np.concatenate([by_hand(picture) for picture in pictures])
    fitted = BlockPCA.fit(moments_of(pictures), components)
    _, _, rows = np.linalg.svd(blocks - blocks.mean(0), full_matrices=False)
    span = fitted.components.T @ fitted.components  # components are defined up to their sign
    np.testing.assert_allclose(span.numpy(), rows[:components].T @ rows[:components], atol=1e-8)
    (test,) = make_pictures(1, seed=1)
    model = PCA(components, svd_solver="full").fit(blocks)
    expected = model.inverse_transform(model.transform(by_hand(test))).clip(0, 1)
    np.testing.assert_allclose(by_hand(fitted.reconstruct(test)), expected, atol=1e-7)


def test_more_components_keep_more_and_all_keep_everything() -> None:
    moments, (test,) = moments_of(make_pictures(20)), make_pictures(1, frames=3, seed=1)
    everywhere = torch.ones_like(test[:1], dtype=torch.bool)
    rebuilt = [BlockPCA.fit(moments, components).reconstruct(test) for components in (1, 4, 16, VALUES, 1000)]
    assert all(r.shape == test.shape and r.dtype == torch.float32 for r in rebuilt)
    psnr = [float(psnr_db(r, test, everywhere)) for r in rebuilt]
    assert psnr[0] < psnr[1] < psnr[2] < psnr[3] == psnr[4] == 100
    torch.testing.assert_close(rebuilt[3], test)


def test_moments_add_up_and_can_be_weighted() -> None:
    one, other = make_pictures(2)
    twice = moments_of([one, one, other])
    weighted = BlockMoments.of(one).scaled(2) + BlockMoments.of(other)
    torch.testing.assert_close(twice.total, weighted.total)
    torch.testing.assert_close(twice.products, weighted.products)
    assert twice.count == weighted.count == 3 * 20


def test_no_picture_is_refused() -> None:
    with pytest.raises(LavinditError, match="at least one picture"):
        BlockPCA.fit(BlockMoments.none(), 16)

"""Strong colours change what is seen, never where it is, and say what they cut out."""

import pytest
import torch

from pointcover.training.semi_supervised.settings import ConsistencySettings
from pointcover.training.semi_supervised.strong_augmentation import strengthen


def strength(colour_jitter=0.0, blur_px=0.0, cutout=0.0):
    return ConsistencySettings(
        weight=1, threshold=0.9, colour_jitter=colour_jitter, blur_px=blur_px, cutout=cutout
    )


STRONG = strength(0.3, 2, 0.5)


def images(bands=3):
    g = torch.Generator().manual_seed(1)
    return torch.randint(60, 200, (3, bands, 24, 16), generator=g, dtype=torch.uint8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("bands", [1, 3, 6])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_shape_and_type_stay_and_the_same_seed_gives_the_same(bands, dtype):
    before = images(bands).to(dtype)
    out, kept = strengthen(before, seeded(), STRONG)
    again, _ = strengthen(before, seeded(), STRONG)
    other, _ = strengthen(before, seeded(1), STRONG)
    assert (out.shape, out.dtype, kept.shape) == (before.shape, dtype, (3, 24, 16))
    assert torch.equal(before, images(bands).to(dtype))
    assert torch.equal(out, again)
    assert not torch.equal(out, other)


def test_without_any_strength_images_stay():
    out, kept = strengthen(images(), seeded(), strength())
    assert torch.equal(out, images())
    assert kept.all()


@pytest.mark.parametrize("part", ["colour_jitter", "blur_px"])
def test_every_part_changes_each_image_its_own_way(part):
    one = images()[:1].expand(3, -1, -1, -1)
    out, kept = strengthen(one, seeded(), strength(**{part: 0.9}))
    assert kept.all()
    assert not torch.equal(out[0], out[1])
    assert all(not torch.equal(out[i], one[i]) for i in range(3))


def test_what_is_cut_out_is_one_rectangle_of_one_colour_and_the_rest_stays():
    out, kept = strengthen(images(), seeded(), strength(cutout=0.8))
    for image, before, seen in zip(out, images(), kept, strict=True):
        rows, columns = torch.nonzero(~seen, as_tuple=True)
        height, width = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
        assert len(rows) == height * width
        assert len(image[:, ~seen].unique()) == 1
        assert torch.equal(image[:, seen], before[:, seen])


def test_a_blur_moves_nothing():
    spot = torch.zeros(1, 1, 21, 21)
    spot[..., 8, 12] = 255
    out, _ = strengthen(spot, seeded(), strength(blur_px=2))
    assert divmod(int(out.argmax()), 21) == (8, 12)
    assert out.sum().item() == pytest.approx(255, rel=1e-3)
    torch.testing.assert_close(out[0, 0, 8, 9:16], out[0, 0, 8, 9:16].flip(0))


def test_strengths_out_of_bounds_are_refused():
    with pytest.raises(ValueError, match=r"cutout"):
        strength(cutout=1.5)

"""Run-length encoded masks decode to what their tools made, and hostile ones are refused."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pointcover.raster.raster_io import Window
from pointcover.vectors.rasterize import rasterize_shapes
from pointcover.vectors.run_lengths import coco_counts, decode_brush, decode_counts, trace_mask

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12))


def small():
    """Return the mask of the texts below."""
    mask = np.zeros((6, 9), bool)
    mask[1:4, 2:7] = True
    mask[5, 8] = True
    return mask


def framed():
    """Return a mask of long runs with a hole, whose differences are negative too."""
    mask = np.zeros((40, 30), bool)
    mask[5:35, 2:27] = True
    mask[10:13, 4:6] = False
    return mask


BY_LABEL_STUDIO = [
    *(0, 0, 0, 216, 57, 27, 254, 43, 0, 194, 127, 247, 192, 48, 159, 253, 240, 12, 39, 255),
    *(146, 192, 35, 255, 0),
]
"""Of `small`, by the converter of label-studio-sdk 2.1.2."""


def runs(flat):
    """Encode values as the lengths of runs, beginning with those outside."""
    counts, inside, length = [], False, 0
    for value in flat:
        if value != inside:
            counts.append(length)
            inside, length = not inside, 0
        length += 1
    return [*counts, length]


def compress(counts):
    """Encode run lengths as COCO's text, after its specification."""
    text = ""
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        while True:
            group = value & 31
            value >>= 5
            more = value != (-1 if group & 16 else 0)
            text += chr(48 + group + (32 if more else 0))
            if not more:
                break
    return text


def pack(values, word_size, sizes, literal):
    """Encode values as Label Studio does: each run in the smallest size, or all as they are."""
    bits = f"{len(values):032b}{word_size - 1:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    place = 0
    while place < len(values):
        end = place + 1
        longest = min(place + (1 << max(sizes)), len(values))
        while end < longest and (literal or values[end] == values[place]):
            end += 1
        number = next(n for n, size in enumerate(sizes) if end - place - 1 < 1 << size)
        bits += f"{'0' if literal else '1'}{number:02b}{end - place - 1:0{sizes[number]}b}"
        shown = values[place:end] if literal else values[place : place + 1]
        bits += "".join(f"{value:0{word_size}b}" for value in shown)
        place = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (small, "=330000000:N"),
        (framed, "e2n0:00WOIa07_OIa0780000000000000000000000000000000000000000c3"),
    ],
)
def test_texts_of_pycocotools_decode_to_its_masks(make, text):
    mask = make()
    np.testing.assert_array_equal(decode_counts(coco_counts(text), *mask.shape, "F"), mask)


@given(MASKS)
def test_coco_masks_go_down_the_columns(mask):
    counts = runs(mask.ravel("F"))
    np.testing.assert_array_equal(decode_counts(counts, *mask.shape, "F"), mask)
    assert coco_counts(compress(counts)) == counts


@given(MASKS)
def test_cvat_masks_go_along_the_rows(mask):
    np.testing.assert_array_equal(decode_counts(runs(mask.ravel()), *mask.shape, "C"), mask)


def test_a_brush_of_label_studio_decodes_to_its_mask():
    np.testing.assert_array_equal(decode_brush(BY_LABEL_STUDIO, 6, 9), small())


@given(arrays(np.uint8, (3, 4, 4)), st.booleans(), st.sampled_from([(1, 2, 3, 5), (4, 4, 6, 16)]))
def test_the_alpha_of_a_brush_says_where_it_was(rgba, literal, sizes):
    rle = pack(rgba.ravel().tolist(), 8, sizes, literal)
    np.testing.assert_array_equal(decode_brush(rle, 3, 4), rgba[:, :, 3] > 0)


@given(arrays(np.uint8, (2, 3, 4), elements=st.integers(0, 7)), st.booleans())
def test_the_values_of_a_brush_may_have_few_bits(rgba, literal):
    rle = pack(rgba.ravel().tolist(), 3, (2, 3, 4, 5), literal)
    np.testing.assert_array_equal(decode_brush(rle, 2, 3), rgba[:, :, 3] > 0)


@given(MASKS.filter(np.any), st.booleans(), st.integers(0, 5))
def test_a_traced_mask_covers_its_pixels_and_no_other(mask, all_touched, left):
    shape = trace_mask(mask, left, 2)
    assert shapely.is_valid(shape)
    height, width = mask.shape
    drawn = rasterize_shapes(
        [(shape, 1)], Window(0, 0, width + 8, height + 5), all_touched=all_touched
    )
    wanted = np.zeros((height + 5, width + 8), bool)
    wanted[2 : height + 2, left : left + width] = mask
    np.testing.assert_array_equal(drawn > 0, wanted)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([3, 4], "add up to 7 px, wanted 2 × 3"),
        ([], "add up to 0 px, wanted 2 × 3"),
        ([7, -1], "must be from 0 to 6"),
        ([10**17], "must be from 0 to 6"),
        ([10**30], "are not whole numbers"),
        (["x"], "are not whole numbers"),
        ([[1, 2], [3]], "are not whole numbers"),
        ([[6]], "must be from 0 to 6"),
    ],
)
def test_run_lengths_that_do_not_fit_are_refused(counts, said):
    with pytest.raises(ValueError, match=said):
        decode_counts(counts, 2, 3, "F")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a b", "character 1 is ' '"),
        ("é", "character 0"),
        ("o" * 10**6, "is no compressed RLE"),  # a number of millions of bits
        ("P" * 10**6, "is no compressed RLE"),
        ("1P", "ends within a number"),
    ],
)
def test_a_text_that_is_no_compressed_mask_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        coco_counts(text)


@pytest.mark.parametrize(
    ("rle", "said"),
    [
        ([], "ends too early"),
        (BY_LABEL_STUDIO[:-3], "ends too early"),
        ([255, 255, 255, 255, *BY_LABEL_STUDIO[4:]], "is of 4294967295 values, wanted 216"),
        ([256], "whole numbers from 0 to 255"),
        ([-1], "whole numbers from 0 to 255"),
    ],
)
def test_a_brush_of_another_size_or_cut_short_is_refused(rle, said):
    with pytest.raises(ValueError, match=said):
        decode_brush(rle, 6, 9)


def test_a_brush_that_runs_over_its_end_is_refused():
    whole = pack([0] * 24, 8, (2, 3, 4, 16), literal=False)
    bits = "".join(f"{byte:08b}" for byte in whole)
    longer = bits[:53] + "1" + "11" + f"{100:016b}" + "0" * 8 + "0" * 16
    rle = [int(longer[at : at + 8], 2) for at in range(0, len(longer) // 8 * 8, 8)]
    with pytest.raises(ValueError, match="has more than 24 values"):
        decode_brush(rle, 2, 3)


def test_an_empty_mask_is_refused():
    with pytest.raises(ValueError, match="the mask is empty"):
        trace_mask(np.zeros((2, 2), bool))

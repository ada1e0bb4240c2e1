"""Cut an orthophoto and its mask into tiles: tiled GeoTIFFs, one block a tile."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pointcover.datasets.card import DatasetCard, Pair
from pointcover.labels import (
    IGNORE_INDEX,
    SPLITS,
    Image,
    Mask,
    Split,
    UnknownValues,
    count_pixels,
    count_values,
    ids_from_colours,
    ids_from_values,
)
from pointcover.raster.grids import check_same_grid, gsd_of, is_local, name_local
from pointcover.raster.raster_io import (
    CRS,
    EIGHT_BIT,
    BlockWriter,
    GeoTiffProfile,
    RasterInfo,
    RasterReader,
    Window,
    unwritten_error,
    write_geotiff,
    write_mask,
)
from pointcover.raster.scaling import ValueRange, check_values
from pointcover.runtime.parallel import one_ahead
from pointcover.tileset.source_images import SourceImage
from pointcover.tileset.tiles import GSD_TOLERANCE, Tile, raster_path
from pointcover.tiling.settings import TileSettings


@dataclass
class Statistics:
    """Histograms of the values of pixels with data, by band, for mean and standard deviation.

    Counts of the 256 values are exact in any order of tiles. They are also fast: sums of squares in
    float64 took half of the time of tiling.
    """

    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 256), np.int64))
    """(bands, 256)."""

    def add(self, image: Image, valid: npt.NDArray[np.bool_]) -> None:
        """Count the valid pixels of a (bands, H, W) image."""
        values = image if valid.all() else image[:, valid]
        if not len(self.counts):
            self.counts = np.zeros((len(image), 256), np.int64)
        self.counts += np.stack([count_values(band) for band in values])

    def include(self, other: "Statistics") -> None:
        """Add the counts of other statistics."""
        if not len(self.counts):
            self.counts = np.zeros_like(other.counts)
        if len(other.counts):
            self.counts += other.counts

    def mean(self) -> tuple[float, ...]:
        """Return the mean by band, in units of the tiles (0 to 255).

        Raises:
            ValueError: nothing was counted.
        """
        if not self.counts.any():
            raise ValueError(
                "no pixel of the train split holds data: correct `split` in the card, or the "
                "images' nodata"
            )
        totals = self.counts @ np.arange(256)
        return tuple(float(total) for total in totals / self.counts.sum(axis=1))

    def std(self) -> tuple[float, ...]:
        """Return the standard deviation by band; 1 for a constant band, as it is a divisor."""
        distances = np.square(np.arange(256) - np.array(self.mean())[:, np.newaxis])
        variances = (self.counts * distances).sum(axis=1) / self.counts.sum(axis=1)
        return tuple(float(value) if value > 0 else 1.0 for value in np.sqrt(variances))


@dataclass
class Cutting:
    """The tiles and statistics of orthophotos that were cut."""

    tiles: list[Tile] = field(default_factory=list)
    left_out: int = 0
    """Tiles on none of the published lists."""
    constant: list[str] = field(default_factory=list)
    """Tiles whose image is constant, as missing blocks are."""
    train: Statistics = field(default_factory=Statistics)
    gsd_by_orthophoto_m: dict[str, float] = field(default_factory=dict)
    """GSD of the orthophotos for which it is known."""
    no_data: dict[str, float] = field(default_factory=dict)
    """Fraction of the pixels without data, of the orthophotos that have some."""
    warnings: list[str] = field(default_factory=list)
    """Messages to the user about bands that are declared alpha, places, values and masks."""
    images: list[SourceImage] = field(default_factory=list)
    """As the files are, of orthophotos with tiles."""

    @property
    def gsds_m(self) -> set[float]:
        """Every GSD that occurs."""
        return set(self.gsd_by_orthophoto_m.values())

    def include(self, other: "Cutting") -> None:
        """Add the tiles and statistics of further orthophotos."""
        self.tiles += other.tiles
        self.left_out += other.left_out
        self.constant += other.constant
        self.train.include(other.train)
        self.gsd_by_orthophoto_m |= other.gsd_by_orthophoto_m
        self.no_data |= other.no_data
        self.warnings += other.warnings
        self.images += other.images

    def summary(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the number of tiles, their area and the fraction of each class, by split."""
        summary: dict[str, Any] = {}
        for split in SPLITS:
            tiles = [tile for tile in self.tiles if tile.split == split]
            labelled = np.sum([tile.pixels for tile in tiles], axis=0, dtype=np.int64)
            labelled = np.broadcast_to(labelled, len(names))
            pixels = sum(tile.height * tile.width for tile in tiles)
            total = int(labelled.sum())
            summary[split] = {
                "tiles": len(tiles),
                "regions": len({tile.region for tile in tiles}),
                "megapixels": round(pixels / 1e6, 3),
                "km2": self._area_km2(tiles),
                "labelled_fraction": round(total / pixels, 6) if pixels else 0,
                "class_fraction": {
                    name: round(int(count) / total, 6) if total else 0
                    for name, count in zip(names, labelled, strict=True)
                },
            }
        return summary | {
            "tiles_left_out": self.left_out,
            "tiles_of_one_value": len(self.constant),
            "no_data_fraction": self.no_data,
        }

    def _area_km2(self, tiles: Sequence[Tile]) -> float | None:
        """Add up the area of tiles on the ground; None where the GSD of one is not known."""
        gsds_m = [self.gsd_by_orthophoto_m.get(tile.orthophoto) for tile in tiles]
        if None in gsds_m:
            return None
        areas = [
            tile.height * tile.width * gsd_m**2
            for tile, gsd_m in zip(tiles, gsds_m, strict=True)
            if gsd_m
        ]
        return round(sum(areas) / 1e6, 6)


@dataclass(frozen=True)
class CuttingPlan:
    """How the orthophotos of a dataset are cut."""

    card: DatasetCard
    source: Path
    """The folder that the paths of pairs are relative to."""
    out: Path
    """The folder of the tile set."""
    splits: Mapping[str, Split]
    """By region, or by tile id: `<orthophoto>_<k>`, k counted row by row over cells of the
    source's pixels, of which those at an edge may be partial."""
    settings: TileSettings


def try_to_cut(plan: CuttingPlan, pair: Pair) -> Cutting | str:
    """Cut one orthophoto, or return its error, so that all errors are reported together.

    Raises:
        OSError: the disk is full.
    """
    try:
        return cut_orthophoto(plan, pair)
    except (ValueError, FileNotFoundError) as fault:
        return str(fault)


def cut_orthophoto(plan: CuttingPlan, pair: Pair) -> Cutting:
    """Rewrite one orthophoto and its mask as blocks below out/images and out/masks.

    Raises:
        ValueError: the image or mask is damaged, they do not fit each other, a colour or id
            is unknown, or no pixel is labelled.
    """
    size_px, downsample = plan.settings.size_px, plan.settings.downsample
    reader = PairReader(plan, pair)
    classes, cutting = plan.card.class_table(), Cutting(warnings=reader.warnings)
    pixels = empty = 0
    # Cells at the edge that have no pixel after downsampling are counted too: so the tiles of a
    # published list have the same numbers at any resolution.
    columns = math.ceil(reader.source_width / (size_px * downsample))
    with ExitStack() as stack:
        writers: dict[str, tuple[BlockWriter, BlockWriter]] = {}
        for block in reader.blocks():
            window = block.window
            row, col = window.row_off // size_px, window.col_off // size_px
            tile_id = f"{pair.name}_{row * columns + col}"
            split = plan.splits.get(pair.region) or plan.splits.get(tile_id)
            if split is None:
                cutting.left_out += 1
                continue
            if split not in writers:
                image_writer, mask_writer = _open_writers(plan, reader.grid, split, pair.name)
                writers[split] = (
                    stack.enter_context(image_writer),
                    stack.enter_context(mask_writer),
                )
            writers[split][0].write(block.image, window)
            writers[split][1].write(block.mask[np.newaxis], window)
            cutting.tiles.append(
                Tile(
                    tile_id,
                    pair.name,
                    pair.region,
                    split,
                    int(window.row_off),
                    int(window.col_off),
                    int(window.height),
                    int(window.width),
                    count_pixels(block.mask, len(classes)),
                )
            )
            pixels += block.valid.size
            empty += block.valid.size - int(np.count_nonzero(block.valid))
            # Most tiles are not constant in their first row, which is tested first.
            first = block.image[:, :1, :1]
            if all((part == first).all() for part in (block.image[:, :1], block.image)):
                cutting.constant.append(tile_id)
            if split == "train":
                cutting.train.add(block.image, block.valid)
        if pair.mask and cutting.tiles and not any(sum(tile.pixels) for tile in cutting.tiles):
            raise ValueError(
                f"{plan.source / pair.mask} labels no pixel: all are {_unlabelled(plan.card)}, "
                f"transparent, or outside the image's data. Leave the pair out, or correct the "
                f"card's `classes`"
            )
    if cutting.tiles:
        cutting.images.append(reader.source)
    if empty:
        cutting.no_data[pair.name] = round(empty / pixels, 6)
    card_gsd_m = plan.card.gsd_m * downsample if plan.card.gsd_m else None
    gsd_m = gsd_of(reader.grid) or card_gsd_m
    if gsd_m and card_gsd_m and not 1 / GSD_TOLERANCE <= gsd_m / card_gsd_m <= GSD_TOLERANCE:
        cutting.warnings.append(
            f"{plan.source / pair.image} has a GSD of {gsd_m / downsample:.4g} m by its CRS, which "
            f"is used, and {plan.card.gsd_m:g} m by `gsd_m` in the card: correct the wrong one"
        )
    if gsd_m:
        cutting.gsd_by_orthophoto_m[pair.name] = round(gsd_m, 4)
    return cutting


def _open_writers(
    plan: CuttingPlan, grid: RasterInfo, split: str, orthophoto: str
) -> tuple[AbstractContextManager[BlockWriter], AbstractContextManager[BlockWriter]]:
    """Make the writers of the image and the mask of an orthophoto in one split."""
    size_px = plan.settings.size_px
    profile = GeoTiffProfile(
        height=grid.height,
        width=grid.width,
        bands=len(plan.card.bands),
        block_px=size_px,
        crs=grid.crs,
        transform=grid.transform,
    )
    image = write_geotiff(raster_path(plan.out / "images", split, orthophoto), profile)
    path = raster_path(plan.out / "masks", split, orthophoto)
    return image, write_mask(path, like=grid, block_px=size_px, classes=plan.card.class_table())


def _unlabelled(card: DatasetCard) -> str:
    return ", ".join(str(value) for value in card.ignore) or "unlabelled"


def _common_grid(
    image: RasterInfo, mask: RasterInfo, card: DatasetCard, downsample: int
) -> RasterInfo:
    """Check that a pair fits together and to the card, and return the grid of its tiles."""
    check_same_grid(image, mask)
    if max(card.bands) > image.bands:
        raise ValueError(
            f"{image.path} has {image.bands} band(s), but the card names bands "
            f"{list(card.bands)}: correct `bands` in the card"
        )
    image.check_brightness()
    if image.dtype == "uint8" and card.value_range is not None and card.value_range[1] > 255:
        raise ValueError(
            f"{image.path} holds uint8, but `value_range` in the card is "
            f"{list(card.value_range)}, which makes it nearly black: use images of one type, or "
            f"leave it out (`leave_out`)"
        )
    if image.dtype != "uint8" and card.value_range is None:
        raise ValueError(
            f"{image.path} holds {image.dtype}, not uint8: state with `value_range: [low, high]` "
            f"in the card which values become 0 and 255 ([0, 255] if the values are 8-bit)"
        )
    if min(image.height, image.width) < downsample:
        raise ValueError(f"{image.path} is smaller than tile.downsample ({downsample} px)")
    placed = image if image.is_georeferenced else mask
    place = placed.transform
    if placed.is_georeferenced:
        place = place @ type(place).scale(downsample)
    return RasterInfo(
        path=image.path,
        height=image.height // downsample,
        width=image.width // downsample,
        bands=image.bands,
        dtype="uint8",
        crs=_common_crs(image, mask),
        transform=place,
        has_palette=False,
    )


def _warn_of_values(reader: RasterReader, card: DatasetCard) -> list[str]:
    """Return messages about blocks that were never written, and values outside the range."""
    how = ("by `value_range` in the card", "correct it, or leave the image out (`leave_out`)")
    warnings = check_values(reader, card.bands, ValueRange(*(card.value_range or EIGHT_BIT), *how))
    if missing := reader.missing_blocks(card.bands):
        fraction = missing.fraction(reader.dataset.height, reader.dataset.width)
        warnings.append(
            f"{reader.path}: blocks with {fraction:.1%} of its pixels were never written, and hold "
            f"no data. If they should hold data, copy the image again"
        )
    return warnings


def _common_crs(image: RasterInfo, mask: RasterInfo) -> CRS | None:
    """Return the CRS of a pair, rather one of the Earth."""
    found = [info.crs for info in (image, mask) if info.crs]
    return next((crs for crs in found if not is_local(crs)), found[0] if found else None)


def _warn_of_place(image: RasterInfo, mask: RasterInfo) -> list[str]:
    """Return messages about what places a pair; the same one for many pairs is logged once."""
    names = {name_local(info.crs) for info in (image, mask) if info.crs and is_local(info.crs)}
    warnings = [
        f"images or masks have the CRS {name!r}, which has no place on the Earth, and counts as "
        f"none: assign theirs (`gdal_edit.py -a_srs EPSG:<code>`) if they are to be placed"
        for name in sorted(names)
    ]
    is_placed = image.is_georeferenced or mask.is_georeferenced
    if image.warp_advice and (image.placed_by or not is_placed):
        warnings.append(image.warp_advice)
    return warnings


class Block(NamedTuple):
    """A tile as it is cut.

    Attributes:
        window: on the tiles' grid.
        image: (bands, H, W) uint8.
        mask: dense mask, (H, W) uint8.
        valid: where the image has data, (H, W) bool.
    """

    window: Window
    image: Image
    mask: Mask
    valid: npt.NDArray[np.bool_]


class PairReader:
    """Reads an orthophoto and its dense mask tile by tile."""

    def __init__(self, plan: CuttingPlan, pair: Pair) -> None:
        """Check that the image and the mask fit together and to the card.

        Raises:
            ValueError: they do not, or one of them is damaged.
        """
        self._card, self._settings = plan.card, plan.settings
        self._images = RasterReader(plan.source / pair.image)
        self._masks = RasterReader(plan.source / pair.mask) if pair.mask else None
        info = self._images.info()
        mask_info = self._masks.info() if self._masks else info
        self.source_width = info.width
        """Of the orthophoto, before downsampling."""
        self.source = SourceImage(
            pair.name,
            pair.image,
            info.height,
            info.width,
            plan.settings.downsample,
            is_placed=any(i.crs or i.is_georeferenced for i in (info, mask_info)),
        )
        self.grid = _common_grid(info, mask_info, plan.card, plan.settings.downsample)
        """Of the tiles, after downsampling."""
        self.warnings = self._images.warn_of_alpha(plan.card.bands, "`bands` in the card")
        """About bands that are declared alpha, the place of the pair, and its values."""
        self.warnings += _warn_of_place(info, mask_info)
        self.warnings += _warn_of_values(self._images, plan.card)
        if self._masks:
            self._masks.check_unscaled()
            _check_written(self._masks, plan.card)

    def blocks(self) -> Iterator[Block]:
        """Read the pair tile by tile.

        While the tiles of one row are written, a thread reads, decodes and cuts the next row.
        """
        with closing(one_ahead(self._rows())) as rows:
            for row in rows:
                yield from row

    def _rows(self) -> Iterator[list[Block]]:
        """Read the pair by whole rows of tiles, and cut each row."""
        card, grid = self._card, self.grid
        size_px, downsample = self._settings.size_px, self._settings.downsample
        for top in range(0, grid.height, size_px):
            height = min(size_px, grid.height - top)
            strip = Window(0, top * downsample, grid.width * downsample, height * downsample)
            image, valid = self._images.read_scaled(
                strip, card.bands, card.value_range or EIGHT_BIT
            )
            mask = np.full(valid.shape, IGNORE_INDEX, np.uint8)
            if self._masks:
                try:
                    mask = _read_mask(self._masks, strip, card)
                except UnknownValues as error:
                    raise self._count_unknown(self._masks, error) from None
            if not valid.all():
                mask[~valid] = IGNORE_INDEX
            if downsample > 1:
                image, mask = shrink_image(image, downsample), shrink_mask(mask, downsample)
                valid = shrink_mask(valid.astype(np.uint8), downsample).astype(bool)
                # A block with data in at most half of its pixels has none, in image and mask.
                image[:, ~valid], mask[~valid] = 0, IGNORE_INDEX
            row = []
            for left in range(0, grid.width, size_px):
                columns = slice(left, left + size_px)
                window = Window(left, top, min(size_px, grid.width - left), height)
                tile = np.ascontiguousarray(image[:, :, columns])
                row.append(
                    Block(window, tile, np.ascontiguousarray(mask[:, columns]), valid[:, columns])
                )
            yield row

    def _count_unknown(self, masks: RasterReader, first: UnknownValues) -> UnknownValues:
        """Return the error of all unknown values of the mask, of which a part has some."""
        size_px, downsample = self._settings.size_px, self._settings.downsample
        counts: Counter[str] = Counter()
        for top in range(0, self.grid.height, size_px):
            height = min(size_px, self.grid.height - top)
            strip = Window(0, top * downsample, self.grid.width * downsample, height * downsample)
            try:
                _read_mask(masks, strip, self._card)
            except UnknownValues as error:
                counts.update(error.counts)
        return UnknownValues(first.kind, counts, first.known, f"{masks.path}: ")


def _read_mask(reader: RasterReader, window: Window, card: DatasetCard) -> Mask:
    """Read a dense mask as class ids, from colours or numbers.

    Raises:
        UnknownValues: a colour or number is not in the card; the message names the file.
        ValueError: the mask cannot be read otherwise; the message names the file and rows.
    """
    try:
        has_colours = card.mask_values == "colours"
        values = reader.read_rgb(window) if has_colours else _read_numbers(reader, window)
        hidden = reader.read_hidden(window, has_colours=has_colours)
        hidden |= _find_nan(reader, values, hidden, card)
        if hidden.all():
            return np.full(hidden.shape, IGNORE_INDEX, np.uint8)
        if hidden.any():  # where the numbers may be any
            values[:, hidden] = values[:, ~hidden][:, :1]
        values = _levels(values, card)
        mask = (
            ids_from_colours(values, card.colour_ids())
            if has_colours
            else _ids_of_numbers(reader, values, card)
        )
        mask[hidden] = IGNORE_INDEX
        return mask
    except UnknownValues as error:
        where = f"{reader.path}: "
        raise UnknownValues(error.kind, error.counts, error.known, where) from None
    except ValueError as error:
        if str(reader.path) in str(error):
            raise
        rows = f"rows {int(window.row_off)} to {int(window.row_off + window.height)}"
        raise ValueError(f"{reader.path} ({rows}): {error}") from None


def _check_written(reader: RasterReader, card: DatasetCard) -> None:
    """Check that blocks of a mask that were never written mean unlabelled.

    Raises:
        ValueError: they would be read as a class.
    """
    window = reader.unwritten_window()
    if window is None:
        return
    ids = _read_mask(reader, window, card)
    if (ids != IGNORE_INDEX).any():
        name = card.class_table().names[int(ids.min())]
        raise unwritten_error(reader.path, window, f"class {name!r}")


def _read_numbers(reader: RasterReader, window: Window) -> npt.NDArray[Any]:
    """Read the bands of a mask of numbers, without those that make pixels transparent."""
    alpha = reader.hiding_bands()
    return reader.read(window, [band for band in reader.dataset.indexes if band not in alpha])


def _ids_of_numbers(reader: RasterReader, values: npt.NDArray[Any], card: DatasetCard) -> Mask:
    """Return the class ids of (bands, H, W) numbers, which must agree."""
    if len(values) > 1 and (values != values[0]).any():
        raise ValueError(
            "the bands differ, wanted one band of ids (or `mask_values: colours` in the card)"
        )
    ids, nodata = card.value_ids(), reader.dataset.nodata
    if nodata is not None and float(nodata).is_integer():
        ids.setdefault(int(nodata), IGNORE_INDEX)
    return ids_from_values(values[0], ids)


def _find_nan(
    reader: RasterReader, values: npt.NDArray[Any], hidden: npt.NDArray[np.bool_], card: DatasetCard
) -> npt.NDArray[np.bool_]:
    """Return (H, W) bool: where a mask is NaN in a band, and not hidden.

    Raises:
        ValueError: NaN is neither in the card's `ignore` nor the mask's nodata value.
    """
    if not np.issubdtype(values.dtype, np.floating):
        return np.zeros(values.shape[1:], bool)
    empty: npt.NDArray[np.bool_] = np.isnan(values).any(axis=0) & ~hidden
    nodata = reader.dataset.nodata
    if empty.any() and not card.ignores_nan and not (nodata is not None and math.isnan(nodata)):
        raise ValueError(
            f"{np.count_nonzero(empty)} px are NaN, which is no class: where it means unlabelled, "
            f"add `.nan` to the card's `ignore`"
        )
    return empty


def _levels(values: npt.NDArray[Any], card: DatasetCard) -> npt.NDArray[Any]:
    """Return a mask's numbers, thresholded to 0 and 255 where the card says `binarise_at`."""
    if card.binarise_at is None:
        return values
    return np.where(values >= card.binarise_at, 255, 0).astype(np.uint8)


def shrink_image(image: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """Average blocks of factor × factor px: (bands, H, W) uint8 → (bands, H // factor, …).

    A mean in the middle of two integers becomes the even one. Sums of integers take an eighteenth
    of the time of numpy's mean over two axes.
    """
    if factor == 1:
        return image
    means = _sum_blocks(image, factor).astype(np.float32)
    means /= factor**2
    return np.rint(means, out=means).astype(np.uint8)


def _sum_blocks(values: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[Any]:
    """Add up blocks of factor × factor px: (…, H, W) uint8 → (…, H // factor, W // factor)."""
    *others, height, width = values.shape
    kind = np.uint16 if 255 * factor**2 <= np.iinfo(np.uint16).max else np.uint32
    rows = values.reshape(*others, height // factor, factor, width)
    total: npt.NDArray[Any] = rows[..., 0, :].astype(kind)
    for number in range(1, factor):
        total += rows[..., number, :]
    columns = total.reshape(*others, height // factor, width // factor, factor)
    total = columns[..., 0].copy()
    for number in range(1, factor):
        total += columns[..., number]
    return total


def shrink_mask(mask: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """Take the most frequent value of blocks of factor × factor px, of ties the smallest.

    (H, W) uint8 → (H // factor, W // factor). IGNORE_INDEX counts as a value like any other.
    """
    if factor == 1:
        return mask
    first, *others = np.flatnonzero(count_values(mask))
    height, width = mask.shape
    frequent = np.full((height // factor, width // factor), first, np.uint8)
    if not others:
        return frequent
    most = _sum_blocks((mask == first).view(np.uint8), factor)
    for value in others:
        counts = _sum_blocks((mask == value).view(np.uint8), factor)
        frequent[counts > most] = value
        np.maximum(most, counts, out=most)
    return frequent

"""Cutting: orthophotos and their masks rewritten as GeoTIFFs of blocks, one block a tile."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointcover.datasets.card import DatasetCard, Pair
from pointcover.labels import (
    IGNORE_INDEX,
    SPLITS,
    Image,
    Mask,
    Split,
    count_pixels,
    count_values,
    ids_from_colours,
    ids_from_values,
)
from pointcover.raster.grids import check_same_grid, gsd_of
from pointcover.raster.raster_io import (
    EIGHT_BIT,
    BlockWriter,
    RasterInfo,
    RasterReader,
    Window,
    write_geotiff,
    write_mask,
)
from pointcover.runtime.parallel import one_ahead
from pointcover.tileset.tiles import Tile, raster_path

Block = tuple[Window, Image, Mask, npt.NDArray[np.bool_]]
"""A tile as it is read: window on the tiles' grid, image, dense mask, where there is data."""


@dataclass
class Statistics:
    """Values of pixels that hold data, counted by band, for mean and standard deviation.

    Counts of the 256 values are exact in any order of tiles, and fast: sums of squares in float64
    took half of the time of tiling.
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
        """Count what was counted elsewhere, too."""
        if not len(self.counts):
            self.counts = np.zeros_like(other.counts)
        if len(other.counts):
            self.counts += other.counts

    def mean(self) -> tuple[float, ...]:
        """Mean by band, in units of the tiles (0 to 255).

        Raises:
            ValueError: nothing was counted.
        """
        if not self.counts.any():
            raise ValueError(
                "no pixel of the train split holds data: mend `split` in the card, or the images' "
                "nodata"
            )
        totals = self.counts @ np.arange(256)
        return tuple(float(total) for total in totals / self.counts.sum(axis=1))

    def std(self) -> tuple[float, ...]:
        """Standard deviation by band; 1 for a constant band, so that division stays defined."""
        distances = np.square(np.arange(256) - np.array(self.mean())[:, np.newaxis])
        variances = (self.counts * distances).sum(axis=1) / self.counts.sum(axis=1)
        return tuple(float(value) if value > 0 else 1.0 for value in np.sqrt(variances))


@dataclass
class Cutting:
    """What came of cutting orthophotos."""

    tiles: list[Tile] = field(default_factory=list)
    left_out: int = 0
    """Tiles on none of the published lists."""
    constant: list[str] = field(default_factory=list)
    """Tiles whose image is one value: missing blocks are read as such."""
    train: Statistics = field(default_factory=Statistics)
    gsd_by_orthophoto_m: dict[str, float] = field(default_factory=dict)
    """Of the orthophotos whose GSD is known."""

    @property
    def gsds_m(self) -> set[float]:
        """Every GSD that occurs."""
        return set(self.gsd_by_orthophoto_m.values())

    def cut(
        self,
        pair: Pair,
        card: DatasetCard,
        source: Path,
        out: Path,
        sides: dict[str, Split],
        size_px: int,
        downsample: int,
    ) -> None:
        """Rewrite one orthophoto and its mask as blocks below out/images and out/masks.

        Args:
            pair: the orthophoto.
            card: its dataset's card.
            source: the folder that the pair's paths begin at.
            out: folder of the tile set.
            sides: split by region, or by tile id (`<orthophoto>_<k>`, k counted row by row over
                cells of the source's pixels, of which those at an edge may be partial).
            size_px: height and width of a tile, after downsampling.
            downsample: how many source pixels become one, along each side.

        Raises:
            ValueError: the image or mask is damaged, they do not fit each other, a colour or id
                is unknown, or no pixel is labelled.
        """
        image_reader = RasterReader(source / pair.image)
        mask_reader = RasterReader(source / pair.mask) if pair.mask else None
        mask_info = mask_reader.info() if mask_reader else image_reader.info()
        grid = _common_grid(image_reader.info(), mask_info, card, downsample)
        classes = card.class_table()
        tiles = []
        with ExitStack() as stack:
            writers: dict[str, tuple[BlockWriter, BlockWriter]] = {}

            def open_writers(split: str) -> tuple[BlockWriter, BlockWriter]:
                """Open the image and the mask of a split, at its first tile."""
                image = write_geotiff(
                    raster_path(out / "images", split, pair.name),
                    height=grid.height,
                    width=grid.width,
                    bands=len(card.bands),
                    block_px=size_px,
                    crs=grid.crs,
                    transform=grid.transform,
                )
                mask = write_mask(
                    raster_path(out / "masks", split, pair.name),
                    like=grid,
                    block_px=size_px,
                    classes=classes,
                )
                return stack.enter_context(image), stack.enter_context(mask)

            blocks = _blocks(image_reader, mask_reader, card, grid, size_px, downsample)
            # A cell of a few source pixels that downsampling drops is counted all the same, or
            # the tiles of a published list would be others at half the size.
            columns = math.ceil(image_reader.info().width / (size_px * downsample))
            for window, image, mask, valid in blocks:
                row, col = window.row_off // size_px, window.col_off // size_px
                tile_id = f"{pair.name}_{row * columns + col}"
                split = sides.get(pair.region) or sides.get(tile_id)
                if split is None:
                    self.left_out += 1
                    continue
                if split not in writers:
                    writers[split] = open_writers(split)
                writers[split][0].write(image, window)
                writers[split][1].write(mask[np.newaxis], window)
                tiles.append(
                    Tile(
                        tile_id,
                        pair.name,
                        pair.region,
                        split,
                        int(window.row_off),
                        int(window.col_off),
                        int(window.height),
                        int(window.width),
                        count_pixels(mask, len(classes)),
                    )
                )
                # The first row tells most tiles apart already.
                if all((part == image[:, :1, :1]).all() for part in (image[:, :1], image)):
                    self.constant.append(tile_id)
                if split == "train":
                    self.train.add(image, valid)
            if mask_reader and tiles and not any(sum(tile.pixels) for tile in tiles):
                raise ValueError(
                    f"{mask_reader.path} labels no pixel: all are {_unlabelled(card)}, or outside "
                    f"the image's data. Leave the pair out, or mend the card's `classes`"
                )
        self.tiles += tiles
        gsd_m = gsd_of(grid) or (card.gsd_m * downsample if card.gsd_m else None)
        if gsd_m:
            self.gsd_by_orthophoto_m[pair.name] = round(gsd_m, 4)

    def include(self, other: "Cutting") -> None:
        """Take in what came of cutting further orthophotos."""
        self.tiles += other.tiles
        self.left_out += other.left_out
        self.constant += other.constant
        self.train.include(other.train)
        self.gsd_by_orthophoto_m |= other.gsd_by_orthophoto_m

    def report(self, names: Sequence[str]) -> dict[str, Any]:
        """Say by split how many tiles, megapixels, km² and which share of each class there are."""
        report: dict[str, Any] = {}
        for split in SPLITS:
            tiles = [tile for tile in self.tiles if tile.split == split]
            labelled = np.sum([tile.pixels for tile in tiles], axis=0, dtype=np.int64)
            labelled = np.broadcast_to(labelled, len(names))
            pixels = sum(tile.height * tile.width for tile in tiles)
            total = int(labelled.sum())
            report[split] = {
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
        return report | {
            "tiles_left_out": self.left_out,
            "tiles_of_one_value": len(self.constant),
        }

    def _area_km2(self, tiles: Sequence[Tile]) -> float | None:
        """Add up what tiles cover on the ground; None where the GSD of one is not known."""
        gsds_m = [self.gsd_by_orthophoto_m.get(tile.orthophoto) for tile in tiles]
        if None in gsds_m:
            return None
        areas = [
            tile.height * tile.width * gsd_m**2
            for tile, gsd_m in zip(tiles, gsds_m, strict=True)
            if gsd_m
        ]
        return round(sum(areas) / 1e6, 6)


def cut_orthophoto(
    pair: Pair,
    card: DatasetCard,
    source: Path,
    out: Path,
    sides: dict[str, Split],
    size_px: int,
    downsample: int,
) -> Cutting | str:
    """Cut one orthophoto, as `Cutting.cut` does.

    Returns:
        What came of it, or what is wrong with the orthophoto, so that all faulty ones can be told
        of together.

    Raises:
        OSError: the disk is full.
    """
    cutting = Cutting()
    try:
        cutting.cut(pair, card, source, out, sides, size_px, downsample)
    except (ValueError, FileNotFoundError) as fault:
        return str(fault)
    return cutting


def _unlabelled(card: DatasetCard) -> str:
    return ", ".join(str(value) for value in card.ignore) or "unlabelled"


def _common_grid(
    image: RasterInfo, mask: RasterInfo, card: DatasetCard, downsample: int
) -> RasterInfo:
    """Check that a pair fits together and the card, and give the grid of its tiles."""
    check_same_grid(image, mask)
    if max(card.bands) > image.bands:
        raise ValueError(
            f"{image.path} has {image.bands} band(s), but the card asks for bands "
            f"{list(card.bands)}: mend `bands` in the card"
        )
    if image.dtype != "uint8" and card.value_range is None:
        raise ValueError(
            f"{image.path} holds {image.dtype}, not uint8: say with `value_range: [low, high]` in "
            f"the card which values become 0 and 255 ([0, 255] where they are 8 bit in truth)"
        )
    if min(image.height, image.width) < downsample:
        raise ValueError(f"{image.path} is smaller than tile.downsample ({downsample} px)")
    return RasterInfo(
        path=image.path,
        height=image.height // downsample,
        width=image.width // downsample,
        bands=image.bands,
        dtype="uint8",
        crs=image.crs or mask.crs,
        transform=(image if image.is_georeferenced else mask).transform
        * type(image.transform).scale(downsample),
        has_palette=False,
    )


def _blocks(
    image_reader: RasterReader,
    mask_reader: RasterReader | None,
    card: DatasetCard,
    grid: RasterInfo,
    size_px: int,
    downsample: int,
) -> Iterator[Block]:
    """Read a pair tile by tile.

    While the tiles of one row are written, a thread reads, decodes and cuts the next row.
    """
    rows = _rows(image_reader, mask_reader, card, grid, size_px, downsample)
    with closing(one_ahead(rows)) as read:
        for row in read:
            yield from row


def _rows(
    image_reader: RasterReader,
    mask_reader: RasterReader | None,
    card: DatasetCard,
    grid: RasterInfo,
    size_px: int,
    downsample: int,
) -> Iterator[list[Block]]:
    """Read a pair by whole rows of tiles, and cut each row."""
    for top in range(0, grid.height, size_px):
        height = min(size_px, grid.height - top)
        strip = Window(0, top * downsample, grid.width * downsample, height * downsample)
        image, valid = image_reader.read_scaled(strip, card.bands, card.value_range or EIGHT_BIT)
        mask = (
            _read_mask(mask_reader, strip, card)
            if mask_reader
            else np.full(valid.shape, IGNORE_INDEX, np.uint8)
        )
        if not valid.all():
            mask[~valid] = IGNORE_INDEX
        if downsample > 1:
            image, mask = shrink_image(image, downsample), shrink_mask(mask, downsample)
            valid = shrink_mask(valid.astype(np.uint8), downsample).astype(bool)
            # Half of a block without data: the image counts it as none, so its mask must not tell.
            image[:, ~valid], mask[~valid] = 0, IGNORE_INDEX
        row = []
        for left in range(0, grid.width, size_px):
            columns = slice(left, left + size_px)
            window = Window(left, top, min(size_px, grid.width - left), height)
            tile = np.ascontiguousarray(image[:, :, columns])
            row.append((window, tile, np.ascontiguousarray(mask[:, columns]), valid[:, columns]))
        yield row


def _read_mask(reader: RasterReader, window: Window, card: DatasetCard) -> Mask:
    """Read a dense mask as class ids, whatever it is coded in.

    Raises:
        ValueError: a colour or number is not in the card; the message names the file and rows.
    """
    try:
        if card.mask_values == "colours":
            return ids_from_colours(_levels(reader.read_rgb(window), card), card.colour_ids())
        values = _levels(reader.read(window), card)
        if len(values) > 1 and (values != values[0]).any():
            raise ValueError(
                "the bands differ, wanted one band of ids (or `mask_values: colours` in the card)"
            )
        ids = card.value_ids()
        nodata = reader.dataset.nodata
        if nodata is not None and float(nodata).is_integer():
            ids.setdefault(int(nodata), IGNORE_INDEX)
        return ids_from_values(values[0], ids)
    except ValueError as error:
        if str(reader.path) in str(error):
            raise
        rows = f"rows {int(window.row_off)} to {int(window.row_off + window.height)}"
        raise ValueError(f"{reader.path} ({rows}): {error}") from None


def _levels(values: npt.NDArray[Any], card: DatasetCard) -> npt.NDArray[Any]:
    """Return a mask's numbers as the card means them: 0 and 255 where they were saved with loss."""
    if card.binarise_at is None:
        return values
    return np.where(values >= card.binarise_at, 255, 0).astype(np.uint8)


def shrink_image(image: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """Average blocks of factor × factor px: (bands, H, W) uint8 → (bands, H // factor, …)."""
    if factor == 1:
        return image
    bands, height, width = image.shape
    blocks = image.reshape(bands, height // factor, factor, width // factor, factor)
    return np.asarray(np.rint(blocks.mean(axis=(2, 4), dtype=np.float32)), np.uint8)


def shrink_mask(mask: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """Take the commonest value of blocks of factor × factor px, the smallest of equals.

    (H, W) uint8 → (H // factor, W // factor). IGNORE_INDEX counts as a value like any other.
    """
    if factor == 1:
        return mask
    height, width = mask.shape
    blocks = mask.reshape(height // factor, factor, width // factor, factor)
    values = np.unique(mask)
    counts = np.stack([(blocks == value).sum(axis=(1, 3)) for value in values])
    return np.asarray(values[counts.argmax(axis=0)], np.uint8)

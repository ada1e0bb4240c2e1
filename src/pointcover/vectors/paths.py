"""Paths of vector files, of which pyogrio and GDAL read some characters as a language."""

from pathlib import Path


def vector_path(path: Path) -> Path:
    """Return the absolute path of a vector file, which is never read as a URL or driver's name.

    Raises:
        ValueError: it has an exclamation mark, which pyogrio takes for the end of an archive's
            name, or a control character, which it removes.
    """
    whole = path.absolute()
    strange = sorted({char for char in str(whole) if char == "!" or ord(char) < 32})
    if strange:
        raise ValueError(
            f"{str(whole)!r} has {', '.join(map(repr, strange))} in its path, with which vector "
            f"files cannot be read or written (`!` means the inside of an archive there): rename "
            f"the file or folder"
        )
    return whole

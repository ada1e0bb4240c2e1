"""The files of a new project, made from those of this repository.

A wheel has dvc.yaml, params.yaml, its schema and the stages in the folder `template` (setup.py
copies them); a checkout has them at its root.
"""

import re
from pathlib import Path
from typing import Final

TEMPLATE: Final = Path(__file__).parent / "template"
CHECKOUT: Final = Path(__file__).parents[3]

PIPELINE: Final = "dvc.yaml"
PARAMS: Final = "params.yaml"
SCHEMA: Final = "params.schema.json"
PLOT: Final = ".dvc/plots/pixel_fraction.json"
STAGES: Final = ("download", "tile", "annotate", "train", "evaluate", "suggest")

_HEAD: Final = """\
# The pipeline. `pointcover init` and `pointcover upgrade` write this file. The code of each stage
# is the installed pointcover, whose digest in pointcover.lock is a parameter of the stage. `exec`
# leaves no shell between DVC and the stage, so that the stage notices when its `dvc` dies.
"""
_CODE: Final = re.compile(r"^ +- src/\S+\n", re.MULTILINE)
_PARAMS: Final = re.compile(r"^( +params: \[[^\]]*)\]$", re.MULTILINE)
_COMMAND: Final = re.compile(r"exec env PYTHONPATH=src python stages/(\w+)\.py")


def project_files() -> dict[str, str]:
    """Return the text of each file of a new project, by its path in the project."""
    stages = {f"stages/{stage}.py": _read(f"stages/{stage}.py") for stage in STAGES}
    return {
        PIPELINE: pipeline_of(_read(PIPELINE)),
        PARAMS: _read(PARAMS),
        SCHEMA: _read(SCHEMA),
        **stages,
        "sources/README.md": _read("sources/README.md"),
        "sources/none": _read("sources/none"),
        "README.md": _own("README.md"),
        ".gitignore": _own("gitignore"),
        ".dvcignore": _own("dvcignore"),
        PLOT: _read(PLOT),
    }


def written_by_us(files: dict[str, str]) -> dict[str, str]:
    """Return the files that an upgrade replaces where the user did not edit them."""
    return {
        name: text
        for name, text in files.items()
        if name in (PIPELINE, SCHEMA, PLOT, "sources/none") or name.startswith("stages/")
    }


def pipeline_of(text: str) -> str:
    """Return dvc.yaml of a project: no dependency on files of code, but on its digest in the lock.

    Args:
        text: dvc.yaml of this repository.
    """
    body = _CODE.sub("", text[text.index("stages:\n") :])
    blocks = re.split(r"(?=^ +cmd: )", body, flags=re.MULTILINE)
    written = [blocks[0]]
    for block in blocks[1:]:
        found = _COMMAND.search(block)
        if found is None:
            raise ValueError(f"a stage of dvc.yaml has another command: {block.splitlines()[0]}")
        locked = f", pointcover.lock: [stages.{found[1]}]"
        block, count = _PARAMS.subn(rf"\1{locked}]", block)
        if count != 1:
            raise ValueError(f"the stage {found[1]} of dvc.yaml has no `params: […]`")
        written.append(_COMMAND.sub(r"exec python stages/\1.py", block))
    return _HEAD + "".join(written)


def _read(name: str) -> str:
    """Read a file that this repository has, too."""
    packaged = TEMPLATE / name
    return (packaged if packaged.is_file() else CHECKOUT / name).read_text(encoding="utf-8")


def _own(name: str) -> str:
    return (TEMPLATE / name).read_text(encoding="utf-8")

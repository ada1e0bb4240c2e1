"""Write the code that each stage depends on into dvc.yaml, or --check it.

    python tools/deps.py [--check]

The code is the stage's script and the modules that it imports; a folder stands for all of its
files. Other dependencies and comments are not changed.
"""

import re
import sys
from pathlib import Path

from pointcover.runtime.code_closure import closure, modules

ROOT = Path(__file__).parents[1]
PIPELINE = ROOT / "dvc.yaml"
STAGE = re.compile(r"^  (\w+):$")
CODE = re.compile(r"^ +- (src|stages)/\S+$")


def code_deps(stage: str) -> list[str]:
    """Return the folders and files of code that a stage depends on, sorted."""
    script = ROOT / "stages" / f"{stage}.py"
    files = {modules()[name] for name in closure(script)}
    everything = [
        path for path in modules().values() if path.stat().st_size and path.name != "settings.py"
    ]  # without files in .dvcignore, which DVC does not count as part of a folder
    found = set(files)
    folders = {
        folder for path in files for folder in path.parents if ROOT / "src" in folder.parents
    }
    for folder in sorted(folders, key=lambda path: -len(path.parts)):
        inside = {path for path in everything if folder in path.parents}
        code = {path for path in inside if path.name != "__init__.py"}
        if len(code) > 1 and code <= files and folder.name != "pointcover":
            found = {path for path in found if folder not in path.parents} | {folder}
    if stage == "download":  # the cards are in the folder of the modules
        datasets = ROOT / "src" / "pointcover" / "datasets"
        found = {path for path in found if datasets not in path.parents} | {datasets}
    return [f"stages/{stage}.py", *sorted(path.relative_to(ROOT).as_posix() for path in found)]


def write(text: str) -> str:
    """Return dvc.yaml's text with the code dependencies of every stage replaced."""
    lines, stage, written = [], "", False
    for line in text.splitlines():
        if found := STAGE.match(line):
            stage, written = found[1], False
        if CODE.match(line):
            if not written:
                indent = line[: line.index("-")]
                lines += [f"{indent}- {dep}" for dep in code_deps(stage)]
                written = True
            continue
        lines.append(line)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    before = PIPELINE.read_text(encoding="utf-8")
    after = write(before)
    if "--check" in sys.argv:
        sys.exit("dvc.yaml is out of date: run `make deps`" if after != before else 0)
    PIPELINE.write_text(after, encoding="utf-8")

"""Check the Markdown files: links and images lead somewhere, and named source files exist.

Only links within the repository are checked. A name between backquotes counts as a source file
when it starts with a folder of the repository, as in `model/decoder.py`; NAME stands for any name.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SOURCE = re.compile(
    r"`((?:benchmarks|data|docs|model|multispace|pipeline|tests|\.ci)/[\w./-]*|cli\.py)`"
)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings of a Markdown text, as web front ends derive them."""
    headings = re.findall(r"^#+ +(.+?)\s*$", FENCED.sub("", text), re.MULTILINE)
    kept = (re.sub(r"[^\w\s-]", "", heading.lower()) for heading in headings)
    return {re.sub(r"\s", "-", heading) for heading in kept}


def faults(file: Path) -> list[str]:
    """Return what is wrong with the links of a Markdown file, a line each."""
    text = FENCED.sub("", file.read_text(encoding="utf-8"))
    found = []
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (file.parent / name).resolve() if name else file
        if not target.exists():
            found.append(f"{file.relative_to(ROOT)}: no file for the link {link}")
        elif anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
            found.append(f"{file.relative_to(ROOT)}: no heading for the link {link}")
    for name in SOURCE.findall(text):
        if "NAME" not in name and not (ROOT / name).exists():
            found.append(f"{file.relative_to(ROOT)}: names {name}, which does not exist")
    return found


def main() -> None:
    """Check every Markdown file at the top and under ``docs``."""
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    found = [fault for file in files for fault in faults(file)]
    for fault in found:
        print(fault, file=sys.stderr)
    print(f"{len(files)} Markdown files, {len(found)} faulty links")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()

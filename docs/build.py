"""Build the documentation site, strictly and offline: `python docs/build.py [DIRECTORY]`.

What stands in `pages/` is written by hand; the reference is written here, from the code. A line
`{{ what wins }}` in a page is the table of the README of that name, so that it exists once.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from reference import reference_pages, what_wins

__all__ = ["build", "write_pages"]

_HERE: Final = Path(__file__).parent
_TABLE: Final = "{{ what wins }}"


def write_pages(target: Path) -> None:
    """Write the configuration and all pages, as the site generator takes them."""
    shutil.rmtree(target, ignore_errors=True)
    pages = target / "pages"
    shutil.copytree(_HERE / "pages", pages)
    shutil.copy(_HERE / "zensical.toml", target)
    for page in pages.rglob("*.md"):
        text = page.read_text()
        if _TABLE in text:
            page.write_text(text.replace(_TABLE, what_wins()))
    reference = pages / "reference"
    reference.mkdir()
    for name, text in asyncio.run(reference_pages()).items():
        (reference / f"{name}.md").write_text(text)


def build(target: Path) -> Path:
    """Build the site; gives its directory. Raises CalledProcessError where something warns."""
    write_pages(target)
    generator = str(Path(sys.executable).with_name("zensical"))
    subprocess.run([generator, "build", "--strict", "--clean"], cwd=target, check=True)
    return target / "site"


if __name__ == "__main__":
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else "build/docs")
    directory.mkdir(parents=True, exist_ok=True)
    print(build(directory) / "index.html")

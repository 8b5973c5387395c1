"""What mkdocs.yml needs beside mkdocs: pages that are made of files outside docs/, and links that hold here too.

Pages are written for GitHub, where ../formats/twc-1.md is a link like any other. What the site has no page for keeps
its text and loses its link.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]

OUTSIDE = {
    "formats/twc-1.md": "format.md",
    "formats/vectors/README.md": "vectors.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "README.md": "index.md",
}
"""Files of the repository, and the site's pages that stand for them. docs/index.md stands for the README."""

_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Any, config: Any) -> Any:
    """The pages from outside, read where they lie: there is no second copy."""
    for source, page in OUTSIDE.items():
        if not (ROOT / "docs" / page).exists():
            files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links between files of the repository become links between pages of the site."""
    names = {page: source for source, page in OUTSIDE.items() if page != "index.md"}
    name = names.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return _LINK.sub(lambda link: _linked(link, posixpath.dirname(name)), markdown)


def _linked(link: re.Match[str], folder: str) -> str:
    """One link, of a file in `folder` of the repository."""
    text, target = link.groups()
    path, mark, anchor = target.partition("#")
    if not path or ":" in path:
        return link[0]
    found = posixpath.normpath(posixpath.join(folder, path))
    if found in OUTSIDE:
        return f"[{text}]({OUTSIDE[found]}{mark}{anchor})"
    inside = posixpath.relpath(found, "docs")
    if inside.startswith("../"):
        return text if (ROOT / found).exists() else link[0]
    return f"[{text}]({inside}{mark}{anchor})"

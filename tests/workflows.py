"""The example workflows of docs/ci, and the shell lines in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

DOCS = Path(__file__).resolve().parent.parent / "docs"
GITHUB = DOCS / "ci" / "github.yml"
GITLAB = DOCS / "ci" / "gitlab-ci.yml"


def load(path: Path) -> dict[str, Any]:
    """A file as data: YAML 1.2, in which ``on`` is a word."""
    document: dict[str, Any] = YAML(typ="safe", pure=True).load(path)
    return document


def github_steps() -> dict[str, str]:
    """The lines that steps run, by their names."""
    steps = load(GITHUB)["jobs"]["check"]["steps"]
    return {step["name"]: step["run"] for step in steps if "run" in step}


def gitlab_job() -> dict[str, Any]:
    """The one job."""
    (job,) = load(GITLAB).values()
    found: dict[str, Any] = job
    return found

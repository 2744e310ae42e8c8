"""The example workflows are valid by the published schemas of GitHub and GitLab, and a shell reads their lines."""

from __future__ import annotations

import json
import subprocess
from importlib.resources import files
from typing import Any

import pytest
from jsonschema import Draft7Validator
from workflows import GITHUB, GITLAB, github_steps, gitlab_job, load

VENDORED = files("check_jsonschema").joinpath("builtin_schemas/vendor")
"""The schemas of schemastore.org, as the package check-jsonschema carries them."""


def schema(name: str) -> Draft7Validator:
    document: dict[str, Any] = json.loads(VENDORED.joinpath(f"{name}.json").read_text(encoding="utf-8"))
    return Draft7Validator(document)


def test_githubs() -> None:
    workflow = load(GITHUB)
    schema("github-workflows").validate(workflow)
    del workflow["jobs"]["check"]["runs-on"]
    assert not schema("github-workflows").is_valid(workflow)
    uses = [step["uses"] for step in load(GITHUB)["jobs"]["check"]["steps"] if "uses" in step]
    assert [each.partition("@")[0] for each in uses] == [
        "actions/checkout",
        "github/codeql-action/upload-sarif",
        "actions/upload-artifact",
    ]


def test_gitlabs() -> None:
    pipeline = load(GITLAB)
    schema("gitlab-ci").validate(pipeline)
    pipeline["memory-management"]["artifacts"]["reports"]["junit"] = 1
    assert not schema("gitlab-ci").is_valid(pipeline)


@pytest.mark.parametrize("name", ["Install", "Build", "Boot", "Check", "Stop"])
def test_a_shell_reads_githubs_lines(name: str) -> None:
    subprocess.run(["bash", "-n", "-c", github_steps()[name]], check=True)


@pytest.mark.parametrize("part", ["before_script", "script", "after_script"])
def test_a_shell_reads_gitlabs_lines(part: str) -> None:
    for line in gitlab_job()[part]:
        subprocess.run(["bash", "-n", "-c", line], check=True)


def test_what_is_uploaded_is_what_is_written() -> None:
    steps = load(GITHUB)["jobs"]["check"]["steps"]
    written = github_steps()["Check"].split()
    (sarif,) = (step["with"]["sarif_file"] for step in steps if "upload-sarif" in step.get("uses", ""))
    (kept,) = (step["with"]["path"].split() for step in steps if "upload-artifact" in step.get("uses", ""))
    assert sarif == written[written.index("--sarif") + 1]
    assert sorted(kept) == sorted(word for word in written if word.startswith("kvmtools."))
    job = gitlab_job()
    written = job["script"][-1].split()
    assert job["artifacts"]["reports"]["junit"] == written[written.index("--junit") + 1]
    assert set(job["artifacts"]["paths"]) < set(written)

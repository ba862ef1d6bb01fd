"""What protoc and buf do by themselves, in a clone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.snippets import snippets
from tests.polyglot.clone import Clone
from tests.polyglot.guide import PAGE, commands

# Files that come out, by the language as the guide names it.
LANGUAGES = {
    "C++": ["aitbc/v1/jobs.pb.cc", "aitbc/v1/jobs.pb.h", "google/api/annotations.pb.h"],
    "C#": ["Aitbc/V1/Jobs.cs", "Aitbc/V1/Usage.cs"],
    "Java": ["com/aitbc/v1/Job.java", "com/aitbc/v1/Usage.java", "com/aitbc/v1/UsageProto.java"],
    "Kotlin": ["com/aitbc/v1/Job.java", "com/aitbc/v1/JobKt.kt"],
    "Objective-C": ["aitbc/v1/Jobs.pbobjc.h", "aitbc/v1/Jobs.pbobjc.m"],
    "PHP": ["Aitbc/V1/Job.php", "Aitbc/V1/GPBMetadata/Jobs.php"],
    "Python": ["aitbc/v1/jobs_pb2.py", "aitbc/v1/jobs_pb2.pyi"],
    "Ruby": ["aitbc/v1/jobs_pb.rb"],
    "Rust": ["aitbc/v1/jobs.u.pb.rs"],
}
# Theirs are plugins, which `make polyglot` installs.
PLUGINS = {"Go", "TypeScript"}


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_every_language_of_the_guide_is_tried() -> None:
    assert set(commands()) == {*LANGUAGES, *PLUGINS}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_command_of_the_guide_generates_from_a_clone(clone: Clone, language: str) -> None:
    clone.out.mkdir()
    clone.run("bash", "-c", commands()[language])
    assert set(LANGUAGES[language]) <= set(clone.files("out"))


def test_names_are_in_the_packages_that_the_options_say(clone: Clone) -> None:
    clone.out.mkdir()
    for language in ("Objective-C", "PHP", "Ruby", "Java"):
        clone.run("bash", "-c", commands()[language])
    for path, text in (
        ("aitbc/v1/Jobs.pbobjc.h", "@interface AITBCJob "),
        ("Aitbc/V1/Job.php", r"namespace Aitbc\V1;"),
        ("aitbc/v1/jobs_pb.rb", "module Aitbc\n  module V1"),
        ("com/aitbc/v1/Job.java", "package com.aitbc.v1;"),
    ):
        assert text in (clone.out / path).read_text()


def test_buf_builds_and_lints_a_clone(clone: Clone) -> None:
    clone.run("buf", "build")
    clone.run("buf", "lint")
    clone.run("buf", "breaking", "--against", "protos/released.binpb")


def test_buf_generates_every_language_of_protoc(clone: Clone) -> None:
    clone.run(*snippets(PAGE, "console")[1].splitlines()[0].removeprefix("$ ").split())
    files = clone.files("build/stubs")
    assert {"cpp", "csharp", "java", "objc", "php", "python", "ruby", "rust"} == {
        name.split("/")[0] for name in files
    }
    # C++ has no package of these.
    assert "cpp/google/api/annotations.pb.h" in files
    assert "java/com/aitbc/v1/JobKt.kt" in files


def test_a_change_that_breaks_the_wire_is_refused(clone: Clone) -> None:
    jobs = clone.path / "protos/aitbc/v1/jobs.proto"
    changed, count = re.subn(
        r"(?m)^  string job_id = 1;", "  string job_id = 999;", jobs.read_text()
    )
    assert count
    jobs.write_text(changed)
    with pytest.raises(AssertionError, match='field "1" with name "job_id" on message "Job"'):
        clone.run("buf", "breaking", "--against", "protos/released.binpb")

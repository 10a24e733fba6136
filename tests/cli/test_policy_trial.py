"""`trueport policy test`: what it tells of a decision, and what it keeps to itself."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from trueport.cli.main import main

CARD = "4111 1111 1111 1111"
TEXT = f"Charge {CARD} and tell ann@acme.example"
FILE = """
version: 1
policies:
  - {preset: pci}
  - {name: addresses, when: {category: pii, types: [EMAIL]}, action: flag, models: ["gpt-*"], mode: shadow}
  - {name: project, on: [output], when: {keywords: [aurora]}, action: block}
"""


@pytest.fixture(autouse=True)
def process_as_it_was() -> Iterator[None]:
    """Commands set up logging for a process of their own; this one goes on."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "acme.yaml"
    path.write_text(FILE)
    return path


def trial(folder: Path, *arguments: str, stdin: str = "") -> Result:
    given = {"TRUEPORT_DATA_DIR": str(folder / "data"), "TRUEPORT_DETECTION_URL": "rules:", "TRUEPORT_CONFIG": None}
    return CliRunner().invoke(main, ["policy", "test", *arguments], env=given, input=stdin)


def told(folder: Path, *arguments: str, stdin: str = "") -> list[dict[str, Any]]:
    done = trial(folder, *arguments, "--json", stdin=stdin)
    assert done.exit_code in (0, 1), done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_decision_each_hit_and_the_placeholders_are_told(tmp_path: Path, file: Path) -> None:
    done = trial(tmp_path, "--policies", str(file), "--text", TEXT)

    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "decision  redact",
        "  redact  pci: card numbers: pii CREDIT_CARD at 7-26 (patterns, 0.9500 of 0.5000)",
        "  flag    addresses, shadow: pii EMAIL at 36-52 (patterns, 0.9700 of 0.5000)",
        "  [CREDIT_CARD_1] for 7-26",
    ]


def test_no_matched_text_is_printed_unless_it_is_asked_for(tmp_path: Path, file: Path) -> None:
    secret = ("--policies", str(file), "--text", TEXT)

    for arguments in (secret, (*secret, "--json")):
        done = trial(tmp_path, *arguments)
        assert "redact" in done.stdout
        assert not any(word in done.output for word in (CARD, "ann@acme"))
    shown = trial(tmp_path, *secret, "--show").stdout
    assert f'(patterns, 0.9500 of 0.5000): "{CARD}"' in shown
    assert 'redacted  "Charge [CREDIT_CARD_1] and tell ann@acme.example"' in shown


def test_a_machine_is_told_the_same(tmp_path: Path, file: Path) -> None:
    [answer] = told(tmp_path, "--policies", str(file), "--text", "-", stdin=TEXT)

    assert (answer["decision"], answer["code"], answer["failures"]) == ("redact", None, [])
    assert answer["hits"][0] == {
        "policy": "pci: card numbers", "action": "redact", "mode": "enforce", "category": "pii",
        "type": "CREDIT_CARD", "start": 7, "end": 26, "score": 0.95, "threshold": 0.5, "detector": "patterns",
    }  # fmt: skip
    assert answer["placeholders"] == [{"placeholder": "[CREDIT_CARD_1]", "start": 7, "end": 26, "is_reversible": False}]


def test_a_blocked_text_is_an_exit_code_of_its_own(tmp_path: Path) -> None:
    blocked = trial(tmp_path, "--preset", "pci", "--text", "cvv: 123")
    allowed = trial(tmp_path, "--preset", "pci", "--text", "hello")

    assert (blocked.exit_code, blocked.stdout.splitlines()[0]) == (1, "decision  block (content_policy_violation)")
    assert (allowed.exit_code, allowed.stdout) == (0, "decision  allow\n")


def test_lines_are_answered_one_by_one_each_with_its_role(tmp_path: Path, file: Path) -> None:
    lines = tmp_path / "texts.jsonl"
    lines.write_text(
        '{"text": "aurora"}\n\n{"text": "aurora", "role": "output"}\n{"text": "cvv: 123", "role": "tool_result"}\n'
    )

    answers = told(tmp_path, "--policies", str(file), "--file", str(lines))

    assert [answer["decision"] for answer in answers] == ["allow", "block", "block"]
    assert answers[1]["hits"][0]["score"] is None


def test_the_call_decides_which_policies_hold(tmp_path: Path, file: Path) -> None:
    def hits(*call: str) -> list[str]:
        [answer] = told(tmp_path, "--policies", str(file), "--text", "ann@acme.example", *call)
        return [hit["policy"] for hit in answer["hits"]]

    assert hits() == hits("--model", "gpt-4o") == ["addresses"]
    assert hits("--model", "claude") == []


def test_what_the_engine_cannot_read_fails_as_it_would_in_a_call(tmp_path: Path) -> None:
    done = trial(tmp_path, "--preset", "strict", "--text", "hello")

    assert done.exit_code == 1
    assert "decision  block (detector_unavailable)" in done.stdout
    assert "toxicity" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.yaml", "- {name: cards, when: {category: pii}, action: block}\n"),
        ("set.json", '{"policies": [{"name": "cards", "when": {"category": "pii"}, "action": "block"}]}'),
        ("set.toml", '[[policies]]\nname = "cards"\naction = "block"\nwhen = {category = "pii"}\n'),
    ],
)
def test_policies_are_read_from_several_kinds_of_file(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)

    assert trial(tmp_path, "--policies", str(tmp_path / name), "--text", TEXT).exit_code == 1
    assert trial(tmp_path, "--policies", str(tmp_path / name), "--text", "hello").exit_code == 0


@pytest.mark.parametrize(
    ("content", "arguments", "reason"),
    [
        ("policies: [{preset: gentle}]", ("--text", "x"), "there is no preset 'gentle'; known are strict,"),
        ("policies: [{name: x}]", ("--text", "x"), "policies 1 ('x')"),
        ("policies: 7", ("--text", "x"), "no list `policies`"),
        ("{", ("--text", "x"), "neither YAML nor JSON"),
        ("policies: []", (), "--text or with --file"),
        ("policies: []", ("--text", "x", "--preset", "pci"), "one of --policies, --tenant and --preset"),
        ("policies: []", ("--text", "x", "--engine", "magic:"), "no detection engine 'magic'"),
        (
            "policies: [{name: x, action: flag, when: {topics: [{name: law, examples: [a, b, c, d, e]}]}}]",
            ("--text", "x"),
            "to onnx:",
        ),
    ],
)
def test_wrong_usage_is_told_in_words(tmp_path: Path, content: str, arguments: tuple[str, ...], reason: str) -> None:
    (tmp_path / "p.yaml").write_text(content)

    done = trial(tmp_path, "--policies", str(tmp_path / "p.yaml"), *arguments)

    assert done.exit_code == 2
    assert reason in done.stderr
    assert "Traceback" not in done.output


def test_a_bad_line_is_named_and_not_quoted(tmp_path: Path) -> None:
    lines = tmp_path / "texts.jsonl"
    lines.write_text('{"text": "fine"}\n{"text": "canary", "role": "nobody"}\n')

    done = trial(tmp_path, "--preset", "pci", "--file", str(lines))

    assert done.exit_code == 2
    assert "texts.jsonl, line 2: `role` is one of system, user," in done.stderr
    assert "canary" not in done.output

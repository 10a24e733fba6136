"""Evidence packs: complete, checkable by a stranger, and honest about what they do not show."""

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath

import pytest

from tests.support import archives
from tests.support.archives import SIGNER, Archive, archive_of, public_keys
from tests.support.large_archives import large
from trueport.audit.canonical import canonical, parse
from trueport.audit.disclosure import Custody, Files
from trueport.audit.evidence.figures import QUERIES, SAMPLED, Spread
from trueport.audit.evidence.frameworks import FRAMEWORKS, Framework
from trueport.audit.evidence.pack import Request, pack_of
from trueport.audit.reading import Placed
from trueport.kit.clock import from_epoch_us

MADE = datetime(2027, 6, 1, tzinfo=UTC)
BEGIN = 1_790_000_000_000_000


@cache
def lived() -> Archive:
    """A day of calls as the gateway records them, with findings, failures, changes, looks and an erasure."""
    writer = archives._Writer("host.0.ab")
    records = []
    decision = {"category": "pii", "type": "EMAIL", "action": "redact", "mode": "enforce", "policy": "<b>mail</b>"}
    for number in range(60):
        at_us, rid = BEGIN + number * 60_000_000, f"int_{number}"
        call = {"key_id": f"key_{number % 3}", "model": "gpt-5", "policy_version": 4, "config_revision": 9}
        records.append(writer.write("intent", rid, at_us, content={"kid": "k", "alg": "A", "ct_len": 1}, **call))
        ends = {0: "refused", 1: "upstream_failed"}.get(number % 10, "completed")
        seen = [decision] if number % 4 == 0 else []
        fields = {**call, "end": ends, "decisions": seen, "decision": "refuse" if ends == "refused" else "allow"}
        records.append(writer.write("outcome", rid, at_us + 9, provider="openai", **fields))
    records += [
        writer.write(kind, f"rec_{kind}", BEGIN + 3_600_000_000, action=f"{kind}.done")
        for kind in ("admin", "policy", "auth", "access", "export", "hold", "erasure")
    ]
    objects, notes = archive_of(records, [50, len(records)])
    return Archive(objects, tuple(records), (50, len(records)), tuple(notes), ())


def asked(framework: Framework, made_at: datetime = MADE) -> Request:
    custody = Custody(made_at, "usr_1", "yearly audit")
    return Request(framework, from_epoch_us(BEGIN), from_epoch_us(BEGIN + 86_400_000_000), custody, "Acme & Sons")


def pack(name: str = "eu-ai-act", archive: Archive | None = None) -> Files:
    source = archive or lived()
    return pack_of(source, public_keys(), asked(FRAMEWORKS[name]))


class Page(HTMLParser):
    """What a page links to, and whether its tags are closed in the order they were opened."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.tags: set[str] = set()
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attrs)
        self.links += [str(given[name]) for name in ("href", "src") if name in given]
        if given.get("id"):
            self.ids.add(str(given["id"]))
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    @property
    def is_whole(self) -> bool:
        return not self._open


def page(files: Files) -> Page:
    read = Page()
    read.feed(files["index.html"].decode())
    return read


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_every_framework_gives_a_pack_whose_statements_each_have_query_sample_proof_and_limit(name: str) -> None:
    files = pack(name)

    data = json.loads(files["data.json"])
    assert len(data["statements"]) == len(FRAMEWORKS[name].statements) > 3
    assert data["uncovered"]
    for statement in data["statements"]:
        assert statement["state"] == "shown"
        assert statement["does_not_show"]
        assert "{" not in statement["says"]
        for query in statement["queries"]:
            assert data["figures"][query]["file"] in files


def test_figures_count_what_is_in_the_records() -> None:
    figures = json.loads(pack()["data.json"])["figures"]

    assert figures["calls"]["count"] == 60
    assert figures["calls"]["distinct"] == {"key_id": 3, "user": 0}
    assert figures["refused"]["count"] == figures["failed"]["count"] == 6
    assert figures["found"]["count"] == figures["personal"]["count"] == 15
    assert dict(map(tuple, figures["calls"]["divisions"]["end"])) == {
        "completed": 48,
        "refused": 6,
        "upstream_failed": 6,
    }
    assert figures["sealed"]["count"] == 60
    assert [figures[name]["count"] for name in ("changes", "sign_ins", "looks", "holds", "erasures")] == [2, 1, 2, 1, 1]


def test_each_sample_is_proved_by_the_verifier_in_the_pack(tmp_path: Path) -> None:
    files = pack()
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "noted.key").write_text(str(SIGNER.verifier_key))

    ran = subprocess.run(
        [sys.executable, "-I", tmp_path / "proof/verifier.py", tmp_path / "proof", "--key", tmp_path / "noted.key"],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    proved = {json.loads(line)["seq"] for line in files["proof/proofs.jsonl"].splitlines()}
    sampled = {at for figure in json.loads(files["data.json"])["figures"].values() for at in figure["sample"]}
    assert ran.returncode == 0, ran.stdout
    assert sampled == proved
    assert len(sampled) > 10


def test_the_page_is_whole_and_asks_no_host_for_anything() -> None:
    files = pack()
    text = files["index.html"].decode()

    read = page(files)

    assert read.is_whole
    assert not re.search(r"https?:|//[a-z]|url\(|@import", text)
    assert read.tags.isdisjoint({"script", "img", "link", "iframe", "object", "embed"})
    for link in read.links:
        assert link[1:] in read.ids if link.startswith("#") else str(PurePosixPath(link)) in files


def test_the_page_says_all_that_the_data_says() -> None:
    files = pack("soc2")
    text = files["index.html"].decode()
    data = json.loads(files["data.json"])

    for statement in data["statements"]:
        assert statement["reference"] in text
        assert statement["does_not_show"] in text
    assert all(each["reference"] in text for each in data["uncovered"])
    assert all(each["title"] in text for each in data["answers"])
    assert "2027-06-01T00:00:00.000Z" in text
    assert "prefers-color-scheme:dark" in text
    assert "@media print" in text


def test_what_records_and_names_say_is_text_and_never_markup() -> None:
    text = pack()["index.html"].decode()

    assert "<b>mail</b>" not in text
    assert "&lt;b&gt;mail&lt;/b&gt;" in text
    assert "Acme &amp; Sons" in text


def test_an_archive_that_was_tampered_with_makes_every_statement_doubtful() -> None:
    archive = lived()
    records = list(archive.records)
    records[70] = replace(records[70], canonical=canonical({**parse(records[70].canonical), "end": "completed "}))

    data = json.loads(pack(archive=archives._rewritten(archive, records, archive.bounds))["data.json"])

    assert {statement["state"] for statement in data["statements"]} == {"doubtful"}
    # What no checkpoint holds for is not counted.
    assert data["archive"]["in_period"] == data["archive"]["fixed_by_signature"] == 50


def test_logs_that_are_not_six_months_old_do_not_show_that_they_are_kept_for_six_months() -> None:
    begun = from_epoch_us(BEGIN)

    def states(days: int) -> dict[str, str]:
        request = asked(FRAMEWORKS["eu-ai-act"], begun + timedelta(days=days))
        data = json.loads(pack_of(lived(), public_keys(), request)["data.json"])
        return {each["reference"]: each["state"] for each in data["statements"]}

    early, late = states(182), states(183)

    assert early["Article 19(1)"] == early["Article 26(6)"] == "not_yet"
    assert early["Article 12(1)"] == late["Article 19(1)"] == late["Article 26(6)"] == "shown"


def test_a_period_without_records_says_that_nothing_was_recorded() -> None:
    data = json.loads(pack(archive=large(600))["data.json"])

    assert {statement["state"] for statement in data["statements"]} == {"nothing_recorded"}
    assert data["archive"]["in_period"] == 0


def test_statements_name_queries_that_exist_and_every_query_is_behind_some_statement() -> None:
    named = {query for each in FRAMEWORKS.values() for statement in each.statements for query in statement.queries}

    assert named <= {query.id for query in QUERIES}
    assert {query.id for query in QUERIES} - named == set()


@pytest.mark.parametrize("count", [0, 1, SAMPLED, SAMPLED + 1, 20, 21, 1_000])
def test_a_sample_is_spread_over_all_matches(count: int) -> None:
    spread = Spread()
    for position in range(count):
        spread.add(Placed(position, "", b"", {}))

    taken = [placed.position for placed in spread.taken()]

    assert len(taken) == min(count, SAMPLED)
    assert taken == sorted(set(taken))
    if count:
        assert taken[0] == 0
        assert taken[-1] >= count * 0.8 - 1


def test_the_pack_on_paper_says_what_the_data_says() -> None:
    pytest.importorskip("reportlab")
    pypdf = pytest.importorskip("pypdf")

    files = pack("soc2")

    pages = [each.extract_text() for each in pypdf.PdfReader(io.BytesIO(files["report.pdf"])).pages]
    text = " ".join(" ".join(pages).split())
    data = json.loads(files["data.json"])
    for statement in data["statements"]:
        assert statement["reference"] in text
        assert statement["does_not_show"] in text
    assert all(answer["title"] in text for answer in data["answers"])
    assert all(data["made_at"] in each for each in pages)
    assert "<b>mail</b>" in text
    assert files == pack("soc2")

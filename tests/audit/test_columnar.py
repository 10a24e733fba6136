"""Records as a Parquet table: the same records, typed, described in custody, and proof of nothing."""

import hashlib
import io
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.support.analytics import Trail
from tests.support.archives import SIGNER
from tests.support.large_archives import large
from trueport.audit.canonical import leaf_hash
from trueport.audit.columnar import FormatUnavailable, parquet_of
from trueport.audit.reading import Placed
from trueport.cli.main import main
from trueport.kit.clock import to_epoch_us

STARTED = datetime(2026, 3, 1, 10, 30, tzinfo=UTC)


def placed(records: list[Any]) -> list[Placed]:
    return [
        Placed(position, leaf_hash(each.canonical).hex(), each.canonical, each.record)
        for position, each in enumerate(records)
    ]


def table_of(data: bytes) -> Any:
    parquet = pytest.importorskip("pyarrow.parquet")
    return parquet.read_table(io.BytesIO(data))


def calls() -> list[Placed]:
    trail = Trail()
    return placed(
        [each for number in range(5) for each in trail.call("ten_1", STARTED + timedelta(milliseconds=number))]
    )


def test_a_table_has_the_records_with_times_and_money_in_types_of_their_own() -> None:
    arrow = pytest.importorskip("pyarrow")
    records = calls()

    table = table_of(parquet_of(records))

    assert table.schema.field("at").type == arrow.timestamp("us", tz="UTC")
    assert table.schema.field("cost_nano_usd").type == arrow.int64()
    rows = table.to_pylist()
    assert [row["record"].encode() for row in rows] == [each.line for each in records]
    for row, each in zip(rows, records, strict=True):
        said = json.loads(each.line)
        assert to_epoch_us(row["at"]) == said["at"]
        assert to_epoch_us(row["started_at"]) == said["started_at"]
        assert (row["seq"], row["leaf"]) == (each.position, each.leaf)
        for name in ("kind", "rid", "key_id", "model", "status", "cost_nano_usd", "decision", "stream"):
            assert row[name] == said.get(name), name
        assert row["input_tokens"] == (said.get("usage") or {}).get("input_tokens")


def test_what_has_another_type_than_its_column_is_null_there_and_still_in_the_record() -> None:
    odd = {"kind": "admin", "rid": "rec_1", "at": 1, "status": True, "model": 7, "usage": "none"}
    line = json.dumps(odd).encode()

    (row,) = table_of(parquet_of([Placed(3, "ab", line, odd)])).to_pylist()

    assert (row["status"], row["model"], row["input_tokens"]) == (None, None, None)
    assert json.loads(row["record"]) == odd


def test_no_records_are_a_table_without_rows() -> None:
    assert table_of(parquet_of([])).num_rows == 0


def test_without_the_package_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(FormatUnavailable):
        parquet_of([])


def test_a_disclosure_has_the_table_beside_the_lines_and_its_hash_in_custody(tmp_path: Path) -> None:
    archive, key, out = tmp_path / "archive", tmp_path / "log.key", tmp_path / "out"
    for name, data in large(300).objects.items():
        path = archive / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    key.write_text(str(SIGNER.verifier_key))
    asked = ["audit", "disclose", str(archive), "--key", str(key), "--kind", "outcome", "--out", str(out)]

    ran = CliRunner().invoke(main, [*asked, "--format", "parquet"])

    assert ran.exit_code == 0, ran.output
    data = (out / "records.parquet").read_bytes()
    described = json.loads((out / "custody.json").read_bytes())["objects"][-1]
    assert described == {
        "name": "records.parquet", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(),
        "derived_from": "records.jsonl",
    }  # fmt: skip
    rows = table_of(data).to_pylist()
    assert [row["record"] for row in rows] == (out / "records.jsonl").read_text().splitlines()
    assert [row["seq"] for row in rows] == [
        json.loads(line)["seq"] for line in (out / "proofs.jsonl").read_text().splitlines()
    ]
    checked = CliRunner().invoke(main, ["audit", "verify", str(out), "--key", str(key)])
    assert checked.exit_code == 0, checked.output

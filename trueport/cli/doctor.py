"""`trueport doctor`: is everything there that this installation needs, and if not, what to do."""

import asyncio
import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import click

from trueport.cli.session import EXIT_AWAY, config_option, json_option, settings_of
from trueport.detection.engine import unread
from trueport.detection.types import Passage
from trueport.domains.proxy.wiring import open_limits, open_prepared
from trueport.gateway.pricing import load_price_book
from trueport.kit.clock import SystemClock
from trueport.kit.errors import TrueportError
from trueport.settings import Settings
from trueport.storage.archives import ArchiveUnavailable, open_archive
from trueport.storage.documents import open_store
from trueport.storage.embedded import EmbeddedMongo
from trueport.storage.mongo import connect, database_of, ping

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `advice` says what to do unless it is ok."""

    part: str
    state: State
    detail: str
    advice: str = ""


@click.command(epilog="Example: trueport doctor --json")
@json_option
@config_option
def doctor(*, as_json: bool, config_file: Path | None) -> None:
    """Check every dependency and say how to fix what is wrong. Exit code 3 when something needed is away."""
    settings = settings_of(config_file)
    findings = asyncio.run(examine(settings))
    if as_json:
        click.echo(json.dumps({"ok": _is_well(findings), "findings": [asdict(finding) for finding in findings]}))
    else:
        for finding in findings:
            click.echo(f"{finding.state:<8} {finding.part:<10} {finding.detail}")
            if finding.advice:
                click.echo(f"{'':<19} {finding.advice}")
    if not _is_well(findings):
        raise SystemExit(EXIT_AWAY)


async def examine(settings: Settings) -> list[Finding]:
    """Everything this installation depends on."""
    return [
        _python(),
        *(Finding("settings", "warning", warning, "Correct the name or remove it.") for warning in settings.warnings),
        _secrets(settings),
        _disk(settings),
        _prices(settings),
        await _detection(settings),
        await _database(settings),
        await _limits(settings),
        await _storage(settings),
        await _archive(settings),
    ]


def _is_well(findings: list[Finding]) -> bool:
    return all(finding.state != "failed" for finding in findings)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok", version)


def _secrets(settings: Settings) -> Finding:
    if settings.keys.are_generated:
        place = settings.data_dir / "secrets.json"
        return Finding("secrets", "warning", f"generated into {place}",
                       "Fine for development; elsewhere set TRUEPORT_SECRET_KEY and TRUEPORT_KEK.")  # fmt: skip
    return Finding("secrets", "ok", "set")


def _disk(settings: Settings) -> Finding:
    """Where records are written first, and where they are written when that fails."""
    if settings.spool.is_bypassed:
        return Finding("spool", "ok", "none: records are in the database before an answer ends")
    found = _folder(settings.spool.directory, settings.spool.segment_bytes)
    second = settings.spool.second_directory
    if second is None or found.state != "ok":
        return found
    other = _folder(second, settings.spool.segment_bytes)
    if other.state != "ok":
        return other
    if second.stat().st_dev == settings.spool.directory.stat().st_dev:
        return Finding("spool", "warning", f"{second} is on the same disk", "A second disk helps when the first fails.")
    return Finding("spool", "ok", f"{found.detail}; then {other.detail}")


def _folder(folder: Path, segment_bytes: int) -> Finding:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        return Finding("spool", "failed", f"{folder}: {error.strerror}", "Let this user write to TRUEPORT_DATA_DIR.")
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        return Finding("spool", "failed", f"{folder} is not writable", "Let this user write to TRUEPORT_DATA_DIR.")
    if free < 4 * segment_bytes:
        return Finding(
            "spool", "failed", f"{free >> 20} MiB free", "Free disk space or lower TRUEPORT_SPOOL_SEGMENT_MIB."
        )
    return Finding("spool", "ok", f"{folder}, {free >> 30} GiB free")


def _prices(settings: Settings) -> Finding:
    try:
        book = load_price_book(settings.prices_file)
    except (OSError, ValueError) as error:
        return Finding("prices", "failed", str(error), "Correct the file TRUEPORT_PRICES_FILE names.")
    return Finding("prices", "ok", f"{len(book.entries)} prices, version {book.version}")


async def _detection(settings: Settings) -> Finding:
    """Whether every detector reads a text, and with which model."""
    clock = SystemClock()
    try:
        engine = await open_prepared(settings.detection_url, clock, settings.data_dir)
    except TrueportError as error:
        return Finding("detection", "failed", error.message, "Follow the sentence above.")
    try:
        passage = Passage(f"Are you there at {clock.epoch_us()}?")
        [reading] = await engine.read([passage], engine.categories, timeout_s=5)
        version = engine.version
    finally:
        await engine.close()
    if not reading.failures:
        return Finding("detection", "ok", version)
    lost = ", ".join(sorted({f"{one.detector} ({one.code})" for one in reading.failures}))
    left = unread(reading, engine.categories)
    if left:
        advice = "Check TRUEPORT_DETECTION_URL and that the server runs with all its models: trueport triton run."
        return Finding("detection", "failed", f"no answer from {lost}; unread: {', '.join(sorted(left))}", advice)
    advice = "The embedded model stands in; check that the server runs: trueport triton run."
    return Finding("detection", "warning", f"no answer from {lost}; at work: {version}", advice)


async def _database(settings: Settings) -> Finding:
    embedded = EmbeddedMongo(settings.data_dir) if settings.embeds_mongodb else None
    try:
        uri = await asyncio.to_thread(embedded.start) if embedded else settings.mongodb_uri.reveal()
        client = connect(uri)
        try:
            if await ping(database_of(client)):
                return Finding("database", "ok", "embedded" if embedded else "answers")
        finally:
            await client.close()
    except TrueportError as error:
        return Finding("database", "failed", error.message, "Follow the sentence above.")
    finally:
        if embedded is not None:
            await asyncio.to_thread(embedded.stop)
    return Finding("database", "failed", "does not answer", "Check TRUEPORT_MONGODB_URI and that the server runs.")


async def _limits(settings: Settings) -> Finding:
    if not settings.uses_redis:
        return Finding("limits", "ok", "in process memory, one worker")
    try:
        limits = await open_limits(settings, SystemClock())
    except ValueError as error:
        return Finding("limits", "failed", str(error), "Correct TRUEPORT_REDIS_URL.")
    try:
        if await limits.ping():
            return Finding("limits", "ok", "Redis answers")
    finally:
        await limits.close()
    return Finding("limits", "failed", "Redis does not answer", "Check TRUEPORT_REDIS_URL and that the server runs.")


async def _storage(settings: Settings) -> Finding:
    try:
        store = open_store(settings.storage_url, settings.data_dir)
    except TrueportError as error:
        return Finding("storage", "failed", error.message, "Correct TRUEPORT_STORAGE_URL.")
    if await store.ping():
        return Finding("storage", "ok", settings.storage_url)
    return Finding("storage", "failed", "cannot be written", "Let this user write to the storage folder.")


async def _archive(settings: Settings) -> Finding:
    url = settings.archive.url
    if url is None:
        return Finding("archive", "ok", "none: records stay in the database")
    try:
        promise = await open_archive(url, settings.data_dir, SystemClock(), os.environ).immutability()
    except ArchiveUnavailable as error:
        return Finding(
            "archive", "failed", f"does not answer ({error.reason})", "Check TRUEPORT_ARCHIVE_URL and AWS_…."
        )
    except TrueportError as error:
        return Finding("archive", "failed", error.message, "Correct TRUEPORT_ARCHIVE_URL.")
    if promise.worm:
        return Finding("archive", "ok", promise.why)
    if settings.archive.allows_mutable:
        return Finding("archive", "warning", f"can be changed: {promise.why}", "Best use a bucket with Object Lock.")
    return Finding(
        "archive", "failed", f"can be changed: {promise.why}", "Set TRUEPORT_ALLOW_MUTABLE_ARCHIVE=1 if it may."
    )

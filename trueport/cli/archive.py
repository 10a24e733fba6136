"""`trueport audit archive` and `restore`: taking records to the archive now, and back from there."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from trueport.audit import verifier
from trueport.audit.archive import folder_of
from trueport.audit.notes import VerifierKey
from trueport.audit.restoring import Finished
from trueport.cli.session import (
    EXIT_FAILED,
    EXIT_USAGE,
    Failed,
    config_option,
    json_option,
    settings_of,
    show,
    tenant_named,
    with_resources,
)
from trueport.domains.audit.api import Archives, AuditLog, LogKeys, Restore, Stores
from trueport.domains.auth.api import operator_scope, work_scope, work_scopes
from trueport.kit.tenancy import TenantScope
from trueport.settings import Settings
from trueport.storage.archives import Immutability
from trueport.storage.documents import FolderStore, open_store
from trueport.web.domain import Resources


@click.command(
    epilog="\b\nExamples:\n  trueport audit archive --once\n  trueport audit archive --tenant acme --once --json"
)
@click.option("--tenant", "slug", help="Short name of an organisation; without it, all of them.")
@click.option("--once", is_flag=True, help="Archive all that is recorded, without waiting for 64 MiB or 15 minutes.")
@json_option
@config_option
def archive(slug: str | None, *, once: bool, as_json: bool, config_file: Path | None) -> None:
    """Take what was recorded to the archive that TRUEPORT_ARCHIVE_URL names.

    The server does so by itself; this is for schedules of your own and for the moment before a migration.
    """
    settings = settings_of(config_file)

    async def work(resources: Resources) -> dict[str, object]:
        archives = Archives.of(resources)
        promises: list[Immutability] = []
        counts: dict[str, int] = {}
        for scope in await _scopes(resources, slug):
            stores = await archives.stores(scope)
            if not stores.is_set:
                continue
            counts[scope.tenant_id] = await _archived(resources, archives, scope, everything=once)
            promises.append(await stores.at(stores.current).immutability())
        if archives.store is None and not promises:
            raise Failed("No archive is set: name one with TRUEPORT_ARCHIVE_URL.", EXIT_USAGE)
        if archives.store is not None:
            promises.append(await archives.store.immutability())
        why = "; ".join(sorted({each.why for each in promises}))
        worm = all(each.worm for each in promises)
        return {"records": sum(counts.values()), "tenants": counts, "worm": worm, "why": why}

    show(with_resources(settings, work), as_json=as_json)


async def _scopes(resources: Resources, slug: str | None) -> list[TenantScope]:
    if slug is not None:
        return [operator_scope(await tenant_named(resources, slug))]
    return [scope async for scope in work_scopes(resources, "archive")]


async def _archived(resources: Resources, archives: Archives, scope: TenantScope, *, everything: bool) -> int:
    keys = LogKeys(resources.database, resources.settings.keys, resources.clock)
    await AuditLog(resources.database, scope, keys, resources.clock).advance()
    return await (await archives.archiver(scope)).advance(everything=everything)


@click.command(
    epilog="\b\nExamples:\n  trueport audit restore --from ./archive --key log.key\n"
    "  trueport audit restore --tenant-id ten_06f2… --key log.key"
)
@click.option(
    "--from",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A copy of the archive; without it, it is read from TRUEPORT_ARCHIVE_URL.",
)
@click.option("--tenant-id", help="Whose archive, where it is read from TRUEPORT_ARCHIVE_URL.")
@click.option(
    "--key", "key_file", required=True, type=click.Path(path_type=Path), help="The log's public keys, one a line."
)
@json_option
@config_option
def restore(
    folder: Path | None, tenant_id: str | None, key_file: Path, *, as_json: bool, config_file: Path | None
) -> None:
    """Verify an archive, and make records, call log, order and checkpoints again from it in an empty database.

    Stop the server before. What an archive does not hold (accounts, settings, keys of contents) comes from a backup.
    Exit code 1 when the archive is not whole; nothing is restored then.
    """
    settings = settings_of(config_file)
    if (folder is None) == (tenant_id is None):
        raise Failed("Give either --from or --tenant-id.", EXIT_USAGE)

    async def work(resources: Resources) -> dict[str, object]:
        with tempfile.TemporaryDirectory(prefix="trueport-restore-") as copy:
            if tenant_id is not None:
                await _copied(resources, tenant_id, Path(copy))
            return await _restored(resources, settings, folder or Path(copy), key_file)

    show(with_resources(settings, work), as_json=as_json)


async def _copied(resources: Resources, tenant_id: str, target: Path) -> None:
    """Everything of a tenant, from each place that it has archived to; of two that have a name the newer counts."""
    stores = await Archives.of(resources).stores(work_scope(tenant_id))
    if not stores.openers:
        raise Failed("No archive is set: name one with TRUEPORT_ARCHIVE_URL.", EXIT_USAGE)
    # A name comes from a store that may not be ours: this one refuses what would lead out of the folder.
    folder, known = FolderStore(target), set[str]()
    for _, store in stores.all():
        for name in await store.list(folder_of(tenant_id)):
            if name not in known:
                known.add(name)
                await keep(folder, name, await store.get(name))


async def keep(folder: FolderStore, name: str, data: bytes) -> None:
    """Copy an object of an archive into a folder. Raises Failed for a name that leads out of it."""
    try:
        await folder.put(name, data)
    except ValueError as error:
        raise Failed("The archive holds an object whose name cannot be one of ours: nothing is restored.") from error


async def _refuse_remains(stores: Stores, scope: TenantScope, left_out: Sequence[str]) -> None:
    """Raise Failed when the next segment would meet what is left of one that nobody has signed."""
    there = await stores.at(stores.current).list(folder_of(scope.tenant_id)) if left_out and stores.is_set else []
    if any(f"{folder_of(scope.tenant_id)}/{name}" in there for name in left_out):
        raise Failed(
            "The archive ends with a segment that was never finished, and cannot go on behind it: copy it, set "
            "TRUEPORT_ARCHIVE_URL to another prefix, where everything is archived anew, and restore --from the copy."
        )


def _verified(folder: Path, key_file: Path) -> tuple[Finished, list[verifier.Key], verifier.Report]:
    try:
        keys, source = verifier.read_keys(key_file.read_text("utf-8")), Finished(verifier.Folder(folder))
        report = verifier.verify(source, keys)
    except (verifier.Unreadable, OSError, UnicodeDecodeError) as error:
        raise Failed(str(error), EXIT_USAGE) from error
    if report.problems:
        raise Failed(f"The archive is not whole, nothing is restored:\n{verifier.told(report)}", EXIT_FAILED)
    return source, keys, report


async def _restored(resources: Resources, settings: Settings, folder: Path, key_file: Path) -> dict[str, object]:
    source, keys, report = _verified(folder, key_file)
    scope = work_scope(report.origin.rpartition("/")[2])
    log_keys = LogKeys(resources.database, settings.keys, resources.clock)
    contents = open_store(settings.storage_url, settings.data_dir)
    stores = await Archives.of(resources).stores(scope)
    await _refuse_remains(stores, scope, source.left_out)
    restoring = Restore(resources.database, scope, log_keys, contents, settings.archive, resources.clock)
    count = await restoring.run(source, [VerifierKey(key.name, key.public) for key in keys], stores)
    log = AuditLog(resources.database, scope, log_keys, resources.clock)
    await log.advance()
    return {
        "tenant": scope.tenant_id,
        "records": count,
        "size": report.size,
        "root": report.root,
        "left_out": source.left_out,
    }

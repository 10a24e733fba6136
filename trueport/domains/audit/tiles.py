"""The hashes inside a tenant's tree, kept in tiles of 256, so that a proof reads a few kilobytes of any log."""

from collections.abc import Sequence
from typing import Final

from trueport.audit.tree import HASH_BYTES, Edge, Node, complete_nodes
from trueport.domains.audit.models import AuditTile
from trueport.domains.audit.repository import Batches, StoredTiles, hashes_in, tile_id
from trueport.kit.clock import Clock

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
_AT_ONCE: Final = 16


class Tiles:
    """Writes the tiles of one tenant's log, and reads hashes from them."""

    def __init__(self, stored: StoredTiles, batches: Batches, clock: Clock) -> None:
        self._stored = stored
        self._batches = batches
        self._clock = clock
        self._known = -1

    async def catch_up(self, size: int) -> None:
        """Write the tiles that a log of `size` fills and that are not there. Any number may do so at once."""
        if self._known >= size // WIDTH:
            return
        level = 0
        while (full := size >> HEIGHT * (level + 1)) > 0:
            await self._fill(level, await self._stored.full(level), full)
            level += 1
        self._known = size // WIDTH

    async def _fill(self, level: int, start: int, end: int) -> None:
        for first in range(start, end, _AT_ONCE):
            await self._stored.insert_missing(
                [await self._tile(level, index) for index in range(first, min(end, first + _AT_ONCE))]
            )

    async def _tile(self, level: int, index: int) -> AuditTile:
        hashes = await self.entries(level, index * WIDTH, (index + 1) * WIDTH)
        tenant_id = self._stored.scope.tenant_id
        return AuditTile(
            id=tile_id(tenant_id, level, index),
            tenant_id=tenant_id,
            created_at=self._clock.now(),
            level=level,
            index=index,
            hashes=b"".join(hashes),
            root=Edge().extend(hashes).root,
        )

    async def nodes(self, ranges: Sequence[tuple[int, int]]) -> dict[Node, bytes]:
        """The hashes of the complete subtrees that cover these ranges of leaves."""
        wanted = {node for lo, hi in ranges for node in complete_nodes(lo, hi)}
        return {node: await self._hash(node) for node in wanted}

    async def _hash(self, node: Node) -> bytes:
        level, height = divmod(node.level, HEIGHT)
        entries = await self.entries(level, node.index << height, (node.index + 1) << height)
        return Edge().extend(entries).root

    async def entries(self, level: int, start: int, end: int) -> list[bytes]:
        """The hashes [start, end) of a tile level, all of which are complete. At most 256."""
        if level:
            return await self._stored.roots(level - 1, start, end)
        return await self._leaves(start, end)

    async def _leaves(self, start: int, end: int) -> list[bytes]:
        found: list[bytes] = []
        while start + len(found) < end:
            at = start + len(found)
            batch = await self._batches.beginning_before(at + 1)
            if batch is None or batch.end <= at:
                raise LookupError("the log has a hole")
            leaves = batch.leaves[(at - batch.start) * HASH_BYTES : (end - batch.start) * HASH_BYTES]
            found += hashes_in(leaves)
        return found

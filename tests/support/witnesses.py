"""A real witness on loopback, and logs that ask it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from trueport.audit.canonical import leaf_hash
from trueport.audit.disclosure import LeafTree
from trueport.audit.notes import Checkpoint, KeySigner, Note, sign_checkpoint
from trueport.audit.tree import EMPTY_ROOT, hash_of, prove_consistency
from trueport.audit.witness import Request, Witness, WitnessFolder, trust
from trueport.cli.witness import served, witness_app
from trueport.kit.clock import Clock, SystemClock

NAME = "witness.example/w1"


class SmallLog:
    """A log of numbered leaves. `fork` is a log with the same key whose leaves differ from a place on."""

    def __init__(self, origin: str = "log.example/audit/ten_1", seed: int = 1, forked_at: int | None = None) -> None:
        self.origin = origin
        self.signer = KeySigner(origin, bytes([seed]) * 32)
        self._seed = seed
        self._forked_at = forked_at

    def fork(self, at: int) -> "SmallLog":
        return SmallLog(self.origin, self._seed, at)

    def _tree(self, size: int) -> LeafTree:
        forked_at = size if self._forked_at is None else self._forked_at
        return LeafTree([leaf_hash(f"{at}{'x' * (at >= forked_at)}".encode()) for at in range(size)])

    def checkpoint(self, size: int) -> Checkpoint:
        return Checkpoint(self.origin, size, hash_of(self._tree(size), 0, size) if size else EMPTY_ROOT)

    def proof(self, old: int, new: int) -> tuple[bytes, ...]:
        return tuple(prove_consistency(self._tree(new), old, new))

    async def request(self, old: int, new: int, signers: Sequence[KeySigner] | None = None) -> bytes:
        note: Note = await sign_checkpoint(self.checkpoint(new), signers or [self.signer])
        return bytes(Request(old, self.proof(old, new) if old <= new else (), note))


@dataclass(frozen=True)
class Watching:
    """A witness that answers at `url`, and its folder."""

    url: str
    folder: Path
    opened: WitnessFolder

    @property
    def key(self) -> str:
        return str(self.opened.cosigner.witness_key)

    def trusts(self, *keys: object) -> None:
        trust(self.folder, "\n".join(map(str, keys)))


@asynccontextmanager
async def watching(folder: Path, clock: Clock | None = None) -> AsyncIterator[Watching]:
    """The witness of a folder, a new one where there is none."""
    opened = WitnessFolder(folder) if (folder / "witness.key").exists() else WitnessFolder.create(folder, NAME)
    app = witness_app(Witness(opened.cosigner, opened.trusted, opened), clock or SystemClock())
    try:
        async with served(app, "127.0.0.1", 0) as url:
            yield Watching(url, folder, opened)
    finally:
        opened.close()

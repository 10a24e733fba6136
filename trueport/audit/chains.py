"""The chains of one writer: for each tenant, records numbered from 0 that each name the leaf of the one before."""

import os
import re
import socket
import time

import msgspec

from trueport.audit.canonical import canonical, leaf_hash
from trueport.audit.records import FIRST_PREV, OWN_FIELDS, VERSION, Kind, number_of, record_id
from trueport.kit.clock import Clock


class Linked(msgspec.Struct, frozen=True):
    """A record in canonical form at its place in a chain."""

    record_id: str
    record: bytes
    leaf: bytes
    tenant: str
    wseq: int


class Chains:
    """Where each tenant's chain of one writer stands."""

    def __init__(self, clock: Clock, *, heartbeat_s: int | None = None) -> None:
        """heartbeat_s: how long after a record a heartbeat follows; None for a writer that has none.

        The first record of each chain says so, and is held to it by whoever checks the chain.
        """
        self.writer = writer_name()
        self._promise = {} if heartbeat_s is None else {"heartbeat_s": heartbeat_s}
        self._clock = clock
        self._ends: dict[str, tuple[int, str]] = {}

    def link(self, kind: Kind, rid: str, tenant: str, fields: dict[str, object]) -> Linked:
        """The next record of a tenant. It takes its place with `extend`, once it is written.

        Raises ValueError or TypeError for a record that makes no sense: an attempt without its number `n`, a field
        that is the journal's own.
        """
        if not OWN_FIELDS.isdisjoint(fields):
            raise ValueError("a record's own fields are not the caller's to give")
        number = number_of(kind, fields)
        wseq, prev = self._ends.get(tenant, (0, FIRST_PREV))
        record = canonical(
            {
                **fields,
                **({} if wseq else self._promise),
                "v": VERSION,
                "kind": kind,
                "rid": rid,
                "tenant": tenant,
                "writer": self.writer,
                "wseq": wseq,
                "prev": prev,
                "at": self._clock.epoch_us(),
            }
        )
        return Linked(record_id(rid, kind, number), record, leaf_hash(record), tenant, wseq)

    def extend(self, linked: Linked) -> None:
        """The record is written: the next one names it."""
        self._ends[linked.tenant] = (linked.wseq + 1, linked.leaf.hex())


def writer_name() -> str:
    """Host, process and the moment it began: never the same twice, and safe as a folder's name."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40] or "host"
    return f"{host}.{os.getpid()}.{time.time_ns():x}"

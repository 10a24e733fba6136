"""What happens in this domain that others want to hear of."""

from dataclasses import dataclass

from trueport.kit.events import Event


@dataclass(frozen=True, slots=True)
class CheckpointSigned(Event):
    """A new checkpoint of this tenant's log is in the database. Told by the process that ordered the records."""

    tenant_id: str

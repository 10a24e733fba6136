"""Training texts written from templates: what the collected sources lack."""

from trueport.detection.training.examples import Example
from trueport.detection.training.generated.documents import documents
from trueport.detection.training.generated.hatred import hatred
from trueport.detection.training.generated.injections import injections
from trueport.detection.training.generated.roles import roles


def generate(seed: int) -> list[Example]:
    """All generated examples, the same for the same seed; those of held-out templates are marked in their family."""
    from trueport.detection.training.generated.names import names  # noqa: PLC0415 - Faker is only there for training

    return [example for make in (injections, roles, documents, hatred, names) for example in make(seed)]

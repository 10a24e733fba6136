"""Archives as large as an examiner gets them, by seed, for what is too slow or too rare in small ones."""

import random
from functools import cache

from tests.support.archives import Archive, archive_of, records_by

EXAMINED = 50_000
"""Records in the archive that questions are put to."""


@cache
def large(records: int = EXAMINED, segments: int = 10) -> Archive:
    """An honest archive with at least so many records, in segments of the same length; each ends with a checkpoint."""
    draw = random.Random(records)
    written = records_by(draw, calls=round(records / 1.8))
    assert len(written) >= records
    step = -(-len(written) // segments)
    bounds = [*range(step, len(written), step), len(written)]
    objects, notes = archive_of(written, bounds)
    return Archive(objects, tuple(written), tuple(bounds), tuple(notes), ())

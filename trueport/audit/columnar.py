"""Records as a table: a Parquet file for analytics, derived from the records and never evidence of anything.

Times are timestamps in microseconds UTC, money an integer of nano-dollars. `record` is each record's own text, so that
nothing is lost that has no column; a member of another type than its column's is null there.
"""

import importlib.util
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from trueport.audit.reading import Placed
from trueport.kit.errors import TrueportError

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET: Final = "records.parquet"

_TEXTS: Final = (
    *("kind", "rid", "writer", "request_id", "key_id", "user", "subject", "env", "dialect", "method", "operation"),
    *("model", "model_counted", "model_served", "provider", "credential_id", "target", "decision", "end", "error"),
    *("price_version", "usage_source", "upstream_request_id", "action", "by", "address", "reason"),
    *("object_kind", "object_id", "result"),
)
_COUNTS: Final = (
    *("wseq", "status", "config_revision", "policy_version", "request_bytes", "reply_bytes", "input_tokens_estimate"),
    *("first_byte_us", "cost_nano_usd", "charged_nano_usd"),
)
_TIMES: Final = ("at", "started_at")
_SWITCHES: Final = ("stream", "usage_doubtful")
_USAGE: Final = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")


class FormatUnavailable(TrueportError):
    """This installation cannot write the format that was asked for."""

    code = "format_unavailable"
    status = 501

    def __init__(self) -> None:
        super().__init__("Parquet needs a package that is not installed here: pip install 'trueport[parquet]'.")


def require_parquet() -> None:
    """Raise FormatUnavailable where pyarrow is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise FormatUnavailable


def parquet_of(records: Sequence[Placed]) -> bytes:
    """The records as a table, one a row, in their order. Raises FormatUnavailable."""
    require_parquet()
    import pyarrow as pa  # noqa: PLC0415  # optional
    from pyarrow import parquet  # noqa: PLC0415  # so is this

    table = pa.Table.from_pydict(_columns(records), schema=_schema(pa))
    written = io.BytesIO()
    parquet.write_table(table, written, compression="zstd", coerce_timestamps="us")
    return written.getvalue()


def _schema(arrow: Any) -> "pa.Schema":
    moment = arrow.timestamp("us", tz="UTC")
    return arrow.schema(
        [
            ("seq", arrow.int64()),
            ("leaf", arrow.string()),
            *((name, moment) for name in _TIMES),
            *((name, arrow.string()) for name in _TEXTS),
            *((name, arrow.int64()) for name in (*_COUNTS, *_USAGE)),
            *((name, arrow.bool_()) for name in _SWITCHES),
            ("record", arrow.string()),
        ]
    )


def _columns(records: Sequence[Placed]) -> dict[str, list[object]]:
    fields = [each.fields for each in records]
    usages = [_usage(each) for each in fields]
    return {
        "seq": [each.position for each in records],
        "leaf": [each.leaf for each in records],
        **{name: [_of_type(each.get(name), int) for each in fields] for name in (*_TIMES, *_COUNTS)},
        **{name: [_of_type(each.get(name), str) for each in fields] for name in _TEXTS},
        **{name: [_of_type(each.get(name), int) for each in usages] for name in _USAGE},
        **{name: [_of_type(each.get(name), bool) for each in fields] for name in _SWITCHES},
        "record": [each.line.decode() for each in records],
    }


def _usage(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    found = fields.get("usage")
    return found if isinstance(found, dict) else {}


def _of_type(value: object, wanted: type) -> object:
    # Not isinstance: True is no count.
    return value if type(value) is wanted else None

"""The page of an evidence pack as a PDF, where the optional `reportlab` is installed."""

import io
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.util import find_spec
from typing import Any

_STATES = {"shown": "Shown", "nothing_recorded": "Nothing recorded", "not_yet": "Not yet", "doubtful": "Doubtful"}


def can_print() -> bool:
    """Whether the package that writes PDFs is installed."""
    return find_spec("reportlab") is not None


def paper_of(data: Mapping[str, Any]) -> bytes:
    """The PDF, on A4, the same bytes for the same data. Raises ImportError without `reportlab`.

    Characters outside Western European scripts are printed as `?`; the page and the data have them.
    """
    # Not at the top: a gateway that makes no packs needs no such package.
    from reportlab.lib.pagesizes import A4  # noqa: PLC0415
    from reportlab.lib.styles import getSampleStyleSheet  # noqa: PLC0415
    from reportlab.lib.units import mm  # noqa: PLC0415
    from reportlab.platypus import KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table  # noqa: PLC0415

    styles = getSampleStyleSheet()
    styles["BodyText"].splitLongWords = 1

    def paragraph(text: str, style: str) -> Any:  # a flowable of a package that may be absent
        return Paragraph(text, styles[style])

    parts: list[Any] = []
    for block in _blocks(data):
        if isinstance(block, _Rows):
            cells = [[paragraph(_t(name), "BodyText"), paragraph(_t(value), "BodyText")] for name, value in block.rows]
            parts += [Table(cells, colWidths=[block.first_mm * mm, (174 - block.first_mm) * mm]), Spacer(1, 3 * mm)]
        else:
            parts.append(KeepTogether([paragraph(text, style) for style, text in block]))
    written = io.BytesIO()
    SimpleDocTemplate(
        written,
        pagesize=A4,
        title=_plain(data["title"]),
        author=_plain(data["made_by"]),
        leftMargin=18 * mm,
        rightMargin=18 * mm,
        topMargin=18 * mm,
        bottomMargin=18 * mm,
        invariant=1,
    ).build(parts, onFirstPage=_foot(data), onLaterPages=_foot(data))
    return written.getvalue()


class _Rows:
    """Names beside values; the first column is so wide."""

    def __init__(self, rows: Sequence[tuple[str, str]], first_mm: int = 45) -> None:
        self.rows = rows
        self.first_mm = first_mm


_Block = list[tuple[str, str]] | _Rows


def _blocks(data: Mapping[str, Any]) -> Iterator[_Block]:
    archive = data["archive"]
    yield [
        ("Title", _t(data["title"])),
        (
            "BodyText",
            f"What the audit trail of {_t(data['organisation'])} shows from {data['from']} up to {data['to']}.",
        ),
    ]
    yield _Rows(
        [
            ("Made", f"{data['made_at']} by {data['made_by']}"),
            ("Reason", data["reason"] or "not given"),
            ("Log", archive["origin"]),
            ("Records", f"{archive['in_period']:,} in the period, {archive['records']:,} in the archive"),
            ("Signed", f"the first {archive['fixed_by_signature']:,}"),
            ("Root", archive["root"]),
        ]
    )
    yield [("Heading1", "Statements")]
    for each in data["statements"]:
        yield [
            ("Heading3", f"{_t(each['reference'])}: {_t(each['asks'])}"),
            ("BodyText", f"<b>{_STATES[each['state']]}.</b> {_t(each['says'])}"),
            ("BodyText", f"Behind it: {_t(', '.join(f'queries/{name}.json' for name in each['queries']))}"),
            ("BodyText", f"<i>Does not show: {_t(each['does_not_show'])}</i>"),
        ]
    yield [("Heading1", "What this pack says nothing about")]
    yield _Rows([(each["reference"], each["why"]) for each in data["uncovered"]])
    yield [("Heading1", "Examination of the archive")]
    for each in data["answers"]:
        limits = [("BodyText", f"<i>Does not show: {_t(limit)}</i>") for limit in each["limits"]]
        yield [
            ("Heading3", _t(each["title"])),
            ("BodyText", f"<b>{_t(each['verdict'])}.</b> {_t(each['sentence'])}"),
            *limits,
        ]
    yield [("Heading1", "Figures")]
    for figure in data["figures"].values():
        yield [
            ("Heading3", f"{_t(figure['title'])}: {figure['count']:,}"),
            ("BodyText", _t(figure["asks"])),
            ("BodyText", f"Sample, by place in the order: {', '.join(map(str, figure['sample'])) or 'none'}"),
        ]
        rows = [
            (f"{title}: {value}", f"{count:,}")
            for title, found in figure["divisions"].items()
            for value, count in found
        ]
        if rows:
            yield _Rows(rows, first_mm=110)
    yield [
        ("Heading1", "Check this yourself"),
        ("BodyText", "python proof/verifier.py proof --key log.key, with the key from where it was noted."),
    ]


def _foot(data: Mapping[str, Any]) -> Any:  # what the optional package calls for each page
    line = _plain(f"{data['organisation']}  {data['framework']}  {data['made_at']}")

    def draw(canvas: Any, document: Any) -> None:
        canvas.setFont("Helvetica", 8)
        canvas.drawString(51, 28, line)
        canvas.drawRightString(544, 28, str(document.page))

    return draw


def _plain(text: object) -> str:
    return str(text).encode("cp1252", "replace").decode("cp1252")


def _t(text: object) -> str:
    return escape(_plain(text), quote=False)

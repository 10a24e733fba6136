"""The page of an evidence pack. It is complete in itself: no script, no font, no picture, no request to any host."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

_STATES: Final = {
    "shown": "Shown",
    "nothing_recorded": "Nothing recorded",
    "not_yet": "Not yet",
    "doubtful": "Doubtful",
}

_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1a1d21;--quiet:#59616b;--paper:#fff;--line:#d5dae0;--soft:#f3f5f7;--link:#0b5cad;
--good:#0f6b3c;--none:#6b5a0f;--bad:#a3212b}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--quiet:#a3acb6;--paper:#14171a;--line:#363c43;--soft:#1d2126;
--link:#7db8f2;--good:#6fd19b;--none:#e0c860;--bad:#ff8f96}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:62rem;padding:2rem 1.25rem 4rem;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,sans-serif}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 .25rem}h2{font-size:1.25rem;margin:2.5rem 0 .75rem}
h3{font-size:1.02rem;margin:0 0 .35rem}a{color:var(--link)}p{margin:.35rem 0}
.quiet,dt,caption{color:var(--quiet)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1.25rem;margin:1rem 0}
dd{margin:0;overflow-wrap:anywhere}
article{border:1px solid var(--line);border-radius:.5rem;padding:1rem 1.15rem;margin:.85rem 0}
.state{float:right;margin-left:1rem;font-weight:600;font-size:.9rem}.shown,.fine{color:var(--good)}
.nothing_recorded,.not_yet{color:var(--none)}.doubtful,.alarm{color:var(--bad)}
.limit{border-left:3px solid var(--line);padding-left:.75rem;color:var(--quiet)}
.tables{display:flex;flex-wrap:wrap;gap:1rem 2rem}table{border-collapse:collapse;font-size:.92rem;min-width:12rem}
caption{text-align:left;font-size:.85rem;padding-bottom:.2rem}
td,th{border-bottom:1px solid var(--line);padding:.2rem .5rem .2rem 0;
text-align:left;font-weight:400;overflow-wrap:anywhere}td{text-align:right;font-variant-numeric:tabular-nums}
code{background:var(--soft);padding:.1em .3em;border-radius:.25rem;font-size:.9em;overflow-wrap:anywhere}
pre{background:var(--soft);padding:.75rem;border-radius:.5rem;overflow-x:auto}pre code{padding:0}
@media print{:root{color-scheme:light;--ink:#000;--quiet:#444;--paper:#fff;--line:#bbb;--soft:#f3f3f3;--link:#000;
--good:#000;--none:#000;--bad:#000}body{max-width:none;padding:0;font-size:10.5pt}article,table{break-inside:avoid}
h2,h3{break-after:avoid}pre{white-space:pre-wrap}}
@page{margin:18mm 16mm}
"""


def page_of(data: Mapping[str, Any]) -> str:
    """The page that shows what `data.json` holds."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{_t(data['title'])}: {_t(data['organisation'])}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{_t(data['title'])}</h1>\n"
        f"<p>What the audit trail of <strong>{_t(data['organisation'])}</strong> "
        f"shows from {_t(data['from'])} up to {_t(data['to'])}.</p>\n{_facts(data)}</header>\n<main>\n"
        f"{_statements(data)}{_uncovered(data['uncovered'])}{_answers(data['answers'])}{_figures(data['figures'])}"
        f"{_HOW}</main>\n</body>\n</html>\n"
    )


_HOW: Final = """<section><h2>Check this yourself</h2>
<p>The records that stand for each figure are in <a href="proof/records.jsonl">proof/records.jsonl</a>, the way of each
to the signed checkpoint in <a href="proof/proofs.jsonl">proof/proofs.jsonl</a>, and who made this pack and why in
<a href="proof/custody.json">proof/custody.json</a>. With Python 3.11, <code>pip install cryptography zstandard</code>,
and the log's public key from where you noted it:</p>
<pre><code>python proof/verifier.py proof --key log.key</code></pre>
<p class="limit">The sample proves the records in it. That the figures count all records, only the whole archive shows:
ask for an export, and count again with the conditions given here.</p></section>
"""


def _facts(data: Mapping[str, Any]) -> str:
    archive = data["archive"]
    rows = (
        ("Made", f"{data['made_at']} by {data['made_by']}"),
        ("Reason", data["reason"] or "not given"),
        ("Log", archive["origin"]),
        ("Records", f"{archive['in_period']:,} in the period, {archive['records']:,} in the archive"),
        ("Recorded", f"{archive['first_at']} to {archive['last_at']}"),
        ("Signed", f"the first {archive['fixed_by_signature']:,} records"),
        ("Fixed from outside", _fixed(archive["fixed_by_checkpoint_from_outside"])),
        ("Root", archive["root"]),
        ("Made with", data["software"]),
    )  # fmt: skip
    return f"<dl>{''.join(f'<dt>{_t(name)}</dt><dd>{_t(value)}</dd>' for name, value in rows)}</dl>\n"


def _fixed(records: int) -> str:
    return (
        f"the first {records:,} records, by a checkpoint kept elsewhere" if records else "no such checkpoint was given"
    )


def _statements(data: Mapping[str, Any]) -> str:
    figures = data["figures"]
    shown = "".join(_statement(each, figures) for each in data["statements"])
    return f"<section><h2>Statements</h2>\n{shown}</section>\n"


def _statement(statement: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    links = [f'<a href="#{_t(name)}">{_t(figures[name]["title"])}</a>' for name in statement["queries"]]
    if statement["examination"]:
        links.append('<a href="#examination">Examination of the archive</a>')
    return (
        f'<article><span class="state {_t(statement["state"])}">{_STATES[statement["state"]]}</span>'
        f"<h3>{_t(statement['reference'])}: {_t(statement['asks'])}</h3><p>{_t(statement['says'])}</p>"
        f"<p>Behind it: {', '.join(links)}.</p>"
        f'<p class="limit">Does not show: {_t(statement["does_not_show"])}</p></article>\n'
    )


def _uncovered(places: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(f"<dt>{_t(each['reference'])}</dt><dd>{_t(each['why'])}</dd>" for each in places)
    return f"<section><h2>What this pack says nothing about</h2>\n<dl>{rows}</dl></section>\n"


def _answers(answers: Sequence[Mapping[str, Any]]) -> str:
    shown = "".join(
        f'<article><span class="state {"fine" if each["fine"] else "alarm"}">{_t(each["verdict"])}</span>'
        f"<h3>{_t(each['title'])}</h3><p>{_t(each['sentence'])}</p>"
        + "".join(f'<p class="limit">Does not show: {_t(limit)}</p>' for limit in each["limits"])
        + "</article>\n"
        for each in answers
    )
    return (
        '<section id="examination"><h2>Examination of the archive</h2>\n<p>With places, hashes and checkpoints: '
        f'<a href="examination.json">examination.json</a>.</p>\n{shown}</section>\n'
    )


def _figures(figures: Mapping[str, Any]) -> str:
    return f"<section><h2>Figures</h2>\n{''.join(_figure(name, each) for name, each in figures.items())}</section>\n"


def _figure(name: str, figure: Mapping[str, Any]) -> str:
    distinct = "".join(
        f"<p>{count:,} different <code>{_t(member)}</code></p>" for member, count in figure["distinct"].items()
    )
    tables = "".join(_table(title, rows) for title, rows in figure["divisions"].items())
    sample = ", ".join(map(str, figure["sample"])) or "none"
    return (
        f'<article id="{_t(name)}"><span class="state">{figure["count"]:,}</span><h3>{_t(figure["title"])}</h3>'
        f'<p class="quiet">{_t(figure["asks"])}</p>{distinct}<div class="tables">{tables}</div>'
        f'<p>Sample, by place in the order: {sample}. <a href="{_t(figure["file"])}">Query and sample</a>, '
        '<a href="proof/proofs.jsonl">proofs</a>.</p></article>\n'
    )


def _table(title: str, rows: Sequence[Sequence[Any]]) -> str:
    body = "".join(f'<tr><th scope="row">{_t(value)}</th><td>{count:,}</td></tr>' for value, count in rows)
    return f"<table><caption>by {_t(title)}</caption><tbody>{body}</tbody></table>"


def _t(text: object) -> str:
    return escape(str(text))

"""The verifier is attacked too: each of its checks taken out or turned round has to show in the corpus."""

import ast
import copy
import itertools
import sys
import types
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.support.archives import SIGNER, TAMPERINGS, Archive, honest, tampered
from tests.support.bundles import CHANGES, Bundle, changed_bundle, honest_bundle
from trueport.audit import verifier

TREE = ast.parse(Path(verifier.__file__).read_text("utf-8"))
TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
CHECKS = {
    "read_note", "read_tree", "read_checkpoint", "split_note", "Note", "verifies", "signed_at", "verify", "_Tree",
    "_Walk", "_walk_segments", "_manifest", "_is_described", "_object", "_read_object", "_blobs", "_checkpoints",
    "_tree_of", "_canonical_record", "_rotation", "_trust", "_Trust", "_is_signed", "_check_checkpoints",
    "_check_signers", "_check_manifests", "_check_witness", "verify_bundle", "_check_custody", "_check_disclosed",
    "_leads_to",
}  # fmt: skip
# What changes nothing that can be seen: how often progress is told, and a guard for sizes nobody reaches in a test.
HARMLESS = ("_progress", "% 1000", "_MOST_OBJECT_BYTES")


def mutants() -> Iterator[tuple[str, ast.Module]]:
    """Each comparison turned round, each and/or/not reversed, each report left out, in the functions that check."""
    # A loop whose end is turned round may have none.
    ends = {id(node) for loop in ast.walk(TREE) if isinstance(loop, ast.While) for node in ast.walk(loop.test)}
    seen: set[int] = set()
    for top in ast.walk(TREE):
        if isinstance(top, ast.FunctionDef | ast.ClassDef) and top.name in CHECKS:
            for node in ast.walk(top):
                if id(node) in seen:
                    continue
                seen.add(id(node))
                text = ast.unparse(node) if isinstance(node, ast.Compare | ast.Expr | ast.BoolOp | ast.UnaryOp) else ""
                if any(word in text for word in HARMLESS):
                    continue
                if isinstance(node, ast.Compare) and type(node.ops[0]) in TURNED:
                    yield f"turned: {text}", _changed(node)
                elif id(node) not in ends and (
                    isinstance(node, ast.BoolOp) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not))
                ):
                    yield f"reversed: {text}", _changed(node)
                elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and "add(" in text:
                    yield f"left out: {text}", _changed(node)


def _changed(target: ast.AST) -> ast.Module:
    number = next(number for number, node in enumerate(ast.walk(TREE)) if node is target)
    tree = copy.deepcopy(TREE)
    node = next(itertools.islice(ast.walk(tree), number, None))
    if isinstance(node, ast.Compare):
        node.ops[0] = TURNED[type(node.ops[0])]()
    elif isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node, ast.UnaryOp):
        # Twice "not" is none.
        node.operand = ast.UnaryOp(ast.Not(), node.operand)
    elif isinstance(node, ast.Expr):
        node.value = ast.Constant(None)
    return ast.fix_missing_locations(tree)


Case = Archive | tuple[Path, Bundle]


def corpus(folder: Path) -> list[Case]:
    bad = (tampered(seed) for seed in range(len(TAMPERINGS) * 16))
    changed = (changed_bundle(seed) for seed in range(len(CHANGES) * 12))
    bundles = [*map(honest_bundle, range(12)), *(case[1] for case in changed if case is not None)]
    return [
        *map(honest, range(12)),
        *((bundle.write(folder / f"{number}"), bundle) for number, bundle in enumerate(bundles)),
        *(case[1] for case in bad if case is not None),
    ]


def said(module: types.ModuleType, case: Case) -> object:
    keys = module.read_keys(str(SIGNER.verifier_key))
    told = case if isinstance(case, Archive) else case[1]
    witnesses = [module.Witness.parse(text) for text in told.witnesses]
    if isinstance(case, Archive):
        report = module.verify(case, keys, earlier=case.earlier, receipts=case.receipts, witnesses=witnesses)
    else:
        report = module.verify_bundle(case[0], keys, earlier=told.earlier, witnesses=witnesses)
    return {**asdict(report), "problems": sorted({(problem.code, problem.message) for problem in report.problems})}


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_every_mutant_of_the_verifier_says_something_else_about_the_corpus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archives = corpus(tmp_path)
    truth = [said(verifier, archive) for archive in archives]

    survivors = []
    tried = 0
    for name, tree in mutants():
        tried += 1
        module = types.ModuleType("mutant")
        monkeypatch.setitem(sys.modules, "mutant", module)
        exec(compile(tree, "mutant", "exec"), module.__dict__)  # noqa: S102 - the verifier's own source
        try:
            if all(said(module, archive) == told for archive, told in zip(archives, truth, strict=True)):
                survivors.append(name)
        except Exception:  # noqa: BLE001, S112 - a mutant that breaks down has been caught
            continue

    assert tried > 170
    assert survivors == []

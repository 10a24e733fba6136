"""What the source does not do, read off the syntax tree; each rule is shown a sinner first."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGE = ROOT / "trueport"
SOURCES = {str(path.relative_to(PACKAGE)): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
MAY_PROVE_TENANCY = {
    "domains/auth/api.py",
    "domains/auth/authentication.py",
    "domains/auth/keys.py",
    "domains/auth/tenants.py",
}
MAY_CROSS_TENANTS = {
    "domains/analytics/scans.py",
    "domains/audit/archive_job.py",
    "domains/audit/erasure/erasing.py",
    "domains/audit/keys.py",
    "domains/auth/accounts.py",
    "domains/auth/authentication.py",
    "domains/auth/repository.py",
    "domains/auth/tenants.py",
    "web/idempotency.py",
}
Rule = Callable[[ast.AST], Iterator[ast.AST]]


def called_name(node: ast.AST) -> str:
    """`b.c` of a call `a.b.c(…)`, `c` of `c(…)`, else nothing."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    if isinstance(function, ast.Name):
        return function.id
    if isinstance(function, ast.Attribute):
        owner = function.value
        before = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
        return f"{before}.{function.attr}"
    return ""


def calls(*names: str) -> Rule:
    """Calls of these functions, under their own name or as a member of a module."""

    def found(tree: ast.AST) -> Iterator[ast.AST]:
        return (node for node in ast.walk(tree) if called_name(node).rpartition(".")[2] in names)

    return found


def calls_exactly(*names: str) -> Rule:
    """Calls spelt this way: `eval`, but not `redis.eval`."""

    def found(tree: ast.AST) -> Iterator[ast.AST]:
        return (node for node in ast.walk(tree) if called_name(node) in names)

    return found


def imports(*modules: str) -> Rule:
    def found(tree: ast.AST) -> Iterator[ast.AST]:
        for node in ast.walk(tree):
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] in modules for name in named):
                yield node

    return found


def renames_proof(tree: ast.AST) -> Iterator[ast.AST]:
    """An import of a scope under another name would hide where it is made."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (a for a in node.names if a.name in ("TenantScope", "PlatformScope") and a.asname)


def floats(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield node
        if called_name(node) == "float" or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)):
            yield node


def sleeps_in_async(tree: ast.AST) -> Iterator[ast.AST]:
    for outer in ast.walk(tree):
        if isinstance(outer, ast.AsyncFunctionDef):
            yield from calls_exactly("time.sleep", "subprocess.run", "os.fsync")(outer)


def sinners(rule: Rule) -> set[str]:
    return {name for name, tree in SOURCES.items() if any(True for _ in rule(tree))}


@pytest.mark.parametrize(
    ("rule", "sinner", "allowed"),
    [
        (calls("TenantScope"), "tenancy.TenantScope(x)", MAY_PROVE_TENANCY),
        (calls("PlatformScope"), "PlatformScope('a', 'b')", MAY_CROSS_TENANTS),
        (renames_proof, "from trueport.kit.tenancy import TenantScope as T", set()),
        (calls("ClientSession"), "aiohttp.ClientSession()", set()),
        (calls("TCPConnector"), "aiohttp.TCPConnector()", {"gateway/egress.py"}),
        (calls_exactly("eval", "exec", "compile", "__import__"), "eval('1')", set()),
        (calls_exactly("os.system", "os.popen"), "os.system('id')", set()),
        (calls_exactly("yaml.load", "yaml.unsafe_load", "yaml.full_load"), "yaml.load(x)", set()),
        (imports("pickle", "marshal", "shelve", "dill", "cPickle"), "from pickle import loads", set()),
        (imports("requests", "httpx", "urllib3"), "import httpx", set()),
        (calls_exactly("print", "pprint.pprint"), "print('x')", set()),
        (calls_exactly("datetime.now", "datetime.utcnow", "datetime.today"), "datetime.now()", {"simulator/faults.py"}),
        (sleeps_in_async, "async def f():\n  time.sleep(1)", set()),
    ],
    ids=lambda part: part.split("(")[0].replace("\n", " ") if isinstance(part, str) else "",
)
def test_only_the_places_named_here_do_it(rule: Rule, sinner: str, allowed: set[str]) -> None:
    assert list(rule(ast.parse(sinner)))

    assert sinners(rule) == allowed


def test_no_shell_is_started() -> None:
    def with_shell(tree: ast.AST) -> Iterator[ast.AST]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield from (word for word in node.keywords if word.arg == "shell")

    assert list(with_shell(ast.parse("run('x', shell=True)")))
    assert sinners(with_shell) == set()


@pytest.mark.parametrize("name", ["kit/money.py", "gateway/pricing.py"])
def test_no_float_comes_near_money(name: str) -> None:
    assert list(floats(ast.parse("a = 0.5")))
    assert list(floats(ast.parse("float('1')")))
    assert list(floats(ast.parse("nanos / 2")))

    assert list(floats(SOURCES[name])) == []


def test_no_price_and_no_amount_is_a_float_anywhere() -> None:
    def amounts_as_floats(tree: ast.AST) -> Iterator[ast.AST]:
        for node in ast.walk(tree):
            if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
                name = node.arg if isinstance(node, ast.arg) else ast.unparse(node.target)
                if "usd" in name and "float" in ast.unparse(node.annotation):
                    yield node

    assert list(amounts_as_floats(ast.parse("cost_nano_usd: float | None = None")))
    assert sinners(amounts_as_floats) == set()


def test_nothing_happens_when_a_module_is_imported() -> None:
    """At the top of a module stand definitions; a bare call there is a deed."""

    def deeds(tree: ast.AST) -> Iterator[ast.AST]:
        assert isinstance(tree, ast.Module)
        for node in tree.body:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                yield node
            if isinstance(node, ast.For | ast.While | ast.With):
                yield node

    assert list(deeds(ast.parse("connect()")))
    # The group of commands takes its members; the first program of the product; forked workers start without bytes.
    assert sinners(deeds) <= {"cli/main.py", "__main__.py", "asgi.py"}


def models() -> Iterator[tuple[str, ast.ClassDef]]:
    for name, tree in SOURCES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Model" for base in node.bases):
                yield name, node


def test_documents_live_where_they_are_looked_for() -> None:
    assert {name for name, _ in models()} == {
        "domains/analytics/models.py",
        "domains/audit/anchoring/models.py",
        "domains/audit/erasure/models.py",
        "domains/audit/models.py",
        "domains/audit/placing/models.py",
        "domains/auth/models.py",
        "domains/config/models.py",
        "domains/proxy/models.py",
        "web/idempotency.py",
    }


def test_every_document_of_a_tenant_declares_the_fields_of_scoping_itself() -> None:
    for name, model in models():
        own = {ast.unparse(line.target) for line in model.body if isinstance(line, ast.AnnAssign)}
        if "tenant_id" in own:
            assert {"tenant_id", "created_at", "revision"} <= own, f"{name}: {model.name}"


def test_every_document_without_a_tenant_is_one_of_those_known_to_have_none() -> None:
    without = {
        model.name
        for _, model in models()
        if "tenant_id" not in {ast.unparse(line.target) for line in model.body if isinstance(line, ast.AnnAssign)}
    }

    assert without == {
        "Tenant", "User", "Session", "RefreshToken", "IdempotencyRecord", "ScanTask", "SigningKey"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["Dockerfile", "Makefile", "README.md", "pyproject.toml", "LIMITATIONS.md"])
def test_no_registry_of_packages_or_images_is_named(name: str) -> None:
    registry = re.compile(
        r"index-url|extra-index|find-links|pypi\.|pythonhosted|artifactory|nexus|jfrog|docker\.io|ghcr\.io|quay\.io|gcr\.io|"
        r"\.amazonaws\.com|mcr\.microsoft|registry\.", re.IGNORECASE,
    )  # fmt: skip
    assert registry.search("pip install --index-url https://pypi.example/simple")

    assert registry.findall((ROOT / name).read_text()) == []


@pytest.mark.parametrize("name", ["image.lock", "runtime.lock", "dev.lock"])
def test_lock_files_name_versions_and_hashes_only(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    pinned = re.findall(r"^[a-z0-9._-]+(?:\[[a-z,]+\])?==", text, re.MULTILINE | re.IGNORECASE)

    assert len(pinned) > 20
    assert "://" not in "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    assert "index-url" not in text


@pytest.mark.parametrize("folder", ["trueport", "tests", "ui/docs"])
def test_nothing_points_out_of_the_repository(folder: str) -> None:
    outside = re.compile(r"[\"'(](?:\.\./){3}|/home/[a-z]+/|/root/")
    files = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md", ".toml", ".html", ".yaml")]

    assert files
    assert [str(path) for path in files if path.parent != HERE and outside.search(path.read_text())] == []

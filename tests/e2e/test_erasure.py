"""A person erased on a real installation: asked for at the command line, done by the server, checked from outside."""

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.installation import PATIENCE_S, Installation, installation
from trueport.audit.canonical import parse
from trueport.audit.notes import VerifierKey, parse_note
from trueport.audit.sealing import open_content
from trueport.cli.session import with_resources
from trueport.domains.audit.api import ContentErased, SubjectKeys
from trueport.domains.auth.api import work_scope
from trueport.domains.proxy.recorder import content_place
from trueport.settings import load_settings
from trueport.storage.documents import open_store
from trueport.web.domain import Resources

ROUTES = [{"match": {"model": "*"}, "targets": [{"credential": "sim"}]}]
ERASURES = "/trueportai-services/api/v1/subjects/erasures"
CANARY = "canary-9b1de07c"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path / "data") as made:
        made.set_up()
        made.configure(routes=ROUTES)
        made.serve()
        yield made
        made.stop()


def say(place: Installation, text: str, user: str | None) -> str:
    """One call; the interaction's id."""
    body: dict[str, Any] = {"model": "sim-model", "messages": [{"role": "user", "content": text}]}
    if user is not None:
        body["user"] = user
    request = urllib.request.Request(
        f"{place.url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {place.key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        reply.read()
        return str(reply.headers["x-trueport-interaction"])


def told(place: Installation, interaction: str) -> str | None:
    """The prompt as the installation's own keys open it, None when they do not any more."""

    async def read(resources: Resources) -> str | None:
        tenant_id = place.access["tenant_id"]
        wanted = {"_id": f"{interaction}#intent", "tenant_id": tenant_id}
        record = await resources.database["audit_records"].find_one(wanted)
        assert record is not None
        description, kept = parse(record["canonical"])["content"], record["content"]
        store = open_store(resources.settings.storage_url, resources.settings.data_dir)
        data = (await store.get(kept["object"]))[kept["offset"] : kept["offset"] + kept["length"]]
        try:
            key = await SubjectKeys(resources).opening(work_scope(tenant_id), description["kid"])
        except ContentErased:
            return None
        return open_content(key, description, data, content_place(tenant_id, interaction, "intent")).decode()

    return with_resources(load_settings(place.environment), read)


def shown(place: Installation, interaction: str, reason: str | None = None) -> list[tuple[str, list[str]]]:
    """State and texts of both sides as people see them: masked, or for a reason in clear."""
    path = f"/trueportai-services/api/v1/analytics/logs/{interaction}"
    if reason is None:
        status, found = place.ask(f"{path}/content", token=place.scoped_token())
    else:
        status, found = place.ask(f"{path}/reveal", body={"reason": reason}, token=place.scoped_token())
    assert status == 200, found
    assert found["is_masked"] is (reason is None)
    return [(side["state"], [text["text"] for text in side["texts"]]) for side in found["sides"]]


def done(place: Installation, erasure_id: str) -> dict[str, Any]:
    token, deadline_s = place.scoped_token(), time.monotonic() + PATIENCE_S
    while True:
        status, erasure = place.ask(f"{ERASURES}/{erasure_id}", token=token)
        assert status == 200, erasure
        if erasure["state"] == "done" or time.monotonic() > deadline_s:
            return dict(erasure)
        time.sleep(0.2)


def test_a_person_erased_at_the_command_line_is_gone_and_the_trail_is_whole(
    place: Installation, tmp_path: Path
) -> None:
    ada, bob = say(place, CANARY, "ada"), say(place, "Bob's words", "bob")
    place.settled_call_records(4)
    assert CANARY in (told(place, ada) or "")
    assert shown(place, ada)[0] == ("kept", [re.sub(r"\w", "x", CANARY), "xxx"])
    assert shown(place, ada, reason="case 17")[0] == ("kept", [CANARY, "ada"])
    place.stop()

    asked = json.loads(
        place.run("subjects", "erase", "--tenant", place.tenant, "--user", "ada", "--legal-basis", "art. 17",
                  "--wait", "0", "--json")
    )  # fmt: skip
    assert asked["state"] == "asked"
    # What wraps the tenant's key changes at the same time, and nothing else does.
    kek = tmp_path / "kek-of-acme"
    kek.write_text("k" * 64)
    wrapped = json.loads(place.run("kek", "rewrap", "--tenant", place.tenant, "--with", f"file://{kek}", "--json"))
    assert wrapped["wrapped"] == 1
    place.serve()
    erasure = done(place, asked["erasure"])

    assert (erasure["state"], len(erasure["keys"])) == ("done", 1)
    assert told(place, ada) is None
    assert shown(place, ada, reason="case 17") == [("content_erased", []), ("content_erased", [])]
    assert "Bob's words" in (told(place, bob) or "")
    again = say(place, "back again", "ada")
    place.settled_call_records(6)
    assert "back again" in (told(place, again) or "")
    files = [path.read_bytes() for path in place.data_dir.rglob("*") if path.is_file()]
    assert not any(CANARY.encode() in each for each in files)
    archive = tmp_path / "archive"
    place.run("audit", "export", "--tenant", place.tenant, "--to", str(archive))
    report = json.loads(place.run("audit", "verify", str(archive), "--key", str(archive / "log.key"), "--json"))
    assert (report["ok"], report["problems"]) == (True, [])
    note = parse_note(place.run("subjects", "certificate", "--tenant", place.tenant, erasure["id"]).encode())
    keys = [VerifierKey.parse(line) for line in (archive / "log.key").read_text().splitlines()]
    assert note.signed_by(keys) == keys
    assert json.loads(note.text)["destroyed_keys"] == erasure["keys"]

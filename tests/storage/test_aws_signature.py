"""Signatures as Amazon makes them: against botocore, since the emulators take any."""

import hashlib
from datetime import UTC, datetime

import pytest
from yarl import URL

from trueport.storage.aws_signature import Signatory, signed


@pytest.mark.parametrize("token", [None, "a-token"])
def test_a_request_to_a_key_service_is_signed_as_amazon_signs_it(token: str | None) -> None:
    pytest.importorskip("botocore")
    from botocore.auth import SigV4Auth  # type: ignore[import-untyped]  # botocore has no types
    from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]  # nor has this
    from botocore.credentials import Credentials  # type: ignore[import-untyped]  # nor this

    headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": "TrentService.Encrypt"}
    for url in ("https://kms.eu-central-1.amazonaws.com/", "http://127.0.0.1:4566/"):
        theirs = AWSRequest("POST", url, headers=headers, data=b"{}")
        SigV4Auth(Credentials("AKIAEXAMPLE", "s3cret", token), "kms", "eu-central-1").add_auth(theirs)
        now = datetime.strptime(theirs.context["timestamp"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        signatory = Signatory("kms", "eu-central-1", "AKIAEXAMPLE", "s3cret", token)

        ours = signed(signatory, "POST", URL(url), hashlib.sha256(b"{}").hexdigest(), headers, now)

        assert ours["authorization"] == theirs.headers["Authorization"]


def test_who_signs_is_never_shown_with_the_secret() -> None:
    assert "s3cret" not in repr(Signatory("s3", "eu-central-1", "AKIAEXAMPLE", "s3cret", "a-token"))

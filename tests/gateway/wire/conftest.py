from collections.abc import AsyncIterator

import pytest

from tests.support.chaos_upstream import Authority, make_authority
from trueport.gateway.egress import Egress, EgressPolicy

LOOPBACK = EgressPolicy(allow=("127.0.0.0/8",))


@pytest.fixture(scope="session")
def authority() -> Authority:
    return make_authority()


@pytest.fixture
async def egress(authority: Authority) -> AsyncIterator[Egress]:
    made = Egress(LOOPBACK, tls=authority.client_context())
    yield made
    await made.close()

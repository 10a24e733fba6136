"""Who people and applications are, and what they may do where."""

from litestar.di import Provide

from trueport.domains.auth import permissions
from trueport.domains.auth.authentication import SessionAuthenticator
from trueport.domains.auth.controllers import (
    AuthController,
    KeyController,
    ServiceController,
    TenantController,
    provide_accounts,
    signed_in,
    signed_in_member,
)
from trueport.domains.auth.models import ApiKey, Membership, RefreshToken, Session, Tenant, User
from trueport.domains.auth.refusals import job as tell_refusals
from trueport.domains.auth.refusals import open_refusals
from trueport.domains.auth.tools import AuthTools, open_tools
from trueport.web.domain import Domain, Resources


def _authenticator(resources: Resources) -> SessionAuthenticator:
    return SessionAuthenticator(resources.database, resources.clock, resources.part(AuthTools).signer)


domain = Domain(
    name="auth",
    controllers=(AuthController, TenantController, ServiceController, KeyController),
    dependencies={
        "accounts": Provide(provide_accounts, sync_to_thread=False),
        "signed_in": Provide(signed_in, sync_to_thread=False),
        "member": Provide(signed_in_member, sync_to_thread=False),
    },
    documents=(User, Session, RefreshToken, Tenant, Membership, ApiKey),
    lifespan=(open_tools, open_refusals),
    jobs=(tell_refusals,),
    permissions=permissions.ALL,
    authenticator=_authenticator,
)

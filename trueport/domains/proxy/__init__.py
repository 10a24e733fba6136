"""The HTTP face of the gateway: authentication of calls, wiring of its tools, recording."""

from trueport.domains.proxy.controllers import DetectController, RoutesController
from trueport.domains.proxy.models import KeptObject, UsedKey
from trueport.domains.proxy.wiring import open_gateway
from trueport.web.domain import Domain

domain = Domain(
    name="proxy",
    controllers=(RoutesController, DetectController),
    documents=(UsedKey, KeptObject),
    lifespan=(open_gateway,),
    permissions=frozenset({"detect:run"}),
)

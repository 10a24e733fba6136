"""Every text in a request or an answer, where it stands and who speaks it, and bodies with texts replaced."""

from trueport.gateway.texts.bodies import Texts, of_answer, of_request
from trueport.gateway.texts.model import NotEditable, Part

__all__ = ["NotEditable", "Part", "Texts", "of_answer", "of_request"]

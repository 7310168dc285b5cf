"""A callback's body as an operator sees it: text, bounded, and without the secrets that a provider sent along."""

import re

from domain.secret import masked

_KEY = r"[^\"\\]{0,40}(?:token|secret|passw|api[_-]?key|authorization|credential|cookie|private[_-]?key)[^\"\\]{0,40}"
_MEMBER = re.compile(rf'("{_KEY}"\s{{0,8}}:\s{{0,8}})"(?:[^"\\]|\\.)*"?', re.IGNORECASE)
"""A member whose name says that its value is secret; the value may be cut off."""
_SIGNED = re.compile(r"([?&](?:[A-Za-z-]{0,30}(?:signature|credential|token|key)|sig)=)[^&\s\"'\\]+", re.IGNORECASE)
"""What makes an address a right."""
_USER = re.compile(r"(//)[^/\s\"'@:]{1,100}:[^/\s\"'@]{1,200}@")
_KEYS = re.compile(r"\b(hf_|sk-|ghp_|xox[bp]-|AKIA)[A-Za-z0-9_-]{12,}")


def shown(body: bytes) -> str:
    """The text of a body, or of its beginning. What is no UTF-8 is shown as the sign for that."""
    text = body.decode("utf-8", "replace").replace("\0", "\ufffd")
    text = _MEMBER.sub(r'\1"•••"', text)
    text = _SIGNED.sub(r"\1•••", text)
    text = _USER.sub(r"\1•••@", text)
    return masked(_KEYS.sub(r"\1•••", text))

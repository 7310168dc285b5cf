"""Tells Replicate's webhooks from everybody else's: the scheme of Standard Webhooks.

The SDK's `Webhooks.validate` does not check the time unless asked, and compares with the machine's clock then.
"""

import base64
import binascii
import hashlib
import hmac
from datetime import UTC, datetime

from jobs.providers.base import CallbackBody, CallbackForged

TOLERANCE_SECONDS = 300
MOST_SIGNATURES = 20


class Signed:
    """What a callback claims: its id, its time, and signatures, any of which is enough."""

    def __init__(self, callback: CallbackBody) -> None:
        """Raises `CallbackForged` where a part is missing or the time is too far away."""
        headers = callback.headers
        self.id = headers.get("webhook-id", "")
        self._stamp = headers.get("webhook-timestamp", "")
        self._signatures = headers.get("webhook-signature", "").split()[:MOST_SIGNATURES]
        self._body = callback.body
        if not self.id or not self._signatures or not (self._stamp.isascii() and self._stamp.isdigit()):
            raise CallbackForged("It has no id, no time or no signature.")
        seconds = int(self._stamp[:12])
        if abs(callback.received_at.timestamp() - seconds) > TOLERANCE_SECONDS:
            raise CallbackForged("Its time is too far from ours.")
        self.at = datetime.fromtimestamp(seconds, UTC)

    def is_by(self, secret: str) -> bool:
        """Whether one of the signatures is made with this secret, over the raw body."""
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            return False
        signed = hmac.new(key, f"{self.id}.{self._stamp}.".encode() + self._body, hashlib.sha256).digest()
        wanted = base64.b64encode(signed)
        sent = [part.partition(",")[2].encode() for part in self._signatures if part.startswith("v1,")]
        return any(hmac.compare_digest(wanted, one) for one in sent)

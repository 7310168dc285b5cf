"""The account room: who asks, with which credential, and what it allows.

A user signs up with an e-mail address and a password, and is then signed in on a device: a session, continued by
refresh tokens that are used once each. Partners use API keys. Of every secret only a hash is stored, and what was done
with credentials is written into the audit log.
"""

from domain.account.service import (
    create_api_key,
    refresh_session,
    revoke_api_key,
    revoke_session,
    sign_in,
    sign_up,
    update_user,
)

__all__ = [
    "create_api_key",
    "refresh_session",
    "revoke_api_key",
    "revoke_session",
    "sign_in",
    "sign_up",
    "update_user",
]

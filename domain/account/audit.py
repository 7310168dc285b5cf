"""The audit log: who did what with credentials."""

from uuid import UUID

from domain.account.model import AuditEntry
from domain.base import new_id
from domain.work import UnitOfWork


def note(
    work: UnitOfWork,
    user_id: UUID,
    action: str,
    *,
    credential_id: UUID | None,
    subject_id: UUID,
    details: dict[str, object] | None = None,
) -> None:
    """Write down that the user did this to the subject, with which credential. Details hold no secrets."""
    work.session.add(
        AuditEntry(
            id=new_id(),
            created_at=work.now,
            user_id=user_id,
            action=action,
            credential_id=credential_id,
            subject_id=subject_id,
            details=details or {},
        )
    )

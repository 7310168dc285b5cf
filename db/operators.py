"""Naming those who look after the whole installation. Only the owner of the database can: no API does."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from db.unit_of_work import SqlUnitOfWork
from domain.account.audit import note
from domain.account.inputs import normal_email
from domain.account.model import Operator, User
from domain.clock import Clock, SystemClock


class NoSuchUser(Exception):
    """Nobody has signed up with this address."""

    def __init__(self, email: str) -> None:
        super().__init__(f"There is no user {email}: sign up first.")
        self.email = email


async def name_operator(engine: AsyncEngine, email: str, *, remove: bool = False, clock: Clock | None = None) -> bool:
    """Make the user with this address an operator, or no longer one; whether that changed anything.

    The engine is the owner's. What was changed stands in the user's audit log. Raises `NoSuchUser`."""
    async with AsyncSession(engine) as session, session.begin():
        work = SqlUnitOfWork(session, (clock or SystemClock()).now())
        # The user's row stands still meanwhile: two who name the same operator take turns.
        statement = select(User.id).where(User.email == normal_email(email)).with_for_update(key_share=True)
        user_id = (await session.exec(statement)).one_or_none()
        if user_id is None:
            raise NoSuchUser(email)
        is_one = await session.get(Operator, user_id) is not None
        if is_one is not remove:
            return False
        if remove:
            await session.exec(sa.delete(Operator).where(col(Operator.user_id) == user_id))
        else:
            session.add(Operator(user_id=user_id, created_at=work.now))
        action = "account.operator_removed" if remove else "account.operator_named"
        note(work, user_id, action, credential_id=None, subject_id=user_id)
    return True

"""index callbacks about nothing known"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    # Each call about nothing that we know counts those of the last hour, among all that are kept for a month.
    op.create_index(
        "ix_callbacks_unknown", "callbacks", ["created_at"], unique=False, postgresql_where=sa.text("run_id IS NULL")
    )


def downgrade() -> None:
    op.drop_index("ix_callbacks_unknown", table_name="callbacks")

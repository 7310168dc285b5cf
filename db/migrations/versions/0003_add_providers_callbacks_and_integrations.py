"""add providers callbacks and integrations"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from sqlmodel.sql.sqltypes import UTCDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "callbacks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column(
            "source",
            sa.Enum(
                "REPLICATE",
                "ASTRIA",
                "E2B",
                "POD",
                name="callback_source",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("sequence", sa.BigInteger(), nullable=True),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "RECEIVED",
                "APPLIED",
                "MOOT",
                "REJECTED",
                "UNREADABLE",
                name="callback_status",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_try_at", UTCDateTime(), nullable=False),
        sa.Column("applied_at", UTCDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_callbacks")),
        sa.UniqueConstraint("source", "event_id", name=op.f("uq_callbacks_source_event_id")),
    )
    op.create_index("ix_callbacks_run", "callbacks", ["run_id", "attempt", "sequence"], unique=False)
    op.create_index(
        "ix_callbacks_waiting",
        "callbacks",
        ["next_try_at"],
        unique=False,
        postgresql_where=sa.text("status = 'RECEIVED'"),
    )
    op.create_table(
        "operators",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_operators_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_operators")),
    )
    op.create_table(
        "user_integrations",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column(
            "provider",
            sa.Enum(
                "LOCAL",
                "REPLICATE",
                "RUNPOD",
                "ASTRIA",
                "E2B",
                name="provider",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=True),
        sa.Column("account_name", sa.Text(), nullable=True),
        sa.Column(
            "status",
            sa.Enum(
                "CONNECTED",
                "REFUSED",
                "DISCONNECTED",
                name="integration_status",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("tested_at", UTCDateTime(), nullable=False),
        sa.Column("updated_at", UTCDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_user_integrations_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_integrations")),
        sa.UniqueConstraint("user_id", "provider", "name", name=op.f("uq_user_integrations_user_id_provider_name")),
    )
    op.create_index(op.f("ix_user_integrations_user_id"), "user_integrations", ["user_id"], unique=False)
    op.create_table(
        "eta_predictions",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column(
            "provider",
            sa.Enum(
                "LOCAL",
                "REPLICATE",
                "RUNPOD",
                "ASTRIA",
                "E2B",
                name="provider",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("checkpoint", sa.Integer(), nullable=False),
        sa.Column("elapsed_seconds", sa.Double(), nullable=False),
        sa.Column("predicted_seconds", sa.Double(), nullable=False),
        sa.Column("low_seconds", sa.Double(), nullable=False),
        sa.Column("high_seconds", sa.Double(), nullable=False),
        sa.Column("actual_seconds", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["training_runs.id"], name=op.f("fk_eta_predictions_run_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_eta_predictions_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_eta_predictions")),
        sa.UniqueConstraint(
            "run_id", "attempt", "checkpoint", name=op.f("uq_eta_predictions_run_id_attempt_checkpoint")
        ),
    )
    op.create_index(op.f("ix_eta_predictions_user_id"), "eta_predictions", ["user_id"], unique=False)
    op.create_table(
        "pod_tokens",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum("POD", "CALLBACK", name="pod_token_kind", native_enum=False, create_constraint=True, length=40),
            nullable=False,
        ),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", UTCDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["training_runs.id"], name=op.f("fk_pod_tokens_run_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_pod_tokens_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pod_tokens")),
        sa.UniqueConstraint("hash", name=op.f("uq_pod_tokens_hash")),
    )
    op.create_index(op.f("ix_pod_tokens_run_id"), "pod_tokens", ["run_id"], unique=False)
    op.create_index(op.f("ix_pod_tokens_user_id"), "pod_tokens", ["user_id"], unique=False)
    op.add_column(
        "ai_models",
        sa.Column(
            "provider",
            sa.Enum(
                "LOCAL",
                "REPLICATE",
                "RUNPOD",
                "ASTRIA",
                "E2B",
                name="provider",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=True,
        ),
    )
    op.add_column("ai_models", sa.Column("provider_version", sa.Text(), nullable=True))
    op.add_column("api_keys", sa.Column("test_mode", sa.Boolean(), nullable=False, server_default="false"))
    op.add_column("provider_resources", sa.Column("attempt", sa.Integer(), nullable=True))
    op.add_column("provider_resources", sa.Column("gpu_type", sa.Text(), nullable=True))
    op.add_column("provider_resources", sa.Column("integration_id", sa.Uuid(), nullable=True))
    op.add_column("provider_resources", sa.Column("is_test", sa.Boolean(), nullable=False, server_default="false"))
    op.add_column("provider_resources", sa.Column("cost_at", UTCDateTime(), nullable=True))
    op.add_column("provider_resources", sa.Column("keep_until", UTCDateTime(), nullable=True))
    op.add_column("provider_resources", sa.Column("began_at", UTCDateTime(), nullable=True))
    op.add_column("run_attempts", sa.Column("choice", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("run_attempts", sa.Column("gpu_type", sa.Text(), nullable=True))
    op.add_column("run_attempts", sa.Column("integration_id", sa.Uuid(), nullable=True))
    op.add_column(
        "run_attempts",
        sa.Column("log_state", postgresql.JSONB(astext_type=sa.Text()), nullable=False, server_default="{}"),
    )
    op.add_column(
        "run_attempts",
        sa.Column("eta_state", postgresql.JSONB(astext_type=sa.Text()), nullable=False, server_default="{}"),
    )
    op.add_column(
        "run_attempts", sa.Column("price_micros_per_hour", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.add_column("run_attempts", sa.Column("capacity_tries", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("run_attempts", sa.Column("report_sequence", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("run_attempts", sa.Column("heard_at", UTCDateTime(), nullable=True))
    op.add_column("run_attempts", sa.Column("training_began_at", UTCDateTime(), nullable=True))
    op.create_index(op.f("ix_run_attempts_reference"), "run_attempts", ["reference"], unique=False)
    op.add_column("training_runs", sa.Column("image", sa.Text(), nullable=True))
    op.add_column(
        "training_runs",
        sa.Column("choices", postgresql.JSONB(astext_type=sa.Text()), nullable=False, server_default="[]"),
    )
    op.add_column(
        "training_runs",
        sa.Column("rules", postgresql.JSONB(astext_type=sa.Text()), nullable=False, server_default="{}"),
    )
    op.add_column("training_runs", sa.Column("test_mode", sa.Boolean(), nullable=False, server_default="false"))
    op.add_column("training_runs", sa.Column("scenario", sa.Text(), nullable=True))
    op.add_column("training_runs", sa.Column("eta_low_seconds", sa.Double(), nullable=True))
    op.add_column("training_runs", sa.Column("eta_high_seconds", sa.Double(), nullable=True))
    op.add_column("training_runs", sa.Column("eta_confidence", sa.Double(), nullable=True))
    op.add_column(
        "training_runs", sa.Column("announced_cost_micros", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.add_column(
        "training_runs",
        sa.Column(
            "stop_reason",
            sa.Enum(
                "SUCCEEDED",
                "CANCELED_BY_USER",
                "CANCELED_BY_OPERATOR",
                "NO_CAPACITY",
                "OUT_OF_BUDGET",
                "PROVIDER_REFUSED",
                "PROVIDER_ERROR",
                "DATA_ERROR",
                "CODE_ERROR",
                "DIVERGED",
                "TIMED_OUT",
                "QUEUE_TIMED_OUT",
                "MEMORY_LIMIT",
                "DISK_LIMIT",
                "IDLE",
                "DEPLOYMENT_FAILED",
                "LOST",
                name="stop_reason",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=True,
        ),
    )
    op.add_column("training_runs", sa.Column("stop_message", sa.Text(), nullable=True))
    op.add_column("training_runs", sa.Column("keep_seconds", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("training_runs", sa.Column("choice", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("training_runs", sa.Column("vanished", sa.Integer(), nullable=False, server_default="0"))
    op.add_column(
        "training_runs", sa.Column("warned", postgresql.ARRAY(sa.Text()), nullable=False, server_default="{}")
    )
    # Rows from before have their values now; new ones are given theirs by the product.
    op.alter_column("api_keys", "test_mode", server_default=None)
    op.alter_column("provider_resources", "is_test", server_default=None)
    op.alter_column("run_attempts", "choice", server_default=None)
    op.alter_column("run_attempts", "log_state", server_default=None)
    op.alter_column("run_attempts", "eta_state", server_default=None)
    op.alter_column("run_attempts", "price_micros_per_hour", server_default=None)
    op.alter_column("run_attempts", "capacity_tries", server_default=None)
    op.alter_column("run_attempts", "report_sequence", server_default=None)
    op.alter_column("training_runs", "choices", server_default=None)
    op.alter_column("training_runs", "rules", server_default=None)
    op.alter_column("training_runs", "test_mode", server_default=None)
    op.alter_column("training_runs", "announced_cost_micros", server_default=None)
    op.alter_column("training_runs", "keep_seconds", server_default=None)
    op.alter_column("training_runs", "choice", server_default=None)
    op.alter_column("training_runs", "vanished", server_default=None)
    op.alter_column("training_runs", "warned", server_default=None)


def downgrade() -> None:
    op.drop_column("training_runs", "warned")
    op.drop_column("training_runs", "vanished")
    op.drop_column("training_runs", "choice")
    op.drop_column("training_runs", "keep_seconds")
    op.drop_column("training_runs", "stop_message")
    op.drop_column("training_runs", "stop_reason")
    op.drop_column("training_runs", "announced_cost_micros")
    op.drop_column("training_runs", "eta_confidence")
    op.drop_column("training_runs", "eta_high_seconds")
    op.drop_column("training_runs", "eta_low_seconds")
    op.drop_column("training_runs", "scenario")
    op.drop_column("training_runs", "test_mode")
    op.drop_column("training_runs", "rules")
    op.drop_column("training_runs", "choices")
    op.drop_column("training_runs", "image")
    op.drop_index(op.f("ix_run_attempts_reference"), table_name="run_attempts")
    op.drop_column("run_attempts", "training_began_at")
    op.drop_column("run_attempts", "heard_at")
    op.drop_column("run_attempts", "report_sequence")
    op.drop_column("run_attempts", "capacity_tries")
    op.drop_column("run_attempts", "price_micros_per_hour")
    op.drop_column("run_attempts", "eta_state")
    op.drop_column("run_attempts", "log_state")
    op.drop_column("run_attempts", "integration_id")
    op.drop_column("run_attempts", "gpu_type")
    op.drop_column("run_attempts", "choice")
    op.drop_column("provider_resources", "began_at")
    op.drop_column("provider_resources", "keep_until")
    op.drop_column("provider_resources", "cost_at")
    op.drop_column("provider_resources", "is_test")
    op.drop_column("provider_resources", "integration_id")
    op.drop_column("provider_resources", "gpu_type")
    op.drop_column("provider_resources", "attempt")
    op.drop_column("api_keys", "test_mode")
    op.drop_column("ai_models", "provider_version")
    op.drop_column("ai_models", "provider")
    op.drop_index(op.f("ix_pod_tokens_user_id"), table_name="pod_tokens")
    op.drop_index(op.f("ix_pod_tokens_run_id"), table_name="pod_tokens")
    op.drop_table("pod_tokens")
    op.drop_index(op.f("ix_eta_predictions_user_id"), table_name="eta_predictions")
    op.drop_table("eta_predictions")
    op.drop_index(op.f("ix_user_integrations_user_id"), table_name="user_integrations")
    op.drop_table("user_integrations")
    op.drop_table("operators")
    op.drop_index("ix_callbacks_waiting", table_name="callbacks", postgresql_where=sa.text("status = 'RECEIVED'"))
    op.drop_index("ix_callbacks_run", table_name="callbacks")
    op.drop_table("callbacks")

"""add roles and row level security"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

READ, ADD, CHANGE, REMOVE = "SELECT", "INSERT", "UPDATE", "DELETE"

OWNED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # table: (what the API may do with the viewer's own rows, what a worker may do)
    "users": ((READ, ADD, CHANGE), (READ, CHANGE)),
    "user_sessions": ((READ, ADD, CHANGE), (READ, REMOVE)),
    "refresh_tokens": ((READ, ADD, CHANGE), (READ, REMOVE)),
    "api_keys": ((READ, ADD, CHANGE), (READ,)),
    # Entries of the audit log are added and never changed.
    "audit_log": ((READ, ADD), (READ, ADD)),
    "ai_models": ((READ, ADD, CHANGE), (READ, ADD, CHANGE)),
    "datasets": ((READ, ADD, CHANGE, REMOVE), (READ, CHANGE, REMOVE)),
    "dataset_download_tokens": ((READ, ADD, CHANGE), (READ, ADD, CHANGE, REMOVE)),
    "dataset_downloads": ((READ, ADD, CHANGE), (READ, REMOVE)),
    "training_configs": ((READ, ADD, CHANGE, REMOVE), (READ,)),
    "training_runs": ((READ, ADD, CHANGE), (READ, ADD, CHANGE)),
    "run_attempts": ((READ, ADD, CHANGE), (READ, ADD, CHANGE)),
    "run_artifacts": ((READ,), (READ, ADD, CHANGE)),
    "run_logs": ((READ,), (READ, ADD, REMOVE)),
    "run_metrics": ((READ,), (READ, ADD, REMOVE)),
    # What happened stays as it was written; only retention removes it.
    "run_events": ((READ, ADD), (READ, ADD, REMOVE)),
    "feed_events": ((READ, ADD), (READ, ADD, REMOVE)),
    "generated_apps": ((READ, ADD, CHANGE), (READ, ADD, CHANGE)),
    "deployments": ((READ, ADD, CHANGE), (READ, ADD, CHANGE)),
    "provider_resources": ((READ, ADD, CHANGE), (READ, ADD, CHANGE)),
}
SHARED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "journal_epoch": ((READ,), (READ,)),
    "workers": ((READ,), (READ, ADD, CHANGE, REMOVE)),
    "alembic_version": ((READ,), (READ,)),
}

# What must be read before or without a viewer. Each gives as little as its caller needs.
FUNCTIONS = {
    "find_login(wanted text)": (
        "TABLE (id uuid, password_hash text, locale text)",
        "SELECT u.id, u.password_hash, u.locale::text FROM users u WHERE u.email = wanted",
    ),
    "find_session(wanted bytea)": (
        "TABLE (session_id uuid, user_id uuid, used_at timestamptz, expires_at timestamptz, revoked_at timestamptz)",
        "SELECT s.id, s.user_id, t.used_at, s.expires_at, s.revoked_at FROM refresh_tokens t"
        " JOIN user_sessions s ON s.id = t.session_id WHERE t.hash = wanted",
    ),
    "find_api_key(wanted bytea)": (
        "TABLE (id uuid, user_id uuid, scopes text[], expires_at timestamptz, revoked_at timestamptz,"
        " last_used_at timestamptz, locale text)",
        "SELECT k.id, k.user_id, k.scopes, k.expires_at, k.revoked_at, k.last_used_at, u.locale::text FROM api_keys k"
        " JOIN users u ON u.id = k.user_id WHERE k.hash = wanted",
    ),
    "find_grant(wanted bytea)": (
        "TABLE (id uuid, user_id uuid, dataset_id uuid, run_id uuid, attempt int, expires_at timestamptz,"
        " revoked_at timestamptz, run_status text, run_attempt int)",
        "SELECT g.id, g.user_id, g.dataset_id, g.run_id, g.attempt, g.expires_at, g.revoked_at, r.status::text,"
        " r.attempt FROM dataset_download_tokens g JOIN training_runs r ON r.id = g.run_id WHERE g.hash = wanted",
    ),
    "find_app(wanted text)": (
        "TABLE (id uuid, user_id uuid, access text, deployment_id uuid, status text, run_id uuid, host text, port int)",
        "SELECT a.id, a.user_id, a.access::text, d.id, d.status::text, d.run_id, d.host, d.port FROM generated_apps a"
        " LEFT JOIN deployments d ON d.id = a.current_deployment_id WHERE a.slug = wanted",
    ),
    "find_ended_credentials(wanted uuid[])": (
        "TABLE (id uuid)",
        "SELECT s.id FROM user_sessions s WHERE s.id = ANY (wanted) AND (s.revoked_at IS NOT NULL"
        " OR s.expires_at <= now()) UNION ALL SELECT k.id FROM api_keys k WHERE k.id = ANY (wanted)"
        " AND (k.revoked_at IS NOT NULL OR k.expires_at <= now())",
    ),
    "journal_heads(wanted uuid[])": (
        "TABLE (id uuid, seq bigint)",
        "SELECT r.id, r.seq FROM training_runs r WHERE r.id = ANY (wanted)"
        " UNION ALL SELECT u.id, u.feed_seq FROM users u WHERE u.id = ANY (wanted)",
    ),
}


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _make_roles()
    op.execute(
        "CREATE FUNCTION runwire_viewer() RETURNS uuid LANGUAGE sql STABLE AS"
        " $$ SELECT nullif(current_setting('runwire.viewer', true), '')::uuid $$"
    )
    op.execute("GRANT USAGE ON SCHEMA public TO runwire_api, runwire_worker")
    for table, (api, worker) in OWNED.items():
        mine = "id" if table == "users" else "user_id"
        _secure(table, api, worker, api_sees=f"{mine} = runwire_viewer()")
    for table, (api, worker) in SHARED.items():
        _secure(table, api, worker, api_sees="true")
    for signature, (gives, body) in FUNCTIONS.items():
        name, _, argument = signature.partition("(")
        kind = argument.rstrip(")").split()[1]
        op.execute(
            f"CREATE FUNCTION {signature} RETURNS {gives} LANGUAGE sql STABLE SECURITY DEFINER"
            f" SET search_path = public, pg_temp AS $$ {body} $$"
        )
        op.execute(f"REVOKE ALL ON FUNCTION {name}({kind}) FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {name}({kind}) TO runwire_api")
    op.execute("INSERT INTO journal_epoch (id, epoch) VALUES (1, 1)")


def downgrade() -> None:
    for signature in FUNCTIONS:
        name, _, argument = signature.partition("(")
        op.execute(f"DROP FUNCTION {name}({argument.rstrip(')').split()[1]})")
    for table in [*OWNED, *SHARED]:
        for policy in ("owner", "api", "worker"):
            op.execute(f"DROP POLICY {policy} ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY")
        op.execute(f"REVOKE ALL ON {table} FROM runwire_api, runwire_worker")
    op.execute("DROP FUNCTION runwire_viewer()")


def _make_roles() -> None:
    """The roles belong to the server, not to the database, so another database may have made them already."""
    connection = op.get_bind()
    for role in ("runwire_api", "runwire_worker"):
        op.execute(
            f"DO $$ BEGIN CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;"
            " EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        )
        may_become = connection.execute(
            sa.text("SELECT pg_has_role(current_user, oid, 'MEMBER') FROM pg_roles WHERE rolname = :role"),
            {"role": role},
        ).scalar_one()
        if may_become:
            # Where the API has no address of its own, it comes as the owner and steps down into the role.
            version = connection.execute(sa.text("SHOW server_version_num")).scalar_one()
            options = " WITH INHERIT FALSE, SET TRUE" if int(version) >= 160000 else ""
            op.execute(f"DO $$ BEGIN EXECUTE format('GRANT {role} TO %I{options}', current_user); END $$")


def _secure(table: str, api: tuple[str, ...], worker: tuple[str, ...], *, api_sees: str) -> None:
    """The owner passes by a policy too, since FORCE binds even the owner; only a superuser would not need it."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY owner ON {table} TO CURRENT_USER USING (true) WITH CHECK (true)")
    op.execute(f"CREATE POLICY api ON {table} TO runwire_api USING ({api_sees}) WITH CHECK ({api_sees})")
    op.execute(f"CREATE POLICY worker ON {table} TO runwire_worker USING (true) WITH CHECK (true)")
    op.execute(f"GRANT {', '.join(api)} ON {table} TO runwire_api")
    op.execute(f"GRANT {', '.join(worker)} ON {table} TO runwire_worker")

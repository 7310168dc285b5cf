"""secure providers callbacks and integrations"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

READ, ADD, CHANGE, REMOVE = "SELECT", "INSERT", "UPDATE", "DELETE"

OWNED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # table: (what the API may do with the viewer's own rows, what a worker may do)
    "operators": ((READ,), (READ,)),
    "user_integrations": ((READ, ADD, CHANGE), (READ, CHANGE)),
    "pod_tokens": ((READ,), (READ, ADD, CHANGE, REMOVE)),
    "eta_predictions": ((READ,), (READ, ADD, CHANGE)),
}

MOST_UNKNOWN_PER_HOUR = 1000
"""Callbacks about nothing that we know; beyond that they are dropped, so that nobody fills the disk."""

IS_OPERATOR = "SELECT EXISTS (SELECT FROM operators o WHERE o.user_id = runwire_viewer())"

FIND_API_KEY_BEFORE = (
    "find_api_key(wanted bytea)",
    "TABLE (id uuid, user_id uuid, scopes text[], expires_at timestamptz, revoked_at timestamptz,"
    " last_used_at timestamptz, locale text)",
    "SELECT k.id, k.user_id, k.scopes, k.expires_at, k.revoked_at, k.last_used_at, u.locale::text FROM api_keys k"
    " JOIN users u ON u.id = k.user_id WHERE k.hash = wanted",
)
FIND_API_KEY = (
    "find_api_key(wanted bytea)",
    "TABLE (id uuid, user_id uuid, scopes text[], expires_at timestamptz, revoked_at timestamptz,"
    " last_used_at timestamptz, locale text, test_mode boolean)",
    "SELECT k.id, k.user_id, k.scopes, k.expires_at, k.revoked_at, k.last_used_at, u.locale::text, k.test_mode"
    " FROM api_keys k JOIN users u ON u.id = k.user_id WHERE k.hash = wanted",
)
FIND_POD_TOKEN = (
    "find_pod_token(wanted bytea)",
    "TABLE (user_id uuid, run_id uuid, attempt int, kind text, expires_at timestamptz, run_status text,"
    " run_attempt int, is_stopping boolean)",
    "SELECT t.user_id, t.run_id, t.attempt, t.kind::text, t.expires_at, r.status::text, r.attempt,"
    " r.stop_reason IS NOT NULL FROM pod_tokens t JOIN training_runs r ON r.id = t.run_id WHERE t.hash = wanted",
)
STORE_CALLBACK = """
CREATE FUNCTION store_callback(
    new_id uuid, new_at timestamptz, new_source text, new_event_id text, of_tag text, of_token bytea,
    new_sequence bigint, new_headers jsonb, new_body bytea, new_sha256 text
) RETURNS TABLE (id uuid, run_id uuid)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    found_run uuid;
    found_attempt int;
BEGIN
    IF of_token IS NOT NULL THEN
        SELECT t.run_id, t.attempt INTO found_run, found_attempt FROM pod_tokens t WHERE t.hash = of_token;
    ELSIF of_tag IS NOT NULL THEN
        SELECT a.run_id, a.number INTO found_run, found_attempt FROM run_attempts a WHERE a.tag = of_tag;
    END IF;
    IF found_run IS NULL AND (
        SELECT count(*) FROM callbacks c WHERE c.run_id IS NULL AND c.created_at > new_at - interval '1 hour'
    ) >= {most} THEN
        RETURN;
    END IF;
    -- Without an id of its own a callback is a hint to read again, and one that waits is enough.
    IF new_event_id IS NULL AND found_run IS NOT NULL AND EXISTS (
        SELECT FROM callbacks c WHERE c.run_id = found_run AND c.source = new_source AND c.status = 'RECEIVED'
    ) THEN
        RETURN;
    END IF;
    RETURN QUERY
    INSERT INTO callbacks AS c (
        id, created_at, source, event_id, run_id, attempt, sequence, headers, body, sha256, status, tries, next_try_at
    ) VALUES (
        new_id, new_at, new_source, new_event_id, found_run, found_attempt, new_sequence, new_headers, new_body,
        new_sha256, 'RECEIVED', 0, new_at
    )
    -- Whoever sent a forged copy first must not keep the true one out.
    ON CONFLICT (source, event_id) DO UPDATE
        SET headers = excluded.headers, body = excluded.body, sha256 = excluded.sha256, status = 'RECEIVED',
            tries = 0, next_try_at = excluded.next_try_at, error = NULL
        WHERE c.status = 'REJECTED'
    RETURNING c.id, c.run_id;
END $$
"""
PROVIDER_FIGURES = (
    "provider_figures(since timestamptz, of_tests boolean)",
    "TABLE (provider text, attempts bigint, succeeded bigint, failed bigint, canceled bigint, without_capacity bigint,"
    " seconds_to_start_median double precision, seconds_to_start_95 double precision,"
    " cost_micros bigint, failed_cost_micros bigint, failed_cost_micros_highest bigint,"
    " eta_predictions bigint, eta_within bigint, eta_error_median double precision)",
    """
    WITH tried AS (
        SELECT a.*, r.test_mode,
               extract(epoch FROM a.training_began_at - a.started_at)::double precision AS seconds_to_start,
               coalesce(res.cost_micros, a.cost_micros) AS real_cost
          FROM run_attempts a JOIN training_runs r ON r.id = a.run_id
          LEFT JOIN provider_resources res ON res.tag = a.tag
         WHERE a.created_at >= since AND r.test_mode = of_tests AND a.started_at IS NOT NULL
           AND runwire_is_operator()
    ), said AS (
        SELECT e.provider, count(*) AS predictions,
               count(*) FILTER (WHERE e.actual_seconds BETWEEN e.low_seconds AND e.high_seconds) AS within,
               percentile_cont(0.5) WITHIN GROUP (
                   ORDER BY abs(e.predicted_seconds - e.actual_seconds) / greatest(1, e.actual_seconds)
               ) AS error_median
          FROM eta_predictions e JOIN training_runs r ON r.id = e.run_id
         WHERE e.created_at >= since AND r.test_mode = of_tests AND e.actual_seconds IS NOT NULL
           AND runwire_is_operator()
         GROUP BY e.provider
    )
    SELECT t.provider::text, count(*),
           count(*) FILTER (WHERE t.end_reason = 'SUCCEEDED'),
           count(*) FILTER (WHERE t.end_reason NOT IN (
               'SUCCEEDED', 'CANCELED_BY_USER', 'CANCELED_BY_OPERATOR', 'NO_CAPACITY')),
           count(*) FILTER (WHERE t.end_reason IN ('CANCELED_BY_USER', 'CANCELED_BY_OPERATOR')),
           count(*) FILTER (WHERE t.end_reason = 'NO_CAPACITY'),
           percentile_cont(0.5) WITHIN GROUP (ORDER BY t.seconds_to_start),
           percentile_cont(0.95) WITHIN GROUP (ORDER BY t.seconds_to_start),
           coalesce(sum(t.real_cost), 0)::bigint,
           coalesce(sum(t.real_cost) FILTER (WHERE t.end_reason NOT IN ('SUCCEEDED')), 0)::bigint,
           coalesce(max(t.real_cost) FILTER (WHERE t.end_reason NOT IN ('SUCCEEDED')), 0)::bigint,
           coalesce(max(s.predictions), 0)::bigint, coalesce(max(s.within), 0)::bigint, max(s.error_median)
      FROM tried t LEFT JOIN said s ON s.provider = t.provider
     GROUP BY t.provider ORDER BY t.provider
    """,
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(
        f"CREATE FUNCTION runwire_is_operator() RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER"
        f" SET search_path = public, pg_temp AS $$ {IS_OPERATOR} $$"
    )
    op.execute("REVOKE ALL ON FUNCTION runwire_is_operator() FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION runwire_is_operator() TO runwire_api")
    for table, (api, worker) in OWNED.items():
        _secure(table, api, worker, api_sees="user_id = runwire_viewer()")
    _secure("callbacks", (READ, CHANGE), (READ, ADD, CHANGE, REMOVE), api_sees="runwire_is_operator()")
    op.execute(
        "CREATE FUNCTION operated_resources() RETURNS SETOF provider_resources LANGUAGE sql STABLE SECURITY DEFINER"
        " SET search_path = public, pg_temp AS"
        " $$ SELECT r.* FROM provider_resources r WHERE runwire_is_operator() $$"
    )
    _only_for_the_api("operated_resources()")
    op.execute("DROP FUNCTION find_api_key(bytea)")
    for signature, gives, body in (FIND_API_KEY, FIND_POD_TOKEN, PROVIDER_FIGURES):
        _function(signature, gives, body)
    op.execute(STORE_CALLBACK.replace("{most}", str(MOST_UNKNOWN_PER_HOUR)))
    _only_for_the_api("store_callback(uuid, timestamptz, text, text, text, bytea, bigint, jsonb, bytea, text)")


def downgrade() -> None:
    op.execute("DROP FUNCTION store_callback(uuid, timestamptz, text, text, text, bytea, bigint, jsonb, bytea, text)")
    op.execute("DROP FUNCTION provider_figures(timestamptz, boolean)")
    op.execute("DROP FUNCTION find_pod_token(bytea)")
    op.execute("DROP FUNCTION find_api_key(bytea)")
    _function(*FIND_API_KEY_BEFORE)
    op.execute("DROP FUNCTION operated_resources()")
    for table in [*OWNED, "callbacks"]:
        for policy in ("owner", "api", "worker"):
            op.execute(f"DROP POLICY {policy} ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY")
        op.execute(f"REVOKE ALL ON {table} FROM runwire_api, runwire_worker")
    op.execute("DROP FUNCTION runwire_is_operator()")


def _function(signature: str, gives: str, body: str) -> None:
    op.execute(
        f"CREATE FUNCTION {signature} RETURNS {gives} LANGUAGE sql STABLE SECURITY DEFINER"
        f" SET search_path = public, pg_temp AS $$ {body} $$"
    )
    name, _, arguments = signature.partition("(")
    kinds = ", ".join(argument.split()[1] for argument in arguments.rstrip(")").split(", "))
    _only_for_the_api(f"{name}({kinds})")


def _only_for_the_api(function: str) -> None:
    op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO runwire_api")


def _secure(table: str, api: tuple[str, ...], worker: tuple[str, ...], *, api_sees: str) -> None:
    """As in 0002: FORCE binds even the owner, who therefore has a policy too."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY owner ON {table} TO CURRENT_USER USING (true) WITH CHECK (true)")
    op.execute(f"CREATE POLICY api ON {table} TO runwire_api USING ({api_sees}) WITH CHECK ({api_sees})")
    op.execute(f"CREATE POLICY worker ON {table} TO runwire_worker USING (true) WITH CHECK (true)")
    op.execute(f"GRANT {', '.join(api)} ON {table} TO runwire_api")
    op.execute(f"GRANT {', '.join(worker)} ON {table} TO runwire_worker")

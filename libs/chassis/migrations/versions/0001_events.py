"""Events in commit order, the offsets of consumer groups, dead letters."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE events (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            -- The order in which transactions became visible. The id is taken before the commit, so a reader
            -- that followed ids would skip an event whose transaction was open for longer than its neighbour's.
            position bigint,
            event_id uuid NOT NULL UNIQUE,
            topic text NOT NULL,
            key text NOT NULL,
            type text NOT NULL,
            source text NOT NULL,
            tenant text NOT NULL,
            time timestamptz NOT NULL,
            traceparent text,
            data jsonb NOT NULL
        );
        CREATE UNIQUE INDEX events_position ON events (position) WHERE position IS NOT NULL;
        CREATE INDEX events_unnumbered ON events (id) WHERE position IS NULL;

        CREATE TABLE sequencer (
            one boolean PRIMARY KEY DEFAULT true CHECK (one),
            last bigint NOT NULL
        );
        INSERT INTO sequencer (last) VALUES (0);

        -- Numbers what is committed and has no position yet; readers call it before they read. Callers wait for
        -- each other, and a caller's positions are committed before the next caller takes its own: a snapshot
        -- therefore sees positions without gaps. It must run as a transaction of its own.
        CREATE FUNCTION assign_positions(max_events integer) RETURNS bigint
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = eventlog, pg_temp AS $$
        DECLARE
            base bigint;
            numbered bigint;
        BEGIN
            IF NOT EXISTS (SELECT FROM events WHERE position IS NULL) THEN
                RETURN 0;
            END IF;
            SELECT last INTO base FROM sequencer FOR UPDATE;
            WITH waiting AS (
                SELECT id, row_number() OVER (ORDER BY id) AS n
                FROM (SELECT id FROM events WHERE position IS NULL ORDER BY id LIMIT max_events) AS oldest
            )
            UPDATE events SET position = base + waiting.n FROM waiting WHERE events.id = waiting.id;
            GET DIAGNOSTICS numbered = ROW_COUNT;
            UPDATE sequencer SET last = base + numbered WHERE numbered > 0;
            RETURN numbered;
        END $$;

        CREATE TABLE offsets (
            group_name text PRIMARY KEY,
            topics text[] NOT NULL,
            -- Everything up to here has had its effect.
            position bigint NOT NULL,
            -- Everything up to here was handed to a handler at least once.
            delivered bigint NOT NULL,
            -- Failed attempts at the event after `position`, and how often its delivery ended the process.
            attempts integer NOT NULL DEFAULT 0,
            crashes integer NOT NULL DEFAULT 0,
            -- Raised by a rewind, so that the active member's own commit can't undo it.
            epoch integer NOT NULL DEFAULT 0,
            updated_at timestamptz NOT NULL DEFAULT now()
        );

        CREATE TABLE dead_letters (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            group_name text NOT NULL,
            event_id uuid NOT NULL,
            position bigint NOT NULL,
            topic text NOT NULL,
            key text NOT NULL,
            type text NOT NULL,
            source text NOT NULL,
            tenant text NOT NULL,
            time timestamptz NOT NULL,
            traceparent text,
            data jsonb NOT NULL,
            reason text NOT NULL,
            attempts integer NOT NULL,
            failed_at timestamptz NOT NULL DEFAULT now(),
            -- Set by whoever wants it tried again; the row goes once a handler took the event.
            replay_requested_at timestamptz,
            UNIQUE (group_name, event_id)
        );
        CREATE INDEX dead_letters_requested ON dead_letters (group_name, replay_requested_at)
            WHERE replay_requested_at IS NOT NULL;

        -- Deletes at most max_events that are older than `keep` and behind every group; returns how many.
        CREATE FUNCTION prune(keep interval, max_events integer) RETURNS bigint
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = eventlog, pg_temp AS $$
        DECLARE
            behind bigint;
            pruned bigint;
        BEGIN
            SELECT coalesce(min(position), 9223372036854775807) INTO behind FROM offsets;
            DELETE FROM events WHERE position IN (
                SELECT position FROM events
                WHERE position <= behind AND time < now() - keep ORDER BY position LIMIT max_events
            );
            GET DIAGNOSTICS pruned = ROW_COUNT;
            RETURN pruned;
        END $$;

        REVOKE EXECUTE ON FUNCTION assign_positions(integer), prune(interval, integer) FROM PUBLIC;
        """
    )


def downgrade() -> None:
    op.execute(
        """
        DROP FUNCTION prune(interval, integer);
        DROP FUNCTION assign_positions(integer);
        DROP TABLE dead_letters, offsets, sequencer, events;
        """
    )

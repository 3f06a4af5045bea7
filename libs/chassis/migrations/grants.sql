-- What services may do with the event log. Events are written once: only the sequencer and retention touch them.
GRANT USAGE ON SCHEMA eventlog TO lakegate_eventlog;
GRANT SELECT, INSERT ON eventlog.events TO lakegate_eventlog;
GRANT SELECT ON eventlog.sequencer TO lakegate_eventlog;
GRANT SELECT, INSERT, UPDATE, DELETE ON eventlog.offsets, eventlog.kafka_groups, eventlog.dead_letters TO lakegate_eventlog;
GRANT EXECUTE ON FUNCTION eventlog.assign_positions(integer), eventlog.prune(interval, integer) TO lakegate_eventlog;

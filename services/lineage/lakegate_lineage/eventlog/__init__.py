"""The event log for its operators. It is here since this service keeps the log: it prunes for all."""

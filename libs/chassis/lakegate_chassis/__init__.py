"""How a Lakegate service runs: settings, problems, identity, telemetry, event log, drain."""

"""What a process needs first: settings, PostgreSQL, Redis, the event bus, the unit of work, migrations."""

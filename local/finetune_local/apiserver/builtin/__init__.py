"""The kinds that every cluster serves: their schemas, defaults, validation and table columns."""

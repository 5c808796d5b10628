"""The words of the configuration: structs, loading, values, checks, schema, templates."""

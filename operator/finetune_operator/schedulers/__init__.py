"""Who places the pods of a gang: one small module a scheduler."""

"""Subresources and virtual kinds: what is not plain create, read, update or delete of an object."""

"""The HTTP side of the API server: paths, content types, streams."""

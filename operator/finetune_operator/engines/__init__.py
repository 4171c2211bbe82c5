"""How a gang of pods is wired: one small module an engine."""

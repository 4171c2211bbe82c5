"""What should exist and what comes next, as pure functions of what is observed."""

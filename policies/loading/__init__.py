"""Loading policy files: YAML, `extends`, trained files, rubrics and overrides."""

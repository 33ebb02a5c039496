"""Running a small model here: its weights, its server, its supervisor."""

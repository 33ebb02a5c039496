"""Collections: folders of graded drafts that one small model wrote, with their manifest and their grades."""

"""The edge towards clients: HTTP connections, pages in browsers, other spellings of paths."""

"""Parts of plans for `yield from`: fallback, held drafts, draft blocks and the passage filter."""

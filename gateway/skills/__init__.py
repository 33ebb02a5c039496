"""Transforms that rewrite a request for an upstream and undo the rewrite on its answer."""

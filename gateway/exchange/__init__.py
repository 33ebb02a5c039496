"""One request's whole life: how it is built, its upstream calls, its costs."""

"""Properties are not timed: a slow machine proves nothing about them."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None, max_examples=60)
settings.load_profile("untimed")

"""What limits the calls to one upstream and repeats them: circuit breaker, slots and retries."""

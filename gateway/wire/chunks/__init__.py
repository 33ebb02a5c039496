"""What the chunks of a stream add up to beyond their text: tool calls, and reasoning in tags."""

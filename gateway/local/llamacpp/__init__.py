"""llama.cpp: its options, its server process, and scores from its hidden states."""

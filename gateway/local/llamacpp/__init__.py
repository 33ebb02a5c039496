"""llama.cpp: its server process, and scores from its hidden states."""

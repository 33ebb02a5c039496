"""A text with things in it that no compression may touch."""

SCENE = """Context: The old harbour of Brevik was built by Danish masons in 1741. Its wall of grey granite is \
340 metres long, and it has, as everybody in the town will gladly tell you, never once been broken by the sea.

The lighthouse keeper, whose name was Asbjorn Lie, kept seven peacocks. {"wick": [1, 2]} He wrote to the king about \
them, and the king, who was a man that liked birds very much, wrote a letter back to him."""
QUESTION = "What did the lighthouse keeper keep?"

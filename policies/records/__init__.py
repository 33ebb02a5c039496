"""Records of exchanges: their schema, their reading, and their replay under any router."""

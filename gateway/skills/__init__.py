"""What the small model does for the large one's sake: rewrites of a request, and their inverse on the answer."""

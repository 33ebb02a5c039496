"""What a gateway costs per request, in CPU time of its process tree."""

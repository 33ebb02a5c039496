"""Kinds of servers, one file each: capabilities, adapted requests, tokens and prices."""

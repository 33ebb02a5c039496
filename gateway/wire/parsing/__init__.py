"""Reads what clients and servers really send: deep and odd JSON, content in parts, every server's usage."""

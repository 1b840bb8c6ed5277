"""NUTS through nutpie: the pointers it calls, where its draws go, and one chain of it."""

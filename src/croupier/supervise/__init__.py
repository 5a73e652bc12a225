"""Supervision: the processes of a round, kept together by a guardian that outlives whoever asked for them."""

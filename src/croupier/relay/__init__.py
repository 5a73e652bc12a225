"""The proxy: a process of ours that carries bytes between processes of a round, and hurts them by rules.

`python -m croupier.relay CONTROL LISTEN TO` carries what comes to LISTEN on to TO, and obeys the control socket of that
name. It knows nothing of rounds: rules come from injectors, and each ends by itself when its time is over, whoever has
died by then.
"""
